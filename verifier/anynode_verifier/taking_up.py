"""Takes up the jobs that another verifier has: what few verifiers know of a job gets no quorum, and no root either.

One job holds up no other. Large files come in turns, between which other jobs have theirs; what cannot be taken up is
tried again after a pause that grows with each time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from anynode_contracts.errors import UserError

log = logging.getLogger(__name__)

LOOK_PAUSE_S = 2.0
AGAIN_S_MAX = 600.0
TURN_S = 60.0
"""So long the files of one job may keep others waiting."""


@dataclass(slots=True)
class _Tries:
    """What has come of the tries to take up one job so far."""

    turns: int = 0
    failed_in_a_row: int = 0
    due_at: float = 0.0
    said: str = ""


class TakingUp:
    """From one other verifier. ``unknown()`` lists its jobs that are not here, the oldest first; ``take_up(job_id)``
    takes one up and may break off after `TURN_S`. It fetches what was fetched before no second time.
    """

    def __init__(
        self,
        unknown: Callable[[], Awaitable[list[str]]],
        take_up: Callable[[str], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._unknown, self._take_up, self._clock = unknown, take_up, clock
        self._tries: dict[str, _Tries] = {}

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_PAUSE_S)

    async def look(self) -> None:
        """Try those that are due, first of all those that were tried least, until a turn's time is over."""
        try:
            unknown = await self._unknown()
        except UserError as error:
            log.debug("another verifier does not list its jobs: %s", error)
            return
        self._tries = {job_id: self._tries.get(job_id, _Tries()) for job_id in unknown}
        began = self._clock()
        due = [job_id for job_id, tries in self._tries.items() if tries.due_at <= began]
        for job_id in sorted(due, key=lambda job_id: self._tries[job_id].turns):
            await self._try(job_id, self._tries[job_id])
            if self._clock() >= began + TURN_S:
                return  # new ones may be there

    async def _try(self, job_id: str, tries: _Tries) -> None:
        tries.turns += 1
        try:
            await self._take_up(job_id)
        except UserError as error:
            level = logging.DEBUG if tries.said == str(error) else logging.WARNING
            log.log(level, "job %s of another verifier is not taken up yet: %s", job_id[:16], error)
            tries.said = str(error)
            tries.due_at = self._clock() + min(AGAIN_S_MAX, LOOK_PAUSE_S * 2**tries.failed_in_a_row)
            tries.failed_in_a_row = min(tries.failed_in_a_row + 1, 16)
        else:
            tries.failed_in_a_row = 0
