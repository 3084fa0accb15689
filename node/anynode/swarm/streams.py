"""Streams to other peers, kept for the next request: opening one costs several times a small request's own time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

from anynode.swarm.control import Stream, close_stream

KEPT_S = 30.0
"""Less than a service waits for the next request, so that a kept stream is seldom closed under us."""
KEPT_PER_HANDLER = 8

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Kept:
    stream: Stream
    expiry: asyncio.TimerHandle


@dataclass
class StreamPool:
    """Lends streams by peer and protocol. A stream is lent to one request at a time; one whose request did not end
    well is closed. For use within one event loop.
    """

    _kept: defaultdict[_Key, list[_Kept]] = field(default_factory=lambda: defaultdict(list))

    def kept(self, peer_id: str, protocol: str) -> Stream | None:
        """The stream that was last given back and is still open, or None."""
        idle = self._kept[peer_id, protocol]
        while idle:
            kept = idle.pop()
            kept.expiry.cancel()
            reader, writer = kept.stream
            if not (reader.at_eof() or writer.is_closing()):
                return kept.stream
            writer.transport.abort()
        del self._kept[peer_id, protocol]
        return None

    def give_back(self, peer_id: str, protocol: str, stream: Stream) -> None:
        """Keep a stream whose last answer was read to its end."""
        idle = self._kept[peer_id, protocol]
        if len(idle) >= KEPT_PER_HANDLER:
            stream[1].transport.abort()
            return
        expiry = asyncio.get_running_loop().call_later(KEPT_S, self._expire, (peer_id, protocol), stream)
        idle.append(_Kept(stream, expiry))

    async def close(self) -> None:
        """Close every kept stream."""
        streams = [kept for idle in self._kept.values() for kept in idle]
        self._kept.clear()
        for kept in streams:
            kept.expiry.cancel()
            await close_stream(kept.stream[1])

    def _expire(self, key: _Key, stream: Stream) -> None:
        idle = [kept for kept in self._kept.get(key, ()) if kept.stream is not stream]
        if idle:
            self._kept[key] = idle
        else:
            self._kept.pop(key, None)
        stream[1].transport.abort()
