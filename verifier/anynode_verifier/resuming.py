"""The jobs that an earlier run of the verifier had started; their training processes begin while the rest loads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Limits
from anynode.training.process import TrainerSettings
from anynode.worker.home import JobHome

_STARTED = "started"


def started_homes(jobs: Path) -> Iterator[JobHome]:
    """The folders below ``jobs`` of those that were started."""
    for marker in sorted(jobs.glob(f"*/{_STARTED}")):
        yield JobHome(marker.parent)


def started_marker(home: JobHome) -> Path:
    """The file that says that a job was started."""
    return home.folder / _STARTED


def trainer_keeper(store_folder: Path, home: JobHome, log_name: str, limits: Limits) -> TrainerKeeper:
    """The keeper of a job's training process, which logs to ``log_name`` in the job's folder."""
    settings = TrainerSettings(log_path=home.folder / log_name, limits=limits)
    return TrainerKeeper(store_folder, home.files, settings)


def coordinator_keeper(folder: Path, home: JobHome) -> TrainerKeeper:
    """The keeper of the process that applies a job's rounds, for a verifier that keeps its things in ``folder``."""
    return trainer_keeper(folder / "blobs", home, "coordinator.log", Limits(nice=0))


def coordinator_keepers(folder: Path) -> dict[str, TrainerKeeper]:
    """One for each job that was started, none for those that have finished."""
    homes = started_homes(folder / "jobs")
    return {home.folder.name: coordinator_keeper(folder, home) for home in homes if not home.finished()}
