"""`anynode join`: train in a swarm and be paid for accepted work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.job_ids import whole_job_id
from anynode.cli.options import (
    checked_recipient,
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
from anynode.cli.terminal import Screen
from anynode.cli.watch_options import watch_options
from anynode.wallet import keystore
from anynode_contracts.errors import RefusedError

if TYPE_CHECKING:
    from anynode.device.hardware import Device, Precision
    from anynode.training.keeper import TrainerKeeper
    from anynode.watch.logs import LogFormat
    from anynode.worker.early import EarlyTrainers
    from anynode.worker.session import Ending, Session


@click.command()
@network_option
@wallet_option
@password_option
@click.option(
    "--payout",
    metavar="ADDRESS",
    help="Where rewards go: it counts once, when the node is registered; later `anynode payout change` changes it."
    " Default: the wallet's own address.",
)
@click.option(
    "--job",
    "job_id",
    metavar="ID",
    help="Work on this job; the first digits will do. Default: the first one that is open.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="TCP port; 0 takes a free one."
)
@click.option(
    "--host", help="Address to listen on. Default: all addresses, or only this machine if the network is on it."
)
@click.option(
    "--announce",
    multiple=True,
    metavar="ADDRESS",
    help="Where others reach this node, for example a forwarded port: /ip4/203.0.113.5/tcp/4001. Repeatable.",
)
@click.option(
    "--relay",
    "relays",
    multiple=True,
    metavar="ADDRESS",
    help="Be reached through this relay, /ip4/…/tcp/…/p2p/PEER_ID. Repeatable. Default: the network's initial peers.",
)
@click.option("--upnp/--no-upnp", default=True, show_default=True, help="Ask the router to forward the port.")
@click.option("--client-only", is_flag=True, help="Open no port. The node reduces nothing and forgoes that pay (5 %).")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where this node keeps its things. Default: AnyNode's data folder, by wallet.",
)
@click.option(
    "--memory-gib", type=click.IntRange(min=1), default=16, show_default=True, help="Limit of training's memory."
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to train. Work of a hardware class that the verifier cannot audit is not admitted.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Arithmetic of the inner steps; auto takes bfloat16 where the card has it.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processor threads of training. Another number is another hardware class, which the verifier must audit.",
)
@click.option(
    "--steps-per-s-max",
    type=click.FloatRange(min=0, min_open=True),
    metavar="RATE",
    help="Train no faster than this many steps a second. Default: as fast as the machine can.",
)
@click.option(
    "--audit",
    "audits",
    is_flag=True,
    help="Take audit tasks too: do work of others again when a verifier asks, paid from the audit share.",
)
@click.option(
    "--checkpoints",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many states are kept on disk. If the newest is damaged, an older one is gone on from.",
)
@watch_options
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
    host: str | None,
    announce: tuple[str, ...],
    relays: tuple[str, ...],
    upnp: bool,
    client_only: bool,
    folder: Path | None,
    memory_gib: int,
    device: Device,
    precision: Precision,
    threads: int,
    steps_per_s_max: float | None,
    audits: bool,
    checkpoints: int,
    metrics_port: int | None,
    metrics_host: str,
    log_format: LogFormat,
) -> None:
    """Take part in a job until it has finished or you press Ctrl-C.

    The wallet is the node's key: it signs work, and need not hold anything. Whoever joins a public job sees its data.
    What was delivered and accepted stays yours, however you leave; start again to go on under the same identity.

    \b
    Example:
      anynode wallet create miner
      anynode join --network development --wallet miner
      anynode join --network home.toml --wallet miner --port 4001 --metrics-port 9100
    """
    paid_to = None if payout is None else checked_recipient(payout)
    known = load_network(network)
    path = chosen_wallet(wallet)
    whole_id = None if job_id is None else whole_job_id(known, job_id)
    account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))
    home = folder or places().data / "nodes" / known.name / path.stem
    log_to(home / "node.log", logging.INFO, log_format)

    from anynode.training.messages import Limits
    from anynode.watch.activity import Activity
    from anynode.watch.member_metrics import MemberMetrics
    from anynode.watch.serving import metrics_served
    from anynode.worker.early import EarlyTrainers, trainer_keeper
    from anynode.worker.home import NodeHome

    activity = Activity(account.address)
    screen = Screen(output, activity)
    limits = Limits(
        memory_limit_bytes=memory_gib << 30,
        steps_per_s_max=steps_per_s_max,
        device=device,
        precision=precision,
        threads=threads,
    )

    def session(early: EarlyTrainers) -> Session:
        from anynode.worker.reach import Reach
        from anynode.worker.session import Session

        return Session(
            network=known,
            folder=home,
            account=account,
            payout=paid_to,
            job_id=whole_id,
            reach=Reach(host, port, announce, relays, upnp, client_only),
            limits=limits,
            audits=audits,
            checkpoints=checkpoints,
            notify=screen.notify,
            activity=activity,
            early=early,
        )

    def known_trainers() -> dict[str, TrainerKeeper]:
        place = NodeHome(home)
        name = place.unfinished_job(whole_id)
        return {name: trainer_keeper(place, name, limits)} if name else {}

    endings: list[Ending] = []
    with metrics_served(MemberMetrics(activity), metrics_host, metrics_port) as url:
        if url:
            output.say(f"Metrics are at {url}")
        run_until_stopped(_run(EarlyTrainers(known_trainers()), session, screen, endings))
    _tell(output, account.address, endings[0] if endings else None)


def _tell(output: Output, node: str, ending: Ending | None) -> None:
    """How taking part has ended, None for a node that left early. Raises ``RefusedError`` if its work was refused."""
    if ending is None:
        output.say("Left the swarm. What was accepted stays yours; start again to go on.")
        output.result({"node": node, "finished": False, "left": True})
        return
    if ending.refused:
        raise RefusedError(f"this node's work was refused: {ending.refused}; nothing more is asked of it")
    output.say(f"The job has finished after {ending.rounds} rounds; state {ending.state_root}")
    output.result(
        {
            "node": node,
            "finished": True,
            "rounds": ending.rounds,
            "state_root": ending.state_root,
            "job_id": ending.job_id,
        }
    )


async def _run(
    early: EarlyTrainers, make: Callable[[EarlyTrainers], Session], screen: Screen, endings: list[Ending]
) -> None:
    drawing = asyncio.create_task(screen.keep_drawing())
    try:
        async with early:
            # What a session needs takes seconds to import; meanwhile the training process does the same.
            session = await asyncio.to_thread(make, early)
            endings.append(await session.run())
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)
