"""Keeps one training process alive: the process may die, the node goes on with another."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from anynode.training.process import Trainer, TrainerSettings
from anynode_contracts.errors import UserError

log = logging.getLogger(__name__)


class TrainerKeeper:
    """Starts the training process of a job when it is first needed, and again after it has died."""

    def __init__(self, store_folder: Path, job_folder: Path, settings: TrainerSettings) -> None:
        self._store_folder, self._job_folder, self._settings = store_folder, job_folder, settings
        self._trainer: Trainer | None = None
        self._starting = asyncio.Lock()

    async def get(self) -> Trainer:
        """The living process. Raises ``UserError`` when it cannot be started."""
        async with self._starting:
            if self._trainer is not None and not self._trainer.alive:
                log.warning("the training process has ended; another one is started")
                await self._trainer.close()
                self._trainer = None
            if self._trainer is None:
                self._trainer = await Trainer.start(self._store_folder, self._job_folder, self._settings)
            return self._trainer

    async def proven_class(self, state_root: str) -> str:
        """The hardware class of the process, which gives the same bits when it does a segment from a state twice.

        Raises ``UserError`` where it does not: nobody could audit its work.
        """
        trainer = await self.get()
        if not await trainer.replays_itself(state_root):
            raise UserError(
                f"this machine does not give the same bits twice ({trainer.hardware_class}), so its work could not be "
                "audited or paid; join with another --device"
            )
        return trainer.hardware_class

    async def renew(self) -> Trainer:
        """A fresh process, so that a second replay does not share the memory of the first."""
        await self.close()
        return await self.get()

    async def close(self) -> None:
        async with self._starting:
            if self._trainer is not None:
                await self._trainer.close()
                self._trainer = None
