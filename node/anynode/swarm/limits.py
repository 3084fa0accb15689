"""How much one peer may ask of us: a token bucket each, and a bounded number of requests at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

PEERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Rate:
    """``burst`` requests at once, refilled at ``per_s`` requests a second."""

    per_s: float = 200.0
    burst: int = 500


class RateLimiter:
    """One token bucket for each peer, the longest unused forgotten beyond ``PEERS_MAX`` peers."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, peer_id: str) -> float:
        """Take one token of ``peer_id``: 0.0 if there was one, else the seconds until there will be."""
        now_s = self._clock()
        tokens, filled_s = self._buckets.pop(peer_id, (float(self._rate.burst), now_s))
        tokens = min(float(self._rate.burst), tokens + (now_s - filled_s) * self._rate.per_s)
        wait_s = 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._rate.per_s
        self._buckets[peer_id] = (tokens - 1.0 if wait_s == 0.0 else tokens, now_s)
        if len(self._buckets) > PEERS_MAX:
            self._buckets.popitem(last=False)
        return wait_s


class BusyError(Exception):
    """Too many requests are waiting already."""


@dataclass(slots=True)
class _Queue:
    slots: asyncio.Semaphore
    streams: int = 0


class Gate:
    """At most ``concurrency`` requests run at a time, ``per_peer`` of them for one peer. A peer has at most
    ``per_peer + waiting_max`` streams here, each with one request that waits for its turn or none; further ones are
    refused."""

    def __init__(self, *, concurrency: int, per_peer: int, waiting_max: int) -> None:
        self._slots = asyncio.Semaphore(concurrency)
        self._per_peer = per_peer
        self._waiting_max = waiting_max
        self._peers: dict[str, _Queue] = {}

    @contextlib.contextmanager
    def presence(self, peer_id: str) -> Iterator[None]:
        """A stream of a peer, for as long as it is open. Raises ``BusyError`` when it has too many."""
        queue = self._peers.setdefault(peer_id, _Queue(asyncio.Semaphore(self._per_peer)))
        if queue.streams >= self._per_peer + self._waiting_max:
            raise BusyError
        queue.streams += 1
        try:
            yield
        finally:
            queue.streams -= 1
            if queue.streams == 0:
                del self._peers[peer_id]

    @contextlib.asynccontextmanager
    async def turn(self, peer_id: str) -> AsyncIterator[None]:
        """Wait for a turn. Only while the peer is present."""
        async with self._peers[peer_id].slots, self._slots:
            yield
