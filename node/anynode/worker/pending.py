"""What verifiers have asked a member to compute, under way or done: only so many of each are held at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from anynode.swarm.frames import Code, PeerRefusedError

T = TypeVar("T")

PENDING_MAX = 4
LATER_S = 10.0


@dataclass
class Pending(Generic[T]):
    """Under way, or done: then ``task`` has the answer. ``done``: steps so far."""

    task: asyncio.Task[T]
    done: int = 0


K = TypeVar("K")
P = TypeVar("P", bound=Pending[Any])


def make_room(items: dict[K, P]) -> None:
    """Forget the oldest that are done, so that one more has room. Raises ``PeerRefusedError``, which says when to ask
    again, while as many are under way.
    """
    finished = [key for key, item in items.items() if item.task.done()]
    if len(items) - len(finished) >= PENDING_MAX:
        sentence = "this node has enough to do for verifiers; ask again later"
        raise PeerRefusedError(sentence, code=Code.BUSY, retry_after_s=LATER_S)
    for key in finished[: max(0, len(items) - PENDING_MAX + 1)]:
        del items[key]
