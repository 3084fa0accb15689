"""Asks a member for something that takes it time, again and again, for as long as it makes progress."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from anynode.swarm.frames import Code, PeerRefusedError
from anynode.swarm.peer import Peer
from anynode_contracts.errors import UnreachableError

T = TypeVar("T")

POLL_S = 1.0
CALL_TIMEOUT_S = 30.0
STALL_S = 180.0
"""How long a member may work without a step of progress; starting PyTorch is part of it."""
RESTS_MAX = 60


@dataclass(frozen=True, slots=True)
class Poll:
    """Calls to members. ``clock`` counts seconds."""

    peer: Peer
    clock: Callable[[], float]

    async def until_ready(
        self,
        member: str,
        service: str,
        request: bytes,
        reply_bytes_max: int,
        parse: Callable[[bytes], tuple[int, T | None]],
        *,
        limit_s: float = math.inf,
    ) -> T:
        """What ``parse`` finds in a reply, which until then says how many steps have been done.

        Raises ``UnreachableError`` when the member is silent, makes no progress or takes longer than ``limit_s``, and
        ``RefusedError`` when it refuses for good.
        """
        done, rests, began_s = -1, 0, self.clock()
        since_s = began_s
        while True:
            try:
                raw = await self.peer.call(member, service, request, CALL_TIMEOUT_S, reply_bytes_max)
            except PeerRefusedError as error:
                rests += 1
                if error.code not in (Code.RATE_LIMITED, Code.BUSY) or rests > RESTS_MAX:
                    raise
                await asyncio.sleep(max(POLL_S, min(error.retry_after_s, CALL_TIMEOUT_S)))
                continue
            with self.peer.blaming(member):
                now_done, found = parse(raw)
            if found is not None:
                return found
            if now_done > done:
                done, since_s = now_done, self.clock()
            if self.clock() - since_s > STALL_S or self.clock() - began_s > limit_s:
                raise UnreachableError(f"it has not been ready in {self.clock() - began_s:.0f} s")
            await asyncio.sleep(POLL_S)
