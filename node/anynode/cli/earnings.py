"""`anynode earnings`: what a node has earned in each job, or a job paid each node, with dates and transactions."""

from __future__ import annotations

from typing import Any

import click

from anynode.cli.api import Api
from anynode.cli.job_ids import whole_job_id
from anynode.cli.options import (
    chain_of,
    chosen_wallet,
    index_of,
    load_network,
    network_option,
    wallet_option,
)
from anynode.cli.output import Output, reports
from anynode.wallet import keystore
from anynode.wallet.amounts import show_wei
from anynode.wallet.times import show_time

_KINDS = {"samples_wei": "samples", "reducing_wei": "reducing", "audits_wei": "audits", "replays_wei": "replays"}
_PLACES = {"held_back_wei": "held back", "accrued_wei": "accrued", "in_roots_wei": "in roots", "slashed_wei": "slashed"}


@click.command()
@network_option
@wallet_option
@click.option("--index", type=click.IntRange(1, 2**32 - 1), help="The node's index. Default: that of the wallet.")
@click.option(
    "--job", "job_id", metavar="ID", help="Every node's share of this job instead; the id's first digits will do."
)
@reports
def earnings(output: Output, *, network: str, wallet: str, index: int | None, job_id: str | None) -> None:
    """Show what a node has earned in each job, the roots that made it payable, and the claims that paid it.

    With --job: each node's share of one job, and how the job's money came into the escrow and out of it.

    \b
    Example:
      anynode earnings --network development --wallet miner
      anynode earnings --network development --job 5f2c… --json
    """
    known = load_network(network)
    api = Api(known)
    if job_id is not None:
        found = api.get(f"/v1/earnings/jobs/{whole_job_id(known, job_id)}")
        _show_shares(output, found["shares"], "node")
        _show_moves(output, found["moves"])
    else:
        node = index or index_of(chain_of(known), known, keystore.read(chosen_wallet(wallet)).address)
        found = api.get(f"/v1/earnings/nodes/{node}")
        output.say(f"Node {found['node_index']}, {found['node']}")
        _show_shares(output, found["shares"], "job")
        _show_roots(output, found["roots"])
        _show_moves(output, found["claims"])
    output.result(found)


def _show_shares(output: Output, shares: list[dict[str, Any]], what: str) -> None:
    if not shares:
        output.say("Nothing has been earned yet.")
    for share in shares:
        name = share["job_id"] if what == "job" else share["node_index"]
        days = f"{show_time(share['first_at_s'])} to {show_time(share['last_at_s'])}"
        output.say(f"{what.capitalize()} {name}: {share['rounds']} rounds, {days}")
        output.say(f"  earned in ANY: {_parts(share, _KINDS)}")
        output.say(f"  of which now: {_parts(share, _PLACES)}")


def _parts(share: dict[str, Any], names: dict[str, str]) -> str:
    """What is not zero, each with its name."""
    found = [f"{words} {show_wei(int(share[name]))}" for name, words in names.items() if int(share[name])]
    return ", ".join(found) or "nothing"


def _show_roots(output: Output, roots: list[dict[str, Any]]) -> None:
    rows = [
        (
            f"{root['batch']}.{root['attempt']}",
            root["state"],
            show_wei(int(root["amount_wei"])),
            show_time(root["settled_at_s"]),
            root["transaction"] or "not on the chain yet",
        )
        for root in roots
    ]
    if rows:
        output.table(("batch", "root is", "ANY", "settled", "transaction"), rows, title="Made payable")


def _show_moves(output: Output, moves: list[dict[str, Any]]) -> None:
    rows = [
        (
            move["reason"],
            show_wei(int(move["amount_wei"])),
            show_time(move["moved_at_s"]),
            move["transaction"] or "unknown",
        )
        for move in moves
    ]
    if rows:
        output.table(("what", "ANY", "moved", "transaction"), rows, title="Moved on the chain")
