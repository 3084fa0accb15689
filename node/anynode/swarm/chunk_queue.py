"""Which chunk a source shall fetch next: the open ones first, then those that a slower source has owed for long."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from anynode.blobs.manifest import ChunkRef

ASKED_AT_ONCE_MAX = 2
LACKING_MAX = 256


@dataclass(slots=True)
class _Flight:
    """A chunk that some sources have been asked for."""

    sources: set[str]
    since_s: float


class ChunkQueue:
    """Chunks to fetch, each once however often a manifest names it. For use within one event loop.

    ``hedge_after_s`` is how long one source may owe a chunk before an idle other one is asked for it too. A source that
    lacks more than ``LACKING_MAX`` chunks gets no more to do.
    """

    def __init__(self, chunks: Iterable[ChunkRef], *, hedge_after_s: float, clock: Callable[[], float]) -> None:
        self._chunks = {chunk.hash: chunk for chunk in chunks}
        self._fresh = deque(self._chunks)
        self._flights: dict[str, _Flight] = {}
        self._lacking: defaultdict[str, set[str]] = defaultdict(set)
        self._dropped: set[str] = set()
        self._hedge_after_s = hedge_after_s
        self._clock = clock
        self._changed = asyncio.Event()
        self._all_stored = asyncio.Event()
        if not self._chunks:
            self._all_stored.set()

    @property
    def left(self) -> int:
        """How many chunks are not stored yet."""
        return len(self._chunks)

    @property
    def bytes_left(self) -> int:
        return sum(chunk.size_bytes for chunk in self._chunks.values())

    async def wait_all_stored(self) -> None:
        await self._all_stored.wait()

    async def take(self, source: str) -> ChunkRef | None:
        """The next chunk to ask ``source`` for; waits while there may be one yet. None: nothing more for it."""
        while not self._hopeless(source):
            digest, wait_s = self._next(source)
            if digest is not None:
                return self._chunks[digest]
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await changed.wait()
        return None

    def arrived(self, chunk: ChunkRef) -> bool:
        """Note checked bytes of ``chunk``. False if they came before: then they are not needed."""
        if chunk.hash not in self._flights:
            return False
        del self._flights[chunk.hash]
        return True

    def stored(self, chunk: ChunkRef) -> None:
        """Note that an arrived chunk is safe on disk."""
        del self._chunks[chunk.hash]
        if not self._chunks:
            self._all_stored.set()
        self._notify()

    def lacks(self, source: str, chunk: ChunkRef) -> None:
        """``source`` does not give ``chunk``: others shall be asked."""
        self._lacking[source].add(chunk.hash)
        flight = self._flights.get(chunk.hash)
        if flight is not None:
            flight.sources.discard(source)
            if not flight.sources:
                del self._flights[chunk.hash]
                self._fresh.appendleft(chunk.hash)
        self._notify()

    def drop(self, source: str) -> None:
        """Give ``source`` nothing more to do."""
        self._dropped.add(source)
        self._notify()

    def _next(self, source: str) -> tuple[str | None, float | None]:
        """A chunk for ``source``, or how long to wait before looking again (None: until something changes)."""
        lacking, now_s = self._lacking[source], self._clock()
        for _ in range(len(self._fresh)):
            digest = self._fresh.popleft()
            if digest not in lacking:
                self._flights[digest] = _Flight({source}, now_s)
                return digest, None
            self._fresh.append(digest)
        wait_s: float | None = None
        for digest, flight in self._flights.items():
            if digest in lacking or source in flight.sources or len(flight.sources) >= ASKED_AT_ONCE_MAX:
                continue
            due_s = flight.since_s + self._hedge_after_s - now_s
            if due_s <= 0.0:
                flight.sources.add(source)
                return digest, None
            wait_s = due_s if wait_s is None else min(wait_s, due_s)
        return None, wait_s

    def _hopeless(self, source: str) -> bool:
        lacking = self._lacking[source]
        if not self._chunks or source in self._dropped or len(lacking) > LACKING_MAX:
            return True
        return all(digest in lacking for digest in self._fresh) and all(digest in lacking for digest in self._flights)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
