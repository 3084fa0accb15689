"""`anynode network`: set up a network, add one that somebody else runs, and show the known ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.network_bond import bond
from anynode.cli.network_write import write
from anynode.cli.options import (
    DEFAULT_NETWORK,
    load_network,
    network_option,
    network_path,
    new_password,
    password_option,
    places,
    url,
    url_or_none,
)
from anynode.cli.output import Output, reports
from anynode.cli.roles import ROLES, ensure_peer, identity_path, role_name, role_path
from anynode.wallet import keystore
from anynode.wallet.amounts import parse_tokens
from anynode_contracts.errors import UnreachableError, UserError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3

    from anynode_contracts.deploy import Holders

_ETHER_PER_ROLE_WEI = 1000 * 10**18
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@click.group()
def network() -> None:
    """Networks: set one up, add somebody's after a check, list and show the known ones.

    \b
    Example:
      anynode network init --rpc-url http://127.0.0.1:8545
      anynode network add sepolia.toml
      anynode network show --json
    """


network.add_command(bond)
network.add_command(write)


@network.command()
@click.argument("name", default=DEFAULT_NETWORK)
@click.option(
    "--rpc-url", default="http://127.0.0.1:8545", show_default=True, callback=url, help="The development chain."
)
@click.option(
    "--api-url",
    default="http://127.0.0.1:8420",
    show_default=True,
    callback=url,
    help="Where the verifier will serve.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address at which peers reach the verifier.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8421, show_default=True, help="TCP port of the verifier's peer."
)
@click.option(
    "--verifiers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="How many verifiers; further ones listen at the ports after the first one's.",
)
@click.option("--quorum", type=click.IntRange(0, 256), default=0, help="Signatures on a record. Default: over half.")
@click.option(
    "--window-s", type=click.IntRange(1, 2**31), default=30, show_default=True, help="Wait before a root pays, seconds."
)
@click.option(
    "--held-back-limit", default="100", show_default=True, metavar="TOKENS", help="First pay of a node held back."
)
@click.option("--replace", is_flag=True, help="Deploy anew over an existing network file; its wallets are kept.")
@password_option
@reports
def init(
    output: Output,
    *,
    name: str,
    rpc_url: str,
    api_url: str,
    host: str,
    port: int,
    verifiers: int,
    quorum: int,
    window_s: int,
    held_back_limit: str,
    replace: bool,
    password_file: Path | None,
) -> None:
    """Deploy the contracts to a development chain and write the network's file.

    Makes an encrypted wallet for each role (owner, poster, guardian, slasher, arbiter, verifier) and the verifier's
    peer identity. The owner receives the whole supply of the token, puts each verifier's bond at stake, and gives the
    bounties for proofs of wrong roots and the faucet what they begin with.

    \b
    Example:
      anynode network init development --rpc-url http://127.0.0.1:8545
    """
    from anynode_contracts.deploy import deploy_development
    from anynode_contracts.networks import connect

    limit_wei = parse_tokens(held_back_limit)
    _check_quorum(quorum, verifiers)
    path = _path_of_new(name, replace)
    w3 = connect(rpc_url)
    _check_development_chain(w3, rpc_url)
    chosen = new_password(password_file, f"the wallets of network {name}")
    names = [role_name("verifier", number + 1) for number in range(verifiers)]
    accounts = {role: _account(path.stem, role, chosen) for role in (*ROLES, *names[1:])}
    output.say("Making the verifier's peer identity …")
    peers = [ensure_peer(path.stem, each, host, port + place) for place, each in enumerate(names)]
    output.say("Deploying the contracts …")
    for account in accounts.values():
        _give_ether(w3, account)
    deployment = deploy_development(
        w3,
        accounts["owner"],
        holders=_holders(accounts),
        verifiers=[accounts[each] for each in names],
        quorum=quorum,
        window_s=window_s,
    )
    made = deployment.network(
        name=path.stem,
        rpc_url=rpc_url,
        held_back_limit_wei=limit_wei,
        initial_peers=peers,
        api_url=api_url,
        quorum=quorum,
    )
    made.save(path)
    output.table(("role", "wallet", "address"), [(r, f"{path.stem}-{r}", a.address) for r, a in accounts.items()])
    output.say(f"Network {path.stem} is in {path}")
    facts = made.model_dump(mode="json") | {"held_back_limit_wei": str(limit_wei), "path": str(path)}
    wallets = {role: f"{path.stem}-{role}" for role in ROLES}
    addresses = {role: account.address for role, account in accounts.items()}
    output.result(
        facts | {"wallets": wallets, "addresses": addresses, "identity": str(identity_path(path.stem, "verifier"))}
    )


@network.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--rpc-url", callback=url_or_none, help="An RPC of your own in the place of the file's.")
@click.option("--check-only", is_flag=True, help="Say what is found, and add nothing.")
@click.option("--replace", is_flag=True, help="Take the place of a known network of the same name.")
@reports
def add(output: Output, *, file: Path, rpc_url: str | None, check_only: bool, replace: bool) -> None:
    """Add the network that FILE describes, once its contracts have been seen on its chain.

    Compares the code of every contract with the one that this version of AnyNode was built with, asks them for each
    other, the window, the verifiers and who may call what, and lists who holds which role. At the first difference
    nothing is added. An RPC that lies can hide all of this: use one that you trust.

    \b
    Example:
      anynode network add sepolia.toml --rpc-url https://rpc.example.org
    """
    from anynode_contracts.examination import examine
    from anynode_contracts.networks import Network, connect

    given = Network.load(file)
    if rpc_url is not None:
        given = given.model_copy(update={"rpc_url": rpc_url})
    path = network_path(given.name)
    if path.exists() and not (replace or check_only):
        raise UserError(f"network {given.name} is known already, in {path}; take its place with --replace")
    output.say(f"Comparing the contracts of network {given.name} on chain {given.chain_id} …")
    found = examine(connect(given.rpc_url), given, _told(output))
    output.table(
        ("role", "holder", "waits, s"), [(each.role, each.holder, str(each.delay_s)) for each in found.holders]
    )
    for warning in found.warnings:
        output.say(f"Warning: {warning}")
    if not check_only:
        given.save(path)
        output.say(f"Network {given.name} is in {path}")
    output.result(
        {
            "name": given.name,
            "path": None if check_only else str(path),
            "contracts": found.contracts,
            "roles": [
                {"role": each.role, "holder": each.holder, "delay_s": each.delay_s, "contract": each.contract}
                for each in found.holders
            ],
            "warnings": list(found.warnings),
        }
    )


@network.command()
@network_option
@reports
def show(output: Output, network: str) -> None:
    """Show one network.

    \b
    Example:
      anynode network show --network development
    """
    known = load_network(network)
    facts = known.model_dump(mode="json")
    facts["held_back_limit_wei"] = str(known.held_back_limit_wei)
    told = facts | {"rpc_url": known.rpc_shown}
    output.table(("setting", "value"), [(key, _plain(value)) for key, value in told.items()])
    output.result(facts)


@network.command(name="list")
@reports
def list_(output: Output) -> None:
    """List the networks that this user's commands know by name.

    \b
    Example:
      anynode network list
    """
    from anynode_contracts.networks import Network

    folder = places().networks
    known = [Network.load(path) for path in sorted(folder.glob("*.toml"))]
    if known:
        output.table(("network", "chain", "RPC"), [(item.name, item.chain_id, item.rpc_shown) for item in known])
    else:
        output.say("No network yet; add one with `anynode network add`, or make one with `anynode network init`.")
    output.result(
        {"networks": [{"name": item.name, "chain_id": item.chain_id, "rpc_url": item.rpc_url} for item in known]}
    )


def _told(output: Output) -> Callable[[int, int], None]:
    """Say how far the reading of blocks is, where it takes long."""

    def progress(done: int, whole: int) -> None:
        if done < whole:
            output.say(f"Read the roles in {done:,} of {whole:,} blocks …")

    return progress


def _check_quorum(quorum: int, verifiers: int) -> None:
    if quorum and not verifiers < 2 * quorum <= 2 * verifiers:
        raise UserError(
            f"a quorum of {quorum} does not decide among {verifiers} verifiers; choose more than half of them"
        )


def _path_of_new(name: str, replace: bool) -> Path:
    """Where the file of a new network goes."""
    path = network_path(name)
    if not _NAME.fullmatch(path.stem):
        raise UserError(
            f"{path.stem[:80]!r} is not a network name; use a-z, 0-9 and -, beginning with a letter or digit"
        )
    if path.exists() and not replace:
        raise UserError(f"network {path} exists already; choose another name, or deploy anew with --replace")
    return path


def _holders(accounts: Mapping[str, LocalAccount]) -> Holders:
    """Who may call what, by the roles that have a wallet. Whoever posts roots also draws from escrow."""
    from anynode_contracts.deploy import Holders

    return Holders(
        poster=accounts["poster"].address,
        guardian=accounts["guardian"].address,
        settler=accounts["poster"].address,
        slasher=accounts["slasher"].address,
        arbiter=accounts["arbiter"].address,
        admin=accounts["owner"].address,
    )


def _check_development_chain(w3: Web3, rpc_url: str) -> None:
    """Ask first, so that nothing is made where nothing can be deployed."""
    from requests.exceptions import RequestException
    from web3.exceptions import Web3Exception

    from anynode_contracts.deploy import DEVELOPMENT_CHAIN_ID
    from anynode_contracts.rpc import shown

    try:
        chain_id = w3.eth.chain_id
    except (RequestException, Web3Exception, OSError) as error:
        raise UnreachableError(
            f"no Ethereum RPC answers at {shown(rpc_url)}; start one with `anynode chain`"
        ) from error
    if chain_id != DEVELOPMENT_CHAIN_ID:
        raise UserError(
            f"wrong chain id: {shown(rpc_url)} serves chain {chain_id} and not a development chain "
            f"({DEVELOPMENT_CHAIN_ID}); start one with `anynode chain`"
        )


def _account(network: str, role: str, password: str) -> LocalAccount:
    """The wallet of a role: an existing one is unlocked, a missing one made."""
    path = role_path(network, role)
    if path.exists():
        return keystore.unlock(path, password)
    account = keystore.new_account()
    keystore.store(path, account, password)
    return account


def _give_ether(w3: Web3, account: LocalAccount) -> None:
    """On a development chain ether is set, not sent: no funded key is needed."""
    answer = w3.provider.make_request("anvil_setBalance", [account.address, hex(_ETHER_PER_ROLE_WEI)])  # type: ignore[arg-type]
    if "error" in answer:
        raise UserError(f"that chain does not give {account.address} ether; start one with `anynode chain`")


def _plain(value: object) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
