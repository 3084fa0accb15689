"""`anynode network write`: the network file of a deployment on a public chain, from its record and from options."""

from __future__ import annotations

from pathlib import Path

import click

from anynode.cli.options import checked_recipient, url
from anynode.cli.output import Output, reports
from anynode.wallet.amounts import parse_tokens
from anynode_contracts.errors import UserError


@click.command()
@click.argument("record", type=click.Path(dir_okay=False, path_type=Path), metavar="RECORD.JSON")
@click.option("--rpc-url", required=True, callback=url, help="An RPC that everybody may use: the file is given out.")
@click.option("--api-url", required=True, callback=url, help="Where the first verifier's API is reached.")
@click.option(
    "--verifier",
    "verifiers",
    multiple=True,
    metavar="ADDRESS",
    help="A verifier's address. Repeatable, in their order.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="MULTIADDR",
    help="Where that verifier's peer is reached. Repeatable, in the verifiers' order.",
)
@click.option("--quorum", type=click.IntRange(0, 256), default=0, help="Signatures on a record. Default: over half.")
@click.option(
    "--held-back-limit", default="100", show_default=True, metavar="TOKENS", help="First pay of a node held back."
)
@click.option("--name", help="The network's name. Default: as in the record.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: NAME.toml, here.")
@click.option("--replace", is_flag=True, help="Write over a file that is there.")
@reports
def write(
    output: Output,
    *,
    record: Path,
    rpc_url: str,
    api_url: str,
    verifiers: tuple[str, ...],
    peers: tuple[str, ...],
    quorum: int,
    held_back_limit: str,
    name: str | None,
    out: Path | None,
    replace: bool,
) -> None:
    """Write the file of a network on a public chain from the record that `hardhat deploy` left.

    The file is what whoever joins gets from you. The chain is not asked: `anynode network add FILE --check-only` then
    compares the file with it. `anynode verifier prepare` prints each verifier's --verifier and --peer.

    \b
    Example:
      anynode network write record.json --rpc-url https://rpc.example.org --api-url https://anynode.example.org \\
        --verifier 0x52908400098527886E0F7030069857D2E4169EE7 --peer /ip4/203.0.113.5/tcp/8421/p2p/Qm…
    """
    from pydantic import ValidationError

    from anynode.swarm.reachability import listening_place
    from anynode_contracts.networks import first_finding
    from anynode_contracts.record import Record

    known = Record.load(record)
    trusted = [checked_recipient(verifier) for verifier in verifiers]
    if len(set(trusted)) != len(trusted):
        raise UserError("two --verifier are the same; name each once")
    if len(peers) != len(trusted):
        raise UserError(
            f"{len(trusted)} verifiers and {len(peers)} peers were given; give one --peer for each --verifier, in the "
            "same order"
        )
    places = [listening_place(peer) for peer in peers]
    try:
        made = known.deployment(trusted).network(
            name=name or known.name,
            rpc_url=rpc_url,
            held_back_limit_wei=parse_tokens(held_back_limit),
            initial_peers=peers,
            api_url=api_url,
            quorum=quorum,
        )
    except ValidationError as error:
        raise UserError(f"no network can be like that: {first_finding(error)}; change that option") from error
    path = out or Path(f"{made.name}.toml")
    if path.exists() and not replace:
        raise UserError(f"{path} exists already; choose another --out, or write over it with --replace")
    made.save(path)
    output.say(f"Network {made.name} on chain {made.chain_id}, {_trusting(made.signatures_needed, trusted)}: {path}")
    here = [each for each in (rpc_url, api_url, *(host for host, _ in places)) if _is_loopback(each)]
    for each in here:
        output.say(f"Warning: {each} is this machine alone; nobody else reaches it there.")
    facts = made.model_dump(mode="json") | {"held_back_limit_wei": str(made.held_back_limit_wei), "path": str(path)}
    output.result(facts | {"only_here": here})


def _trusting(needed: int, verifiers: list[str]) -> str:
    return f"{needed} of {len(verifiers)} verifiers sign" if verifiers else "no verifier yet"


def _is_loopback(url_or_host: str) -> bool:
    from urllib.parse import urlsplit

    from anynode.swarm.settings import DaemonSettings

    host = (urlsplit(url_or_host).hostname or "") if "://" in url_or_host else url_or_host
    return host == "localhost" or DaemonSettings(host=host).loopback
