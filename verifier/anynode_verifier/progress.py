"""What people want to see of a running job: its validation losses, kept on disk, and how long its rounds take."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from anynode.training.keeper import TrainerKeeper
from anynode_contracts.errors import UserError
from anynode_contracts.files import write_aside

LOSSES = "losses.json"

log = logging.getLogger(__name__)


class Progress:
    """What a person wants to see of a running job. ``folder`` is the job's; ``trainers`` measure its losses."""

    def __init__(self, folder: Path, trainers: TrainerKeeper) -> None:
        self._path, self._trainers = folder / LOSSES, trainers
        self._measuring = asyncio.Lock()
        self.losses = read_losses(self._path)
        self.opened_at: dict[int, float] = {}
        self.closed_at: dict[int, float] = {}

    def round_s(self) -> dict[int, float]:
        """How long each round took that this process has seen from open to close, in seconds."""
        closed = list(self.closed_at.items())
        return {round_: at - self.opened_at[round_] for round_, at in closed if round_ in self.opened_at}

    async def measure(self, round_: int, root: str) -> None:
        """The validation loss of the state that ``round_`` starts from."""
        async with self._measuring:
            try:
                loss = await (await self._trainers.get()).evaluate(root)
            except UserError as error:
                log.warning("the loss before round %d could not be measured: %s", round_, error)
                return
        self.losses[round_] = loss
        data = json.dumps({str(number): loss for number, loss in sorted(self.losses.items())}).encode()
        await asyncio.to_thread(write_aside, self._path, data)

    async def rest(self) -> None:
        """End the process that measures, once nothing is measured any more."""
        async with self._measuring:
            await self._trainers.close()


def read_losses(path: Path) -> dict[int, float]:
    """The losses that an earlier run has measured; none when there is no such file or it is damaged."""
    try:
        return {int(round_): float(loss) for round_, loss in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
