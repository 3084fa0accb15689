"""One service of this node: reads a request, keeps the limits, runs the handler, writes the answer or the refusal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from anynode.swarm.conduct import Conduct
from anynode.swarm.frames import (
    FRAME_BYTES_MAX,
    Code,
    Kind,
    PeerRefusedError,
    error_payload,
    frame,
    read_header,
)
from anynode.swarm.limits import BusyError, Gate, RateLimiter
from anynode.swarm.traffic import Traffic
from anynode_contracts.errors import Offence, StorageError, UserError, invariant

log = logging.getLogger(__name__)

ERROR_LINGER_S = 10.0
REQUEST_WAIT_S = 60.0
BUSY_RETRY_S = 1.0

Handler = Callable[[str, bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Service:
    """``handler(peer_id, request) -> answer`` under its limits. ``timeout_s`` bounds reading the request, then
    the handler's work, then the delivery of the answer."""

    name: str
    handler: Handler
    limit_bytes: int
    limiter: RateLimiter
    gate: Gate
    timeout_s: float
    conduct: Conduct
    traffic: Traffic

    async def on_stream(self, peer_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one incoming stream, one after the other, until its caller closes it or one is
        refused. Raises ``OSError`` or ``EOFError`` if it breaks off."""
        if self.conduct.is_dropped(peer_id):
            return  # without a word: a dropped peer holds none of our streams open
        writer.transport.set_write_buffer_limits(0)  # so that an answer is drained when the daemon has it
        try:
            with self.gate.presence(peer_id):
                while await self._serve_one(peer_id, reader, writer):
                    pass
        except BusyError:
            await self._refuse(self._busy(), reader, writer)
        except PeerRefusedError as error:
            await self._refuse(error, reader, writer)

    async def _serve_one(self, peer_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer the next request. False when none came for a while: then the stream may go."""
        try:
            async with asyncio.timeout(REQUEST_WAIT_S):
                size = await self._next_request(peer_id, reader)
        except TimeoutError:
            return False
        self._admit(peer_id)
        async with self.gate.turn(peer_id):
            try:
                async with asyncio.timeout(self.timeout_s):
                    request = await reader.readexactly(size)
            except TimeoutError as error:
                raise self._timed_out() from error
            self.traffic.received(self.name, size)
            answer = await self.respond(peer_id, request)
            _write(writer, Kind.ANSWER, answer)
            async with asyncio.timeout(self.timeout_s):  # the caller's time to take it
                await writer.drain()
            self.traffic.sent(self.name, len(answer))
        return not self.conduct.is_dropped(peer_id)

    async def _next_request(self, peer_id: str, reader: asyncio.StreamReader) -> int:
        """The size of the next request; what is none is a strike."""
        try:
            kind, size = await read_header(reader, limit_bytes=self.limit_bytes)
        except PeerRefusedError as error:
            offence = Offence.OVERSIZE if error.code == Code.TOO_LARGE else Offence.FRAME
            self.conduct.strike(peer_id, offence, f"{self.name}: {error}")
            raise
        if kind is not Kind.REQUEST:
            sentence = "a request was expected; update AnyNode"
            self.conduct.strike(peer_id, Offence.FRAME, f"{self.name}: {sentence}")
            raise PeerRefusedError(sentence, code=Code.MALFORMED)
        return size

    async def respond(self, peer_id: str, request: bytes) -> bytes:
        """Run the handler. Raises ``PeerRefusedError`` with one sentence, whatever went wrong in it."""
        try:
            async with asyncio.timeout(self.timeout_s):
                with self.conduct.blaming(peer_id):
                    answer = await self.handler(peer_id, request)
        except PeerRefusedError as error:
            # One that we received from elsewhere is not our own refusal: its code must not be mistaken for ours.
            code = Code.REFUSED if error.peer_id else error.code
            raise PeerRefusedError(str(error), code=code, retry_after_s=error.retry_after_s) from error
        except StorageError as error:
            log.error("%s", error)  # where our files are is nobody else's business
            raise PeerRefusedError("the peer's disk is full; try another peer", code=Code.FAULT) from error
        except UserError as error:
            raise PeerRefusedError(str(error), code=Code.REFUSED) from error
        except TimeoutError as error:
            raise self._timed_out() from error
        except Exception as error:
            log.exception("the handler of %s failed", self.name)
            raise PeerRefusedError(
                f"the peer failed over this {self.name} request; its log says why", code=Code.FAULT
            ) from error
        invariant(len(answer) <= FRAME_BYTES_MAX, f"an answer of {self.name} is over the frame limit")
        return answer

    def _admit(self, peer_id: str) -> None:
        wait_s = self.limiter.take(peer_id)
        if wait_s > 0.0:
            raise PeerRefusedError(
                f"too many {self.name} requests; try again in {wait_s:.2f} s",
                code=Code.RATE_LIMITED,
                retry_after_s=wait_s,
            )

    def _busy(self) -> PeerRefusedError:
        return PeerRefusedError(
            f"too many {self.name} requests are waiting; send fewer at a time",
            code=Code.BUSY,
            retry_after_s=BUSY_RETRY_S,
        )

    def _timed_out(self) -> PeerRefusedError:
        return PeerRefusedError(
            f"the {self.name} request was not done within {self.timeout_s:g} s; try again later", code=Code.TIMED_OUT
        )

    async def _refuse(
        self, error: PeerRefusedError, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        _write(writer, Kind.ERROR, error_payload(error))
        await _until_closed(reader, ERROR_LINGER_S)


def _write(writer: asyncio.StreamWriter, kind: Kind, payload: bytes) -> None:
    for part in frame(kind, payload):
        writer.write(part)


async def _until_closed(reader: asyncio.StreamReader, timeout_s: float) -> None:
    """Wait until the caller closes. The daemon drops what it has not yet passed on when our side closes first, and
    resets the stream when our side closes over unread bytes, which would lose the answer."""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(timeout_s):
            while await reader.read(1 << 16):
                pass
