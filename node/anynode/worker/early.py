"""Training processes of jobs that are on the disk already, started while the rest of the program still loads.

Importing torch takes seconds, in the training process as in the node itself, and a restart is waited for by others: so
both load at once. A process that cannot be started here is started, and complained of, where it is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Limits
from anynode.training.process import Trainer, TrainerSettings
from anynode.worker.home import NodeHome


class EarlyTrainers:
    """Starts each of ``keepers`` (by job) at once. Whoever takes one also closes it; the rest is closed here."""

    def __init__(self, keepers: Mapping[str, TrainerKeeper]) -> None:
        self._keepers = dict(keepers)
        self._starting: list[asyncio.Task[Trainer]] = []

    async def __aenter__(self) -> Self:
        self._starting = [asyncio.create_task(keeper.get()) for keeper in self._keepers.values()]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await self.close_rest()

    def take(self, job_id: str) -> TrainerKeeper | None:
        """The keeper of a job, if its process was started early."""
        return self._keepers.pop(job_id, None)

    async def close_rest(self) -> None:
        """End the processes that nobody has taken."""
        while self._keepers:
            await self._keepers.popitem()[1].close()


def trainer_keeper(home: NodeHome, job_id: str, limits: Limits, log_name: str = "trainer.log") -> TrainerKeeper:
    """The keeper of a node's training process for a job, which logs to ``log_name`` in the job's folder."""
    place = home.job(job_id)
    settings = TrainerSettings(log_path=place.folder / log_name, limits=limits)
    return TrainerKeeper(home.store.folder, place.files, settings)
