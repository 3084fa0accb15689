"""Averages chunks in the training process: those that came in while it was busy go there in one request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from anynode.training.messages import ReduceSpec
from anynode_contracts.errors import RefusedError

PER_REQUEST_MAX = 8


class Reducing(Protocol):
    """The part of :class:`anynode.training.process.Trainer` that averaging needs."""

    async def reduce(self, specs: Sequence[ReduceSpec]) -> list[str | RefusedError]: ...


class Reductions:
    """One request at a time to the trainer that ``trainer()`` gives."""

    def __init__(self, trainer: Callable[[], Awaitable[Reducing]]) -> None:
        self._trainer = trainer
        self._turn = asyncio.Lock()
        self._waiting: deque[tuple[ReduceSpec, asyncio.Future[str]]] = deque()

    async def average(self, spec: ReduceSpec) -> str:
        """The hash of the stored average. Raises ``RefusedError`` if these contributions cannot be averaged, and as
        the trainer does.
        """
        mine: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((spec, mine))
        async with self._turn:
            while not mine.done():
                await self._reduce_some()
        return mine.result()

    async def _reduce_some(self) -> None:
        """Take the chunks that have waited longest. If this is broken off they wait on, for the next turn."""
        some = [self._waiting.popleft() for _ in range(min(len(self._waiting), PER_REQUEST_MAX))]
        try:
            outcomes = await (await self._trainer()).reduce([spec for spec, _ in some])
        except BaseException:
            self._waiting.extendleft(reversed(some))
            raise
        for (_, future), outcome in zip(some, outcomes, strict=True):
            if isinstance(outcome, RefusedError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
