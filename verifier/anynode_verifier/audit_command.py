"""`anynode audit`: replay rounds and rebuild reward roots from public records."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.options import load_network
from anynode.cli.output import Output, reports
from anynode.cli.running import run_until_stopped
from anynode_contracts.errors import UserError

if TYPE_CHECKING:
    from anynode_verifier.auditing import AuditReport


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER")
@click.option(
    "--network",
    metavar="NAME|FILE",
    help="Whose signatures count. Default: the network file in FOLDER, which is then trusted.",
)
@click.option("--round", "round_", type=click.IntRange(min=0), help="Replay this round. Default: a random one.")
@reports
def audit(output: Output, *, folder: Path, network: str | None, round_: int | None) -> None:
    """Check a job that `anynode result` has fetched, from its public records alone.

    Every signature, deal and state root is checked, one round is trained and averaged again bit for bit, and every
    reward root is rebuilt. It ends with exit code 4 and the first difference if there is one.

    \b
    Example:
      anynode result result/ --network development
      anynode audit result/ --network development
    """
    from anynode.rounds.public import PublicFolder
    from anynode_contracts.networks import Network
    from anynode_verifier.auditing import audit as run_audit

    public = PublicFolder(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; fetch one with `anynode result {folder}`")
    known = load_network(network) if network is not None else Network.load(public.network_path)

    def choose(candidates: list[int]) -> int:
        return round_ if round_ is not None else random.SystemRandom().choice(candidates)

    reports_made: list[AuditReport] = []

    async def work() -> None:
        reports_made.append(await run_audit(public, known, choose, output.say))

    run_until_stopped(work())
    if not reports_made:
        raise UserError("the audit was stopped before it was complete; run it again")
    report = reports_made[0]
    accepted, confirmed = len(report.replayed_slots), report.rejections_confirmed
    output.say(f"Round {report.replayed_round} was done again: {accepted} accepted, {confirmed} rightly rejected.")
    output.say(f"The audit holds: {report.rounds} rounds, state {report.state_root[:16]}…, {len(report.roots)} roots.")
    output.result(asdict(report) | {"audit_ok": True})
