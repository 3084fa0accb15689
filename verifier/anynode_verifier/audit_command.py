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
@click.option(
    "--receipt",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Look only at this receipt, which a member keeps when a seal leaves its work out.",
)
@reports
def audit(output: Output, *, folder: Path, network: str | None, round_: int | None, receipt: Path | None) -> None:
    """Check a job that `anynode result` has fetched, from its public records alone.

    Every signature, deal and state root is checked, one round is trained and averaged again bit for bit, and every
    reward root is rebuilt and, where the network's RPC answers, compared with the chain's. It ends with exit code 4 and
    the first difference if there is one.

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

    if receipt is not None:
        from anynode_verifier.auditing import check_receipt

        signer, number = check_receipt(public, known, receipt)
        output.say(
            f"The receipt holds: verifier {signer} had a commitment of round {number} and left it out of the seal"
        )
        output.result({"signer": signer, "round": number})
        return

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
    for number in report.secrets_withheld:
        output.say(f"round {number}: its audit secret was withheld, which is evidence against who sealed it")
    for number, doubt in report.blocks_doubted:
        output.say(f"round {number}: {doubt}; that is a reorganisation of the chain, or evidence against who signed it")
    output.say(f"Round {report.replayed_round} was done again: {accepted} accepted, {confirmed} rightly rejected.")
    roots = f"{len(report.roots)} roots"
    if report.roots_confirmed is not None:
        roots += f", {report.roots_confirmed} of them on the chain"
    output.say(f"The audit holds: {report.rounds} rounds, state {report.state_root[:16]}…, {roots}.")
    output.result(asdict(report) | {"audit_ok": True})
