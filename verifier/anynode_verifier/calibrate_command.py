"""`anynode verifier calibrate`: measure honest drift between two hardware classes and freeze thresholds for it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.options import load_network, network_option, password, password_option, places
from anynode.cli.output import Output, reports
from anynode.cli.roles import role_wallet
from anynode.cli.running import log_to, run_until_stopped
from anynode.wallet import keystore
from anynode_contracts.errors import UserError

if TYPE_CHECKING:
    from anynode.device.hardware import Device, Instructions, Precision
    from anynode.jobs.job import Job
    from anynode.training.messages import Limits, Phase
    from anynode_verifier.calibration import Entry
    from anynode_verifier.gathering import Sample

ROUNDS = 10
SLOTS = 1
FIRST_SLOTS = 9


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, exists=True, path_type=Path))
@network_option
@password_option
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Of the worker's class.")
@click.option(
    "--instructions",
    type=click.Choice(["auto", "avx2", "avx512"]),
    default="auto",
    show_default=True,
    help="Of the worker's class.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda", "mps"]), default="cpu", show_default=True)
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=3, show_default=True, help="Courses of training to replay."
)
@click.option(
    "--verifier-folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the verifier keeps its things. Default: AnyNode's data folder, by network.",
)
@reports
def calibrate(
    output: Output,
    *,
    folder: Path | None,
    network: str,
    password_file: Path | None,
    threads: int,
    instructions: Instructions,
    device: Device,
    precision: Precision,
    seeds: int,
    verifier_folder: Path | None,
) -> None:
    """Freeze thresholds for work of another hardware class, made here, than the verifier's own.

    FOLDER holds a job's files (job.json, model, data); without it two small template models are used. Work is done in
    the worker's class and replayed in the verifier's, early and late in training. A running verifier takes the
    thresholds into account for jobs that it loads afterwards; members of the class are admitted from then on.

    \b
    Example:
      anynode verifier calibrate --network development --threads 2 --password-file password
    """
    from anynode.training.messages import Limits
    from anynode_contracts.signing import SigningDomain
    from anynode_verifier.calibration import THRESHOLDS_FILE, freeze, frozen

    known = load_network(network)
    home = verifier_folder or places().data / "verifiers" / known.name
    path = role_wallet(known.name, "verifier")
    account = keystore.unlock(path, password(password_file, f"the wallets of network {known.name}"))
    log_to(home / "calibrate.log", logging.INFO)
    domain = SigningDomain(known.chain_id, known.registry)
    before = frozen(home / THRESHOLDS_FILE, known.verifiers, domain)
    worker = Limits(device=device, precision=precision, threads=threads, instructions=instructions)
    auditor = Limits(device="cpu", precision=precision)
    made: list[tuple[Entry, ...]] = []

    async def work() -> None:
        made.append(await measure(folder, worker, auditor, seeds, output.say))

    run_until_stopped(work())
    if not made:
        raise UserError("the calibration was stopped before it was complete; run it again")
    after = before.replaced(made[0])
    freeze(home / THRESHOLDS_FILE, after, account, domain)
    for entry in made[0]:
        for limit in entry.limits:
            found = limit.distance()
            output.say(
                f"{entry.phase} {limit.vector}: {found.whole:.2g} as a whole, {found.tensor:.2g} in a tensor, "
                f"{found.norm:.2g} in the norm ({entry.segments} segments, {entry.seeds} seeds)"
            )
    output.say(f"Thresholds for {made[0][0].worker} are frozen in {home / THRESHOLDS_FILE}")
    output.result(
        {
            "worker": made[0][0].worker,
            "auditor": made[0][0].auditor,
            "segments": {entry.phase: entry.segments for entry in made[0]},
            "thresholds": after.digest,
        }
    )


@dataclass(frozen=True)
class _Wares:
    """A job to calibrate with, and its files."""

    job: Job
    folder: Path


async def measure(
    folder: Path | None, worker: Limits, auditor: Limits, seeds: int, say: Callable[[str], None]
) -> tuple[Entry, ...]:
    """The entries of a pair of classes. Raises ``RefusedError`` for too few samples or two classes that are one."""
    from anynode_verifier.calibration import calibrate as entries_of
    from anynode_verifier.gathering import Sample

    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anynode-calibrate-")))
        lines, samples, models = ("", ""), list[Sample](), set[str]()
        phases: tuple[Phase, ...] = ()
        for number, ware in enumerate(_wares(folder, work)):
            say(f"model of {ware.job.model.parameters} parameters: working and replaying")
            lines, found = await _samples(ware, (worker, auditor), range(number, seeds, 1 if folder else 2), work)
            samples += found
            models.add(ware.job.model.identity)
            phases = ("fresh", "moments") if ware.job.training.publishes_moments else ("fresh",)
        return entries_of(*lines, samples, models, phases)


def _wares(folder: Path | None, work: Path) -> list[_Wares]:
    from anynode.training.engine import read_job
    from anynode_verifier.template_job import TEMPLATES, make

    if folder is not None:
        return [_Wares(read_job(folder), folder)]
    return [_Wares(make(name, work / name), work / name) for name in TEMPLATES]


async def _samples(
    ware: _Wares, pair: tuple[Limits, Limits], seeds: range, work: Path
) -> tuple[tuple[str, str], list[Sample]]:
    from anynode.blobs.store import BlobStore
    from anynode.training.process import Trainer, TrainerSettings
    from anynode_verifier.gathering import Course, Gathering, Sample

    store = BlobStore(work / "blobs")
    settings = [TrainerSettings(work / f"{name}.log", limits=item) for name, item in zip("wa", pair, strict=True)]
    async with (
        await Trainer.start(store.folder, ware.folder, settings[0]) as worker,
        await Trainer.start(store.folder, ware.folder, settings[1]) as auditor,
    ):
        lines = worker.hardware_class, auditor.hardware_class
        if lines[0] == lines[1]:
            raise UserError(
                f"{lines[0]} is the verifier's own class, which is replayed exactly; name another with --threads, "
                "--instructions or --device"
            )
        gathering = Gathering(worker, auditor, ware.job, store, work / "opened")
        found = list[Sample]()
        for seed in seeds:
            course = Course(seed, ROUNDS, SLOTS, FIRST_SLOTS)
            found += [sample async for sample in gathering.samples(course)]
    return lines, found
