"""hivemind's DHT calls under our limits: names with our protocol version, a size and a rate for each caller, strikes.

hivemind serves its DHT by itself, past our own services. What makes its handlers is told to make guarded ones instead.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hivemind.p2p import P2P, P2PContext, PeerID

from anynode.swarm.conduct import Conduct
from anynode.swarm.frames import Code, PeerRefusedError
from anynode.swarm.hello import protocol_name
from anynode.swarm.limits import Rate, RateLimiter
from anynode_contracts.errors import BreachError, Offence

DHT_REQUEST_BYTES_MAX = 1 << 20
"""A node hands a newcomer all the records that it shall keep in one request."""
DHT_RATE = Rate(per_s=20.0, burst=200)

_caller: contextvars.ContextVar[str] = contextvars.ContextVar("anynode_dht_caller")


@dataclass(frozen=True, slots=True)
class CallGuard:
    """Who may call, how often and with what; ``conduct`` hears of the others."""

    protocol: int
    conduct: Conduct
    limiter: RateLimiter

    def name(self, call: str) -> str:
        """The libp2p protocol of a call: peers of another version do not know it."""
        return protocol_name(call, self.protocol)

    def admit(self, peer_id: str, size_bytes: int) -> None:
        """Raise ``PeerRefusedError`` for a call over the limits or of a peer that is dropped."""
        self.conduct.require_not_dropped(peer_id)
        wait_s = self.limiter.take(peer_id)
        if wait_s > 0.0:
            sentence = f"too many DHT requests; try again in {wait_s:.2f} s"
            raise PeerRefusedError(sentence, code=Code.RATE_LIMITED, retry_after_s=wait_s)
        if size_bytes > DHT_REQUEST_BYTES_MAX:
            sentence = f"a DHT request of {size_bytes} bytes is over the limit of {DHT_REQUEST_BYTES_MAX}; send less"
            raise BreachError(sentence, Offence.OVERSIZE)

    def blame_caller(self, error: BreachError) -> None:
        """What is wrong came from whoever calls now; nobody is blamed for what lay here before."""
        peer_id = _caller.get("")
        if peer_id:
            self.conduct.strike(peer_id, error.offence, str(error))


class GuardedP2P(P2P):  # type: ignore[misc]  # hivemind has no types
    """hivemind's end of our daemon. ``guard`` is set before anything is served or called."""

    guard: CallGuard

    async def add_protobuf_handler(
        self,
        name: str,
        handler: Callable[[Any, P2PContext], Awaitable[Any]],
        input_protobuf_type: Any,
        **_options: object,
    ) -> None:
        """Serve one of the DHT's calls; none of them is a stream."""

        async def guarded(request: bytes, remote: PeerID) -> bytes:
            peer_id = remote.to_base58()
            _caller.set(peer_id)
            with self.guard.conduct.blaming(peer_id):
                self.guard.admit(peer_id, len(request))
                try:
                    message = input_protobuf_type.FromString(request)
                    answer = await handler(message, P2PContext(self.guard.name(name), self.peer_id, remote))
                except Exception as error:  # its handlers only read what they are sent, and fail over nothing else
                    raise BreachError(f"a {name} request is malformed; update AnyNode", Offence.SCHEMA) from error
            return bytes(answer.SerializeToString())

        await self._client.add_unary_handler(self.guard.name(name), guarded, balanced=False)

    async def remove_protobuf_handler(self, name: str, **_options: object) -> None:
        """Serve a call no longer."""
        await self._client.remove_unary_handler(self.guard.name(name))

    async def call_protobuf_handler(self, peer_id: PeerID, name: str, *arguments: Any) -> Any:
        """Make one of the DHT's calls to a peer that is not dropped."""
        self.guard.conduct.require_not_dropped(peer_id.to_base58())
        return await super().call_protobuf_handler(peer_id, self.guard.name(name), *arguments)
