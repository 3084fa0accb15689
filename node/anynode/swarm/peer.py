"""A peer: one node's presence in the swarm. It serves named requests, calls other peers and keeps signed DHT records.

Usage::

    async with await Peer.start(identity, 4001, initial_peers, state_dir=folder, network="demo") as peer:
        await peer.serve("echo", echo, limit_bytes=1024)
        answer = await peer.call(peer_id, "echo", b"hello", timeout_s=30, limit_bytes=1024)
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from anynode.rounds.messages import PROTOCOL
from anynode.swarm.conduct import Conduct
from anynode.swarm.control import Acceptor, Control
from anynode.swarm.daemon import Daemon, DaemonEndedError
from anynode.swarm.dialing import HELLO_TIMEOUT_S, Dialer
from anynode.swarm.directory_calls import DHT_RATE, CallGuard
from anynode.swarm.frames import FRAME_BYTES_MAX
from anynode.swarm.hello import HELLO_PROTOCOL, Hello, protocol_name
from anynode.swarm.limits import Gate, Rate, RateLimiter
from anynode.swarm.reachability import Way, check_announced, parse_address, way_in
from anynode.swarm.record_table import RecordTable
from anynode.swarm.records import Record, RecordRules, Sign
from anynode.swarm.service import Handler, Service
from anynode.swarm.settings import DaemonSettings
from anynode.swarm.streams import StreamPool
from anynode.swarm.strikes import StrikeRules
from anynode.swarm.traffic import Traffic
from anynode_contracts.errors import UserError, invariant

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 60.0
ANSWER_BYTES_MAX = 1 << 20
ENDING_S = 2.0
DEFAULT_RATE = Rate()


class Peer:
    """A started peer; make one with :meth:`start` and close it, best by ``async with``.

    Peer ids are libp2p's (base58). Streams are encrypted and authenticated by libp2p, so the ``peer_id`` that a handler
    gets is who called. ``addresses`` are multiaddrs at which others may reach this peer; `way_in` brings them up to
    date. ``conduct`` holds who is dropped for sending rubbish, ``traffic`` the bytes of every service.
    """

    def __init__(
        self,
        daemon: Daemon,
        settings: DaemonSettings,
        hello: Hello,
        clock: Callable[[], float],
        strike_rules: StrikeRules | None,
    ) -> None:
        self.peer_id = daemon.peer_id
        self.addresses: tuple[str, ...] = ()
        self._daemon = daemon
        self._settings = settings
        self._hello = hello
        self._clock = clock
        self._control = Control(daemon.control_path)
        self._streams = StreamPool()
        self.conduct = Conduct(daemon.peer_id, clock, strike_rules)
        self.traffic = Traffic()
        self._dialer = Dialer(self._control, self._streams, hello, self.conduct, daemon.ended.is_set)
        self._acceptor = Acceptor(daemon.folder / "streams.sock")
        self._services: dict[str, Service] = {}
        self._records: RecordTable | None = None

    @classmethod
    async def start(
        cls,
        identity_path: Path,
        port: int = 0,
        initial_peers: Sequence[str] = (),
        host: str = "127.0.0.1",
        *,
        state_dir: Path,
        network: str,
        settings: DaemonSettings | None = None,
        record_rules: RecordRules | None = None,
        clock: Callable[[], float] = time.monotonic,
        protocol: int = PROTOCOL,
        software: str = "anynode",
        strike_rules: StrikeRules | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        say: Callable[[str], None] = log.info,
    ) -> Peer:
        """Start the libp2p daemon, connect to ``initial_peers`` and, with ``record_rules``, join the DHT.

        ``say`` hears what is waited for.
        ``port`` 0 takes a free one. ``settings`` hold the NAT and relay options; its host and port are replaced.
        Raises ``UserError`` (port taken, identity in use, bad address), ``UnreachableError`` (no initial peer
        answers) or ``RefusedError`` (other protocol version or network).
        """
        chosen = dataclasses.replace(settings or DaemonSettings(), host=host, port=port)
        initial = tuple(initial_peers)
        for address in (*initial, *chosen.trusted_relays):
            parse_address(address)
        for address in chosen.announce:
            check_announced(address)
        daemon = await Daemon.start(identity_path, chosen, state_dir, initial_peers=initial, say=say)
        hello = Hello(network=network, protocols=(protocol,), software=software)
        peer = cls(daemon, chosen, hello, clock, strike_rules)
        try:
            await peer._open()
            if initial:
                say(f"connecting to {len(initial)} initial peer{'s' if len(initial) > 1 else ''}")
            joined = await peer.join(initial, timeout_s=connect_timeout_s) if initial else ()
            if record_rules is not None:
                say("joining the directory of the network")
                guard = CallGuard(protocol, peer.conduct, RateLimiter(DHT_RATE, clock))
                peer._records = await RecordTable.start(
                    daemon.control_path, record_rules, joined, guard, client_only=chosen.dht_mode == "client"
                )
        except BaseException:
            await peer.close()
            raise
        return peer

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close. An error that the end of our daemon has caused becomes ``DaemonEndedError``."""
        ended = _is_broken_connection(error) and await self._ends()
        await self.close()
        if ended:
            raise DaemonEndedError(self._last_words) from error

    async def close(self) -> None:
        """Leave the swarm and end the daemon. Safe to call twice."""
        try:
            if self._records is not None:
                records, self._records = self._records, None
                await records.close()
            await self._streams.close()
            await self._acceptor.close()
        finally:
            await self._daemon.close()

    async def wait_ended(self) -> str:
        """Wait until the libp2p daemon ends (it should not, before :meth:`close`) and return its last words."""
        await self._daemon.ended.wait()
        return self._last_words

    @property
    def _last_words(self) -> str:
        return self._daemon.last_words[-1] if self._daemon.last_words else ""

    async def _ends(self) -> bool:
        """Whether the daemon has ended; its sockets may tell a moment before its process does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                await self._daemon.ended.wait()
        return self._daemon.ended.is_set()

    async def watch(self) -> NoReturn:
        """Raise ``DaemonEndedError`` when the daemon ends although this peer was not closed: nothing works then."""
        raise DaemonEndedError(await self.wait_ended())

    async def serve(
        self,
        name: str,
        handler: Handler,
        *,
        limit_bytes: int,
        rate: Rate = DEFAULT_RATE,
        concurrency: int = 16,
        per_peer: int = 4,
        waiting_max: int = 128,
        timeout_s: float = 60.0,
    ) -> None:
        """Answer requests ``name`` with ``await handler(peer_id, request)``.

        A ``UserError`` from the handler is sent to the caller as its sentence, any other exception as a fault
        without details (they go to the log). Requests over ``limit_bytes``, over ``rate`` per peer or over the
        queue (``concurrency`` at a time, ``per_peer`` of one peer, ``waiting_max`` more of one waiting) are refused.
        """
        invariant(name not in self._services, f"{name} is served already")
        invariant(0 <= limit_bytes <= FRAME_BYTES_MAX, "request limit within the frame limit")
        service = Service(
            name=name,
            handler=handler,
            limit_bytes=limit_bytes,
            limiter=RateLimiter(rate, self._clock),
            gate=Gate(concurrency=concurrency, per_peer=per_peer, waiting_max=waiting_max),
            timeout_s=timeout_s,
            conduct=self.conduct,
            traffic=self.traffic,
        )
        await self._register(protocol_name(name, self._hello.protocols[0]), service)

    async def call(
        self,
        peer_id: str,
        name: str,
        request: bytes,
        timeout_s: float = CALL_TIMEOUT_S,
        limit_bytes: int = ANSWER_BYTES_MAX,
        *,
        silent_s: float | None = None,
    ) -> bytes:
        """Send ``request`` to handler ``name`` of a peer and return its answer of at most ``limit_bytes``. ``silent_s``
        is how long nothing of it may come: who is slow is given its time, up to ``timeout_s``, and who is silent not.

        A call to oneself runs the handler directly. Raises ``PeerRefusedError`` (a ``RefusedError`` with code and
        retry time) when the peer says no or breaks the protocol, ``UnreachableError`` when it does not answer.
        """
        invariant(len(request) <= FRAME_BYTES_MAX, f"a {name} request is over the frame limit")
        if peer_id == self.peer_id and name in self._services:
            return await self._services[name].respond(peer_id, request)
        self.conduct.require_not_dropped(peer_id)
        self.traffic.sent(name, len(request))
        answer = await self._dialer.call(peer_id, name, request, timeout_s, limit_bytes, silent_s=silent_s)
        self.traffic.received(name, len(answer))
        return answer

    def blaming(self, peer_id: str) -> AbstractContextManager[None]:
        """What is checked inside came from ``peer_id``: see :meth:`Conduct.blaming`."""
        return self.conduct.blaming(peer_id)

    async def way_in(self) -> Way:
        """How others reach this peer now; ``addresses`` are then up to date."""
        with _own_daemon():
            _, self.addresses = await self._control.identify()
        return way_in(self.addresses)

    async def hello(self, peer_id: str, timeout_s: float = HELLO_TIMEOUT_S) -> Hello:
        """What a peer says of itself, whatever protocol version it speaks. Raises as :meth:`call`."""
        return await self._dialer.hello(peer_id, timeout_s)

    async def connect(self, address: str, timeout_s: float = CONNECT_TIMEOUT_S) -> str:
        """Connect to the peer at ``address`` (a multiaddr ending in ``/p2p/<peer id>``), check that it speaks our
        protocol in our network, and return its peer id. Raises as :meth:`call`; ``UserError`` for a bad address."""
        return await self._dialer.connect(address, timeout_s)

    async def join(self, addresses: Sequence[str], timeout_s: float = CONNECT_TIMEOUT_S) -> tuple[str, ...]:
        """Connect to all ``addresses`` at once and return those that answered. Raises if none did: the
        ``RefusedError`` of one that said no, else an ``UnreachableError`` with all that was tried."""
        relays = self._settings.relays(tuple(addresses))
        return await self._dialer.join(addresses, timeout_s, relays=relays, loopback=self._settings.loopback)

    async def connected_peers(self) -> tuple[str, ...]:
        """The ids of the peers to which a connection is open now."""
        with _own_daemon():
            return await self._control.connected_peers()

    async def put_record(self, key: str, body: dict[str, Any], signer: Sign, ttl_s: int) -> Record:
        """Store a signed record in the DHT; see :meth:`RecordTable.put`. ``key`` is "kind/name"."""
        return await self._record_table().put(key, body, signer, ttl_s)

    async def get_records(self, key: str) -> tuple[Record, ...]:
        """The checked, unexpired records under ``key``, one of each signer."""
        return await self._record_table().get(key)

    def _record_table(self) -> RecordTable:
        if self._records is None:
            raise UserError("this peer keeps no DHT records; start it with record rules")
        return self._records

    async def _open(self) -> None:
        await self._acceptor.start()
        _, self.addresses = await self._control.identify()
        hello = Service(
            name="hello",
            handler=self._say_hello,
            limit_bytes=0,
            limiter=RateLimiter(Rate(per_s=10.0, burst=50), self._clock),
            gate=Gate(concurrency=16, per_peer=4, waiting_max=16),
            timeout_s=HELLO_TIMEOUT_S,
            conduct=self.conduct,
            traffic=self.traffic,
        )
        await self._register(HELLO_PROTOCOL, hello)

    async def _register(self, protocol: str, service: Service) -> None:
        self._acceptor.handle(protocol, service.on_stream)
        self._services[service.name] = service
        await self._control.register(protocol, self._acceptor.path)

    async def _say_hello(self, peer_id: str, request: bytes) -> bytes:
        return self._hello.to_bytes()


def _is_broken_connection(error: BaseException | None) -> bool:
    """Whether nothing but connections broke, in one task or several."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_broken_connection(inner) for inner in error.exceptions)
    return isinstance(error, (ConnectionError, EOFError))


@contextmanager
def _own_daemon() -> Iterator[None]:
    """Words a broken control socket: our daemon has ended, which its socket may tell before its process does."""
    try:
        yield
    except (ConnectionError, FileNotFoundError, EOFError) as error:
        raise DaemonEndedError from error
