"""Drives a pure core: feeds it messages and ticks in turn, and hands each effect to the shell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from anynode.rounds.events import Failed, Tick
from anynode_contracts.errors import StorageError, UserError

log = logging.getLogger(__name__)

S = TypeVar("S")
M = TypeVar("M")
E = TypeVar("E")


class Driver(Generic[S, M, E]):
    """Holds the core's state. `feed` runs one transition; its effects run as tasks that may feed again.

    ``carry_out(effect)`` is a coroutine of the shell; ``failure_key(effect)`` names the effect for `Failed`, or is
    empty where nothing waits for it. ``at_once(effect)`` may take an effect in order, without waiting. A broken
    invariant or a full disk in a task stops the driver: `run` raises it.
    """

    def __init__(
        self,
        state: S,
        step: Callable[[S, M | Tick | Failed, float], tuple[S, list[E]]],
        *,
        carry_out: Callable[[E], Awaitable[None]],
        failure_key: Callable[[E], str],
        clock: Callable[[], float],
        at_once: Callable[[E], bool] = lambda _: False,
        tick_s: float = 0.5,
    ) -> None:
        self.state = state
        self._at_once = at_once
        self._step, self._carry_out, self._failure_key = step, carry_out, failure_key
        self._clock, self._tick_s = clock, tick_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._complained: dict[str, str] = {}
        self._changed = asyncio.Condition()
        self._stopped: asyncio.Future[None] | None = None

    async def feed(self, message: M | Tick | Failed, reply: Callable[[E], bool] = lambda _: False) -> list[E]:
        """Take in a message. Effects for which ``reply`` holds are returned, all others are carried out."""
        self.state, effects = self._step(self.state, message, self._clock())
        replies = [effect for effect in effects if reply(effect)]
        for effect in effects:
            if not reply(effect) and not self._at_once(effect):
                self._start(effect)
        async with self._changed:
            self._changed.notify_all()
        return replies

    async def wait_for(self, condition: Callable[[S], bool], timeout_s: float) -> bool:
        """Wait until the state fulfils ``condition``; false if it does not in time."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: condition(self.state))
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Tick until `stop`. Raises what a task could not handle."""
        self._stopped = asyncio.get_running_loop().create_future()
        try:
            while not self._stopped.done():
                await self.feed(Tick())
                await asyncio.wait([self._stopped], timeout=self._tick_s)
            await self._stopped
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self) -> None:
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    def fail(self, error: Exception) -> None:
        """Stop; `run` raises ``error``."""
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_exception(error)

    def _start(self, effect: E) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(effect))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def _guard(self, effect: E) -> None:
        try:
            await self._carry_out(effect)
            self._complained.pop(self._failure_key(effect), None)
        except StorageError:
            raise  # tried again, it would fail again, and nobody at the terminal would know why
        except UserError as error:
            key = self._failure_key(effect)
            is_new = bool(key) and self._complained.get(key) != str(error)  # what is tried again may fail for hours
            log.log(logging.WARNING if is_new else logging.DEBUG, "%s: %s", key or type(effect).__name__, error)
            if key:
                self._complained[key] = str(error)
                await self.feed(Failed(key))

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self.fail(error)
