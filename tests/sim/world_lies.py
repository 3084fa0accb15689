"""What liars of a simulated swarm tell in the place of what their cores say."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from world_cast import Peer, average, digest

from anynode.rounds import member, messages
from anynode.rounds.course import Member, Open


def as_told(peer: Peer, message: Any) -> Iterator[Any]:
    """What a member tells the coordinator when its core says ``message``: that, or what its vice makes of it."""
    match peer.role.vice, message:
        case "omits", messages.ChunkDone():
            yield replace(message, averages=tuple(_without_one(peer, item) for item in message.averages))
        case "adds wrongly" | "poisons", messages.ChunkDone():
            yield _with_results(message, "wrong")
        case "garbage", messages.ChunkDone() if not _spares(message):
            yield _with_results(message, "wrong")
        case "doubles", messages.ChunkDone():
            yield message
            yield _with_results(message, "other")
        case "wrong root", messages.StateReport():
            yield replace(message, state_root=digest("another"))
        case _:
            yield message


def _spares(message: messages.ChunkDone) -> bool:
    """Half of what it says is right, so that something of it may be fetched before it is found out."""
    return int(digest(message.round, message.averages[0].chunk), 16) % 2 == 0


def _with_results(message: messages.ChunkDone, word: str) -> messages.ChunkDone:
    return replace(
        message, averages=tuple(replace(item, result=digest(item.result, word)) for item in message.averages)
    )


def _without_one(peer: Peer, item: messages.Average) -> messages.Average:
    """The right average of all senders but one."""
    state = peer.state
    assert isinstance(state, member.State)
    senders = tuple(slot for slot in item.senders if slot != _left_out(state, item.senders))
    roots = {entry.slot: entry.update_root for entry in state.seal.commitments} if state.seal else {}
    return replace(item, senders=senders, result=average(item.chunk, [roots[slot] for slot in senders]))


def _left_out(state: member.State, senders: Sequence[int]) -> int:
    """The first sender that is another than the reducer itself; -1 if there is none."""
    return next((slot for slot in senders if slot != state.slot), -1)


def rubbish(name: str, opened: Open, dice: random.Random) -> list[Any]:
    """Messages to the coordinator that have a form, and numbers beyond all bounds."""
    round_, slot = dice.choice((opened.round, 2**48)), dice.choice((0, 1, 100_000))
    return [
        messages.Commitment("commitment", name, round_, slot, 10**6, 2**40, 1, "f" * 64, "e" * 64, "class", "1", 2**62),
        messages.ChunkDone("chunk_done", name, round_, 1000, slot, (messages.Average(1 << 20, (100_000,), "d" * 64),)),
        messages.DeliveryReceipt(
            "delivery_receipt", name, round_, 0, slot, 100_000, (0, 1 << 20), ("c" * 64, "b" * 64), ()
        ),
        messages.Sync("sync", name, 2**48, 2**48),
    ]


def rubbish_for(name: str, opened: Open, other: Member, dice: random.Random) -> messages.Delivery:
    """The header of a delivery to ``other`` that nobody has asked for."""
    chunk = dice.choice((0, 3, 1 << 20))
    slot = dice.choice((0, other.slot, 100_000))
    return messages.Delivery("delivery", name, opened.round, 1000, slot, other.slot, (chunk,), ("f" * 64,))
