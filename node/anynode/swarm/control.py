"""Client of the libp2p daemon's control socket: open streams, accept streams, connect to peers.

hivemind's own client (``hivemind.p2p``) is used for the DHT. Streams go through this one, with hivemind's messages,
because it closes its sockets on every failure, keeps them in a private folder and reads with larger buffers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hivemind.p2p import PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import read_pbmsg_safe, write_pbmsg
from hivemind.proto import p2pd_pb2
from hivemind.utils.multiaddr import Multiaddr

log = logging.getLogger(__name__)

READ_BUFFER_BYTES = 512 * 1024
ACCEPT_TIMEOUT_S = 30.0
STREAMS_MAX = 1024
BACKLOG = 128
PAUSE_S = 1.0

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
StreamHandler = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class DaemonRefusal(Exception):
    """The daemon answered that it could not; ``str()`` is libp2p's reason."""


@dataclass(frozen=True, slots=True)
class Control:
    """Talks to the daemon that listens at the unix socket ``path``. Every method raises ``OSError`` or
    ``EOFError`` when the daemon has gone, and ``DaemonRefusal`` when it says no."""

    path: Path

    async def identify(self) -> tuple[str, tuple[str, ...]]:
        """The daemon's peer id (base58) and the multiaddrs it can be reached at."""
        async with self._session() as stream:
            answer = await _ask(stream, p2pd_pb2.Request(type=p2pd_pb2.Request.IDENTIFY))
        peer_id = PeerID(answer.identify.id).to_base58()
        return peer_id, tuple(f"{Multiaddr(raw)}/p2p/{peer_id}" for raw in answer.identify.addrs)

    async def connect(self, peer_id: str, addresses: Sequence[str]) -> None:
        """Connect to a peer at one of ``addresses`` (multiaddrs; none: those that the DHT knows)."""
        wanted = p2pd_pb2.ConnectRequest(
            peer=PeerID.from_base58(peer_id).to_bytes(),
            addrs=[Multiaddr(address).to_bytes() for address in addresses],
        )
        async with self._session() as stream:
            await _ask(stream, p2pd_pb2.Request(type=p2pd_pb2.Request.CONNECT, connect=wanted))

    async def connected_peers(self) -> tuple[str, ...]:
        """The peers (base58) to which a connection is open."""
        async with self._session() as stream:
            answer = await _ask(stream, p2pd_pb2.Request(type=p2pd_pb2.Request.LIST_PEERS))
        return tuple(PeerID(peer.id).to_base58() for peer in answer.peers)

    async def open_stream(self, peer_id: str, protocol: str) -> Stream:
        """A stream to ``protocol`` of a peer, for the caller to close with `close_stream`."""
        wanted = p2pd_pb2.StreamOpenRequest(peer=PeerID.from_base58(peer_id).to_bytes(), proto=[protocol])
        stream = await asyncio.open_unix_connection(self.path, limit=READ_BUFFER_BYTES)
        try:
            await _ask(stream, p2pd_pb2.Request(type=p2pd_pb2.Request.STREAM_OPEN, streamOpen=wanted))
        except BaseException:
            await close_stream(stream[1])
            raise
        return stream

    async def register(self, protocol: str, listener: Path) -> None:
        """From now on the daemon hands streams for ``protocol`` to the unix socket ``listener``."""
        wanted = p2pd_pb2.StreamHandlerRequest(
            addr=Multiaddr(f"/unix{listener}").to_bytes(), proto=[protocol], balanced=False
        )
        async with self._session() as stream:
            await _ask(stream, p2pd_pb2.Request(type=p2pd_pb2.Request.STREAM_HANDLER, streamHandler=wanted))

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Stream]:
        reader, writer = await asyncio.open_unix_connection(self.path, limit=READ_BUFFER_BYTES)
        try:
            yield reader, writer
        finally:
            await close_stream(writer)


class Acceptor:
    """The unix socket to which the daemon hands incoming streams; each runs its protocol's handler in a task.

    It accepts by itself: ``asyncio.Server`` (3.11) loses connections that it has accepted when it is closed before it
    has made their transports. Here a connection is on record from the moment it is accepted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handlers: dict[str, StreamHandler] = {}
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        self._listener: socket.socket | None = None

    async def start(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener = listener
        listener.setblocking(False)
        listener.bind(str(self.path))
        listener.listen(BACKLOG)
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        self._handlers[protocol] = handler

    async def close(self) -> None:
        """End every stream and take no more."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        connections = dict(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        # A task that is cancelled before its first step never reaches its own clean-up.
        for connection in connections.values():
            connection.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            self._pause(listener, error)
            return
        if len(self._connections) >= STREAMS_MAX:
            connection.close()
            return
        connection.setblocking(False)
        task = asyncio.create_task(self._run(connection))
        self._connections[task] = connection
        task.add_done_callback(lambda done: self._connections.pop(done, None))

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """Out of file handles, most likely: look again a little later instead of at every turn of the loop."""
        log.warning("no stream can be accepted for %g s: %s", PAUSE_S, error)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(PAUSE_S, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if self._listener is listener:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def _run(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=READ_BUFFER_BYTES)
        try:
            async with asyncio.timeout(ACCEPT_TIMEOUT_S):
                info = p2pd_pb2.StreamInfo()
                await read_pbmsg_safe(reader, info)
            handler = self._handlers.get(info.proto)
            if handler is not None:
                await handler(PeerID(info.peer).to_base58(), reader, writer)
        except (OSError, EOFError, TimeoutError) as error:
            log.debug("a stream broke off: %r", error)
        except Exception:
            log.exception("a stream handler failed")
        finally:
            await close_stream(writer)


async def close_stream(writer: asyncio.StreamWriter) -> None:
    """End a stream whose talk is over: bytes not yet sent are dropped, for nobody waits for them any more.

    The wait is shielded: a task cancelled in it would cancel the future that every other waiter shares.
    """
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await asyncio.shield(asyncio.ensure_future(writer.wait_closed()))


async def _ask(stream: Stream, request: Any) -> Any:
    reader, writer = stream
    await write_pbmsg(writer, request)
    answer = p2pd_pb2.Response()
    await read_pbmsg_safe(reader, answer)
    if answer.type == p2pd_pb2.Response.ERROR:
        raise DaemonRefusal(str(answer.error.msg))
    return answer
