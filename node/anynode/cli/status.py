"""`anynode status`: what is running, who was accepted or rejected and why, and what was earned."""

from __future__ import annotations

from typing import Any

import click

from anynode.cli.api import Api
from anynode.cli.options import load_network, network_option
from anynode.cli.output import Output, reports


@click.command()
@network_option
@click.option("--node", metavar="ADDRESS", help="Only what concerns this node.")
@reports
def status(output: Output, *, network: str, node: str | None) -> None:
    """Show a network's jobs, their workers, the verdicts on their work, and the ledger.

    \b
    Example:
      anynode status --network development
      anynode status --node 0x… --json
    """
    facts = Api(load_network(network)).get("/v1/status")
    if node is not None:
        facts = _of_node(facts, node.lower())
    output.say(f"Network {facts['network']}, chain at {facts['chain']}")
    if facts["waiting_for"]:
        output.say(f"Posting waits: {facts['waiting_for']}")
    for job in facts["jobs"]:
        _show_job(output, job)
    if not facts["jobs"]:
        output.say("No job is open; submit one with `anynode submit`.")
    _show_money(output, facts["ledger"]["nodes"])
    output.result(facts)


def short(address: str) -> str:
    """Enough of an address for people to tell nodes apart; `--json` has it whole."""
    return f"{address[:6]}…{address[-4:]}"


def _rounded(amount_wei: int) -> str:
    """Tokens with four decimals, rounded down: a table is no invoice."""
    return f"{amount_wei // 10**14 / 10**4:.4f}"


def _of_node(facts: dict[str, Any], node: str) -> dict[str, Any]:
    jobs = [
        job
        | {
            "members": [item for item in job["members"] if item["node"].lower() == node],
            "rejected": [item for item in job["rejected"] if item["node"].lower() == node],
        }
        for job in facts["jobs"]
    ]
    nodes = [item for item in facts["ledger"]["nodes"] if item["node"].lower() == node]
    return facts | {"jobs": jobs, "ledger": facts["ledger"] | {"nodes": nodes}}


def _show_job(output: Output, job: dict[str, Any]) -> None:
    losses = list(job["losses"].values())
    loss = f", validation loss {losses[0]:.3f} → {losses[-1]:.3f}" if losses else ""
    output.say(
        f"\nJob {job['name']} ({job['job_id'][:16]}…): round {job['round']} of {job['rounds']}, {job['phase']}{loss}, "
        f"{job['samples_per_s']:.0f} samples/s, {job['state_forks']} state forks"
    )
    rows = [
        (
            short(item["node"]),
            "yes" if item["alive"] else "no",
            "proven" if item["proven"] else "newcomer",
            item["refused"] or "",
        )
        for item in job["members"]
    ]
    if rows:
        output.table(("node", "alive", "standing", "refused because"), rows)
    audits = job["audits"]
    output.say(f"Audits: {audits['judged']} judged, {audits['replayed']} replayed, {audits['rejected']} rejected")
    for item in job["rejected"]:
        output.say(f"  round {item['round']}: {short(item['node'])} rejected: {item['reason']}")


def _show_money(output: Output, nodes: list[dict[str, Any]]) -> None:
    if not nodes:
        return
    columns = ("node", "earned", "held", "accrued", "in root", "claimable", "claimed")
    names = ("earned_wei", "held_back_wei", "accrued_wei", "waiting_wei", "payable_wei", "paid_wei")
    rows = [
        (f"{item['index']} {short(item['node'])}", *(_rounded(int(item[name])) for name in names)) for item in nodes
    ]
    output.table(columns, rows, title="Ledger, in ANY")
