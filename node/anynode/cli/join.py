"""`anynode join`: train in a swarm and be paid for accepted work."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.options import (
    chosen_wallet,
    load_network,
    network_option,
    password,
    password_option,
    places,
    wallet_option,
)
from anynode.cli.output import Output, reports
from anynode.cli.running import log_to, run_until_stopped
from anynode.wallet import keystore
from anynode_contracts.errors import RefusedError, UserError

if TYPE_CHECKING:
    from anynode.worker.session import Ending, Session
    from anynode.worker.worker import Notice, Notify


@click.command()
@network_option
@wallet_option
@password_option
@click.option("--payout", metavar="ADDRESS", help="Where rewards go. Default: the wallet's own address.")
@click.option("--job", "job_id", metavar="ID", help="Work on this job. Default: the first one that is open.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="TCP port; 0 takes a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where this node keeps its things. Default: AnyNode's data folder, by wallet.",
)
@click.option(
    "--memory-gib", type=click.IntRange(min=1), default=16, show_default=True, help="Limit of training's memory."
)
@click.option(
    "--steps-per-s-max",
    type=click.FloatRange(min=0, min_open=True),
    metavar="RATE",
    help="Train no faster than this many steps a second. Default: as fast as the machine can.",
)
@reports
def join(
    output: Output,
    *,
    network: str,
    wallet: str,
    password_file: Path | None,
    payout: str | None,
    job_id: str | None,
    port: int,
    host: str,
    folder: Path | None,
    memory_gib: int,
    steps_per_s_max: float | None,
) -> None:
    """Take part in a job until it has finished or you press Ctrl-C.

    The wallet is the node's key: it signs work, and need not hold anything. Whoever joins a public job sees its data.
    What was delivered and accepted stays yours, however you leave; start again to go on under the same identity.

    \b
    Example:
      anynode wallet create miner
      anynode join --network development --wallet miner
    """
    from eth_utils.address import is_address, to_checksum_address

    known = load_network(network)
    path = chosen_wallet(wallet)
    if payout is not None and not is_address(payout):
        raise UserError(f"{payout[:60]!r} is not an Ethereum address; give 0x and 40 hexadecimal digits")
    account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))
    home = folder or places().data / "nodes" / known.name / path.stem
    log_to(home / "node.log", logging.INFO)

    from anynode.worker.session import Session

    session = Session(
        network=known,
        folder=home,
        account=account,
        payout=to_checksum_address(payout) if payout else account.address,
        job_id=job_id,
        host=host,
        port=port,
        memory_limit_bytes=memory_gib << 30,
        steps_per_s_max=steps_per_s_max,
        notify=_printer(output),
    )
    endings: list[Ending] = []
    run_until_stopped(_run(session, endings))
    if not endings:
        output.say("Left the swarm. What was accepted stays yours; start again to go on.")
        output.result({"node": account.address, "finished": False, "left": True})
        return
    ending = endings[0]
    if ending.refused:
        raise RefusedError(f"this node's work was refused: {ending.refused}; nothing more is asked of it")
    output.say(f"The job has finished after {ending.rounds} rounds; state {ending.state_root}")
    output.result(
        {
            "node": account.address,
            "finished": True,
            "rounds": ending.rounds,
            "state_root": ending.state_root,
            "job_id": ending.job_id,
        }
    )


async def _run(session: Session, endings: list[Ending]) -> None:
    endings.append(await session.run())


def _printer(output: Output) -> Notify:
    """Progress on one line that is written over; everything else stays."""
    shown = {"width": 0}

    def notify(notice: Notice) -> None:
        if notice.kind == "progress":
            if sys.stdout.isatty() and not output.as_json:
                click.echo("\r" + notice.text.ljust(shown["width"]), nl=False)
                shown["width"] = len(notice.text)
            return
        if shown["width"]:
            click.echo("\r" + " " * shown["width"] + "\r", nl=False)
            shown["width"] = 0
        output.say(notice.text)

    return notify
