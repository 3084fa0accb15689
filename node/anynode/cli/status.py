"""`anynode status`: what is running, who was accepted or rejected and why, and what was earned."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from anynode.cli.api import Api
from anynode.cli.options import load_network, network_option
from anynode.cli.output import Output, reports
from anynode_contracts.errors import UnreachableError

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command()
@network_option
@click.option("--node", metavar="ADDRESS", help="Only what concerns this node.")
@click.option("--watch", is_flag=True, help="Show it again and again until Ctrl-C.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.5),
    default=2.0,
    show_default=True,
    metavar="S",
    help="With --watch: seconds between two looks.",
)
@reports
def status(output: Output, *, network: str, node: str | None, watch: bool, every_s: float) -> None:
    """Show a network's jobs, their workers, the verdicts on their work, and the ledger.

    \b
    Example:
      anynode status --network development
      anynode status --watch --every 5
      anynode status --node 0x… --json
    """
    api = Api(load_network(network))

    def look() -> dict[str, Any]:
        facts: dict[str, Any] = api.get("/v1/status")
        return facts if node is None else _of_node(facts, node.lower())

    facts = look()  # an address that is wrong from the start ends it here, also with --watch
    if not watch:
        output.show(overview(facts))
        output.result(facts)
    elif output.as_json:
        for seen in _looks(facts, look, every_s, output.say):
            output.result(seen)
    elif sys.stdout.isatty():
        _live(facts, look, every_s)
    else:
        for seen in _looks(facts, look, every_s, output.say):
            output.show(overview(seen))


def _looks(
    first: dict[str, Any], look: Callable[[], dict[str, Any]], every_s: float, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """The status, again every ``every_s`` seconds for ever; a verifier that does not answer is waited for."""
    yield first
    while True:
        time.sleep(every_s)
        try:
            seen = look()
        except UnreachableError as error:
            say(f"{time.strftime('%H:%M:%S')} {error}")
            continue
        yield seen


def _live(first: dict[str, Any], look: Callable[[], dict[str, Any]], every_s: float) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(markup=False, emoji=False)
    with Live(overview(first), console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        shown = first

        def trouble(text: str) -> None:
            live.update(Group(Text(text, style="bold red"), overview(shown)), refresh=True)

        for seen in _looks(first, look, every_s, trouble):
            shown = seen
            stamp = Text(f"{time.strftime('%H:%M:%S')}, every {every_s:g} s; Ctrl-C ends", style="dim")
            live.update(Group(overview(seen), stamp), refresh=True)


# ---------------------------------------------------------------- what is shown


def overview(facts: dict[str, Any]) -> RenderableType:
    """All of a status answer, for people."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(f"Network {facts['network']}, chain at {facts['chain']}")]
    if facts["waiting_for"]:
        parts.append(Text(f"Posting waits: {facts['waiting_for']}"))
    for job in facts["jobs"]:
        parts += _job(job)
    if not facts["jobs"]:
        parts.append(Text("No job is open; submit one with `anynode submit`."))
    for drop in facts["dropped"]:
        parts.append(
            Text(f"Peer …{drop['peer'][-8:]} is dropped for {drop['left_s']} s: {drop['offence']} ({drop['reason']})")
        )
    parts += _money(facts["ledger"]["nodes"])
    return Group(*parts)


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
            "void": [item for item in job["void"] if item["node"].lower() == node],
            "excised": [item for item in job["excised"] if item["node"].lower() == node],
            "reductions": [item for item in job["reductions"] if item["node"].lower() == node],
        }
        for job in facts["jobs"]
    ]
    nodes = [item for item in facts["ledger"]["nodes"] if item["node"].lower() == node]
    return facts | {"jobs": jobs, "ledger": facts["ledger"] | {"nodes": nodes}}


def _job(job: dict[str, Any]) -> list[RenderableType]:
    from rich.text import Text

    losses = list(job["losses"].values())
    loss = f", validation loss {losses[0]:.3f} → {losses[-1]:.3f}" if losses else ""
    parts: list[RenderableType] = [
        Text(
            f"\nJob {job['name']} ({job['job_id'][:16]}…): round {job['round']} of {job['rounds']}, "
            f"{_progress(job)}{loss}, {job['samples_per_s']:.0f} samples/s, {job['state_forks']} state forks"
        )
    ]
    if job["members"]:
        columns = ("node", "alive", "standing", "quota", "steps/s", "committed", "chunks/s", "audits")
        parts.append(_table(columns, [_member(item) for item in job["members"]]))
        parts += [Text(f"  {short(item['node'])} {_last_word(item)}") for item in job["members"]]
    audits = job["audits"]
    parts.append(
        Text(
            f"Audits: {audits['judged']} judged, {audits['replayed']} replayed, {audits['rejected']} rejected, "
            f"{audits['void']} void"
        )
    )
    parts += [
        Text(f"  round {item['round']}: {short(item['node'])} {outcome}: {item['reason']}")
        for outcome in ("rejected", "void")
        for item in job[outcome]
    ]
    parts += [
        Text(
            f"  round {item['round']}, chunk {item['chunk']}: {short(item['node'])} is not paid for reducing it, "
            f"{item['outcome']}: {item['reason']}"
        )
        for item in job["reductions"]
    ]
    parts += [
        Text(f"  round {item['round']}: what was compared for that is in the blob {item['proof']} (GET /v1/blobs/…)")
        for item in job["rejected"]
        if item["proof"]
    ]
    parts += [Text(f"  round {item['round']}: {_appeal(item, job['job_id'])}") for item in job["rejected"]]
    if job["rejected"]:
        rounds = ", ".join(str(number) for number in sorted({item["round"] for item in job["rejected"]}))
        parts.append(
            Text(
                f"  Do it again yourself, on a machine of the worker's class (N: {rounds}): "
                f"anynode result result/ --job {job['job_id']}, then anynode audit result/ --round N"
            )
        )
    parts += [
        Text(f"  round {item['round']}: {short(item['node'])} taken out of the model by {item['by']}: {item['reason']}")
        for item in job["excised"]
    ]
    return parts


def _appeal(item: dict[str, Any], job_id: str) -> str:
    """What an appeal against a rejection has come to, or how to make one."""
    asked = item["appeal"]
    if asked is None:
        return f"to appeal: anynode appeal --wallet NAME --job {job_id} --round {item['round']}"
    if asked["outcome"] == "waits":
        return "an appeal waits for its replay"
    if asked["outcome"] == "granted":
        return f"taken back after an appeal ({asked['reason']}); {short(asked['mistaken'])} had erred"
    return f"upheld after an appeal: {asked['reason']}"


def _progress(job: dict[str, Any]) -> str:
    """The phase, who has committed, and for how long the round has gone on."""
    placed = [item for item in job["members"] if item["quota_steps"]]
    done = f", {sum(item['committed'] for item in placed)} of {len(placed)} committed" if placed else ""
    durations = list(job["round_s"].values())
    usual = f" (the last took {durations[-1]:.0f} s)" if durations else ""
    age = f" for {job['round_age_s']:.0f} s{usual}" if job["round_age_s"] is not None else ""
    return f"{job['phase']}{done}{age}"


def _member(item: dict[str, Any]) -> tuple[str, ...]:
    return (
        short(item["node"]),
        "yes" if item["alive"] else "no",
        "proven" if item["proven"] else "newcomer",
        f"{item['quota_steps']} steps" if item["quota_steps"] else "no place",
        f"{item['steps_per_s']:.1f}" if item["steps_per_s"] else "not known",
        "yes" if item["committed"] else "no",
        _reducing(item),
        f"{item['audit_rate']:.1%}" if item["audit_rate"] is not None else "none",
    )


def _last_word(item: dict[str, Any]) -> str:
    """The last verdict on its work, or why nothing more is asked of it; too long for a column."""
    if item["refused"]:
        return f"is refused: {item['refused']}"
    verdict = item["last_verdict"]
    said = (
        f"in round {verdict['round']}, {verdict['outcome']}: {verdict['reason']}" if verdict else "has no verdict yet"
    )
    if item["audit_rate"]:
        said += f"; audited {item['audit_rate']:.1%} of the time: {item['audit_rate_why']}"
    tasks = item["tasks"]
    if tasks:
        paid, void, wrong = tasks["accepted"], tasks["void"], tasks["rejected"]
        said += f"; audits of others: {paid} paid, {void} without an outcome, {wrong} wrong"
    return said


def _reducing(item: dict[str, Any]) -> str:
    """How fast it has been seen to reduce: as fast as its line takes chunks and gives averages."""
    if not item["reduces"]:
        return "none"
    return f"{item['chunks_per_s']:.1f}" if item["chunks_per_s"] else "not known"


def _money(nodes: list[dict[str, Any]]) -> list[RenderableType]:
    if not nodes:
        return []
    columns = ("node", "earned", "held", "accrued", "in root", "claimable", "claimed")
    names = ("earned_wei", "held_back_wei", "accrued_wei", "waiting_wei", "payable_wei", "paid_wei")
    rows = [
        (f"{item['index']} {short(item['node'])}", *(_rounded(int(item[name])) for name in names)) for item in nodes
    ]
    return [_table(columns, rows, title="Ledger, in ANY")]


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]], title: str = "") -> RenderableType:
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
