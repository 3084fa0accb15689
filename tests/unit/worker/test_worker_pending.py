"""How much verifiers may ask of a member at a time."""

from __future__ import annotations

import asyncio

import pytest

from anynode.swarm.frames import Code, PeerRefusedError
from anynode.worker.pending import PENDING_MAX, Pending, make_room


async def test_only_what_is_done_makes_room_the_oldest_first() -> None:
    waiting = asyncio.Event()

    async def work() -> None:
        await waiting.wait()

    items = {number: Pending(asyncio.create_task(work())) for number in range(PENDING_MAX)}
    with pytest.raises(PeerRefusedError, match="ask again later") as refused:
        make_room(items)
    assert refused.value.code is Code.BUSY, "a verifier does ask again, and does not take it for a refusal"
    assert refused.value.retry_after_s > 0
    assert len(items) == PENDING_MAX
    waiting.set()
    await asyncio.gather(*(item.task for item in items.values()))
    make_room(items)
    assert list(items) == list(range(1, PENDING_MAX))
