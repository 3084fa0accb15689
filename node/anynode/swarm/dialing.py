"""Calling other peers: reach one, check that it speaks our protocol, send it a request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anynode.swarm.conduct import Conduct
from anynode.swarm.control import Control, DaemonRefusal, Stream, close_stream
from anynode.swarm.daemon import DaemonEndedError
from anynode.swarm.frames import Code, Kind, PeerRefusedError, frame, parse_error, read_frame, short
from anynode.swarm.hello import (
    HELLO_BYTES_MAX,
    HELLO_PROTOCOL,
    Hello,
    check_hello,
    parse_hello,
    protocol_name,
)
from anynode.swarm.reachability import Way, libp2p_reason, nobody_reachable, parse_address, unreachable_peer, way_in
from anynode.swarm.streams import StreamPool
from anynode_contracts.errors import Offence, RefusedError, UnreachableError, UserError

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 30.0
NOT_SUPPORTED = "protocols not supported"


@dataclass(frozen=True, slots=True)
class Dialer:
    """Reaches peers through the daemon at ``control``. ``ours`` is what we say of ourselves; ``conduct`` hears of
    answers that are none; ``daemon_ended`` tells a failure of our own daemon from one of the peer."""

    control: Control
    streams: StreamPool
    ours: Hello
    conduct: Conduct
    daemon_ended: Callable[[], bool]

    async def call(
        self,
        peer_id: str,
        name: str,
        request: bytes,
        timeout_s: float,
        limit_bytes: int,
        *,
        silent_s: float | None = None,
    ) -> bytes:
        """See :meth:`anynode.swarm.peer.Peer.call`."""
        protocol = protocol_name(name, self.ours.protocols[0])
        try:
            return await self._exchange(peer_id, protocol, request, timeout_s, limit_bytes, silent_s=silent_s)
        except DaemonRefusal as refusal:
            if NOT_SUPPORTED not in str(refusal):
                raise unreachable_peer(peer_id, str(refusal)) from refusal
        # The peer runs but does not know this handler: ask it what it speaks, to say why.
        check_hello(await self.hello(peer_id), peer_id, self.ours)
        raise PeerRefusedError(
            f"peer {short(peer_id)} does not offer {name!r}; it has another task in this network",
            code=Code.NOT_SERVED,
            peer_id=peer_id,
        )

    async def hello(self, peer_id: str, timeout_s: float = HELLO_TIMEOUT_S) -> Hello:
        """What a peer says of itself, whatever protocol version it speaks."""
        try:
            answer = await self._exchange(peer_id, HELLO_PROTOCOL, b"", timeout_s, HELLO_BYTES_MAX)
        except DaemonRefusal as refusal:
            if NOT_SUPPORTED not in str(refusal):
                raise unreachable_peer(peer_id, str(refusal)) from refusal
            raise PeerRefusedError(
                f"peer {short(peer_id)} does not speak AnyNode; check its address",
                code=Code.MALFORMED,
                peer_id=peer_id,
            ) from refusal
        return parse_hello(answer, peer_id)

    async def connect(self, address: str, timeout_s: float) -> str:
        """See :meth:`anynode.swarm.peer.Peer.connect`."""
        target = parse_address(address)
        try:
            async with asyncio.timeout(timeout_s):
                await self.control.connect(target.peer_id, [target.transport])
        except DaemonRefusal as refusal:
            if "peer id mismatch" in str(refusal):
                raise PeerRefusedError(
                    f"another peer than {short(target.peer_id)} runs at {target.transport}; ask for its new address",
                    code=Code.IDENTITY,
                    peer_id=target.peer_id,
                ) from refusal
            raise unreachable_peer(target.peer_id, str(refusal)) from refusal
        except TimeoutError as error:
            raise UnreachableError(
                f"peer {short(target.peer_id)} at {target.transport} did not answer within {timeout_s:g} s; check"
                " that it runs and that no firewall is between"
            ) from error
        except (OSError, EOFError) as error:
            raise self._broken_off(target.peer_id) from error
        check_hello(await self.hello(target.peer_id, timeout_s), target.peer_id, self.ours)
        return target.peer_id

    async def join(
        self, addresses: Sequence[str], timeout_s: float, *, relays: Sequence[str], loopback: bool
    ) -> tuple[str, ...]:
        """See :meth:`anynode.swarm.peer.Peer.join`."""
        failures = await self._connect_all(addresses, timeout_s)
        joined = tuple(address for address, failure in failures.items() if failure is None)
        if joined:
            return joined
        for failure in failures.values():
            if isinstance(failure, RefusedError):
                raise failure
        others = [relay for relay in relays if relay not in failures]
        tried = {address: _why(failure) for address, failure in failures.items()}
        relayed = {address: _why(failure) for address, failure in (await self._connect_all(others, timeout_s)).items()}
        _, own = await self.control.identify()
        behind_nat = not loopback and way_in(own) is not Way.DIRECT
        raise nobody_reachable(tried, relayed, loopback=loopback, behind_nat=behind_nat)

    async def _connect_all(self, addresses: Sequence[str], timeout_s: float) -> dict[str, UserError | None]:
        """Try to connect to all at once: each address with why it failed, or None."""
        attempts = (self._try_to_connect(address, timeout_s) for address in addresses)
        return dict(zip(addresses, await asyncio.gather(*attempts), strict=True))

    async def _try_to_connect(self, address: str, timeout_s: float) -> UserError | None:
        try:
            await self.connect(address, timeout_s)
        except UserError as error:
            log.warning("initial peer %s: %s", address, error)
            return error
        return None

    async def _exchange(
        self,
        peer_id: str,
        protocol: str,
        request: bytes,
        timeout_s: float,
        limit_bytes: int,
        *,
        silent_s: float | None = None,
    ) -> bytes:
        clock = asyncio.get_running_loop().time
        silence = asyncio.timeout(silent_s)

        def heard() -> None:
            silence.reschedule(None if silent_s is None else clock() + silent_s)

        try:
            async with asyncio.timeout(timeout_s), silence:
                kept = self.streams.kept(peer_id, protocol)
                if kept is not None:
                    # The peer may just have closed it; every request may be sent again without harm.
                    with contextlib.suppress(OSError, EOFError):
                        return await self._over(kept, peer_id, protocol, request, limit_bytes, heard=heard)
                stream = await self.control.open_stream(peer_id, protocol)
                return await self._over(stream, peer_id, protocol, request, limit_bytes, heard=heard)
        except TimeoutError as error:
            waited_s = silent_s if silent_s is not None and silence.expired() else timeout_s
            raise UnreachableError(
                f"peer {short(peer_id)} did not answer {protocol} within {waited_s:g} s; it may be busy or gone,"
                " try again"
            ) from error
        except (OSError, EOFError) as error:
            raise self._broken_off(peer_id) from error

    async def _over(
        self,
        stream: Stream,
        peer_id: str,
        protocol: str,
        request: bytes,
        limit_bytes: int,
        *,
        heard: Callable[[], None],
    ) -> bytes:
        """One request over a stream, which is kept if all went well."""
        try:
            answer = await self._request(stream, peer_id, request, limit_bytes, heard)
        except BaseException:
            await close_stream(stream[1])
            raise
        self.streams.give_back(peer_id, protocol, stream)
        return answer

    async def _request(
        self, stream: Stream, peer_id: str, request: bytes, limit_bytes: int, heard: Callable[[], None]
    ) -> bytes:
        reader, writer = stream
        for part in frame(Kind.REQUEST, request):
            writer.write(part)  # not drained: a refusal may come before all is sent
        try:
            kind, payload = await read_frame(reader, limit_bytes=limit_bytes, heard=heard)
        except PeerRefusedError as error:
            offence = Offence.OVERSIZE if error.code == Code.TOO_LARGE else Offence.FRAME
            raise self._no_answer(peer_id, offence, f"peer {short(peer_id)}: {error}", error.code) from error
        if kind is Kind.ERROR:
            refusal = parse_error(payload, peer_id)
            if refusal.code == Code.UNREADABLE:
                self.conduct.strike(peer_id, Offence.FRAME, str(refusal))
            raise refusal
        if kind is not Kind.ANSWER:
            sentence = f"peer {short(peer_id)} sent no answer; update AnyNode on both sides"
            raise self._no_answer(peer_id, Offence.FRAME, sentence, Code.MALFORMED)
        return payload

    def _no_answer(self, peer_id: str, offence: Offence, sentence: str, code: str) -> PeerRefusedError:
        """A strike for what came instead of an answer, and the error to raise."""
        self.conduct.strike(peer_id, offence, sentence)
        return PeerRefusedError(sentence, code=code, peer_id=peer_id)

    def _broken_off(self, peer_id: str) -> UnreachableError:
        if self.daemon_ended():
            return DaemonEndedError()
        return UnreachableError(f"peer {short(peer_id)} broke off the connection; check that it runs and try again")


def _why(failure: UserError | None) -> str:
    if failure is None or isinstance(failure, RefusedError):
        return ""  # whoever says no can be reached
    cause = failure.__cause__
    return libp2p_reason(str(cause), with_address=False) if isinstance(cause, DaemonRefusal) else "no answer"
