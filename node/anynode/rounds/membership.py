"""What a member of a job knows: who it is, the round under way, its work, and where its chunks are."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anynode.rounds.effects import Deliver, MemberEffect
from anynode.rounds.messages import ChunkDone, DeliveryReceipt, Receipt, Reduced, WorkDone
from anynode.rounds.records import GENESIS, Assign, Judged, Member, Open, Result, Seal
from anynode.rounds.table import Table

WITNESS_SHARE = 0.25
"""After this part of an exchange a sender without receipt turns to the witness."""
LATE_SHARE = 0.5
"""After this part of an exchange a reducer goes without the senders that have not delivered."""
WORK_SHARE = 0.85
"""The part of a round's time for work in which inner steps are taken; the rest is for the update and its commitment."""


@dataclass(frozen=True, slots=True)
class Self:
    """Who this member is, and how often it repeats what was not answered (seconds). ``reduces``: others reach it."""

    job: str
    node: str
    peer: str
    hardware: str
    code_version: str
    reduces: bool = True
    sync_s: float = 1.0
    join_s: float = 5.0
    resend_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Chunks that go to one reducer in one delivery."""

    reducer: int
    witness: int
    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class State:
    """Everything a member knows. ``held_root`` is the state it has saved: the one ``held_round`` starts from.

    Of the exchange: ``sealed_root`` is its own update as sealed, ``batches`` are what is to be delivered, ``delivered``
    the pairs of chunk and reducer for which there is a receipt, ``mine`` the chunks to be reduced here, ``arrived``
    their senders so far, ``done`` what was said of them to the coordinator, ``witnessed`` the deliveries taken for
    another reducer, and ``handed_on`` those of them for which that reducer has given a receipt.
    """

    me: Self
    height: int = 0
    head: str = GENESIS
    closed_round: int = -1
    closed_root: str = ""
    held_round: int = -1
    held_root: str = ""
    open: Open | None = None
    opened_at: float = 0.0
    seal: Seal | None = None
    sealed_root: str = ""
    assign: Assign | None = None
    assigned_at: float = 0.0
    result: Result | None = None
    slot: int | None = None
    work: WorkDone | None = None
    receipt: Receipt | None = None
    batches: tuple[Batch, ...] = ()
    delivered: frozenset[tuple[int, int]] = frozenset()
    mine: tuple[int, ...] = ()
    arrived: Mapping[int, Table[int, bool]] = field(default_factory=dict)
    reduced: Mapping[int, Reduced] = field(default_factory=dict)
    done: tuple[ChunkDone, ...] = ()
    witnessed: tuple[DeliveryReceipt, ...] = ()
    handed_on: frozenset[DeliveryReceipt] = frozenset()
    refused: str = ""
    finished: bool = False
    asked: Table[str, float] = field(default_factory=Table)


Step = tuple[State, list[MemberEffect]]


def find_slot(members: Sequence[Member] | Sequence[Judged], node: str) -> int | None:
    """The slot of ``node`` in a list in order of nodes, found without reading all of it."""
    place = bisect_left(members, node, key=lambda item: item.node)
    return members[place].slot if place < len(members) and members[place].node == node else None


def is_among(slot: int | None, slots: Sequence[int]) -> bool:
    """Whether ``slot`` is in an ascending list, found without reading all of it."""
    place = bisect_left(slots, slot) if slot is not None else len(slots)
    return place < len(slots) and slots[place] == slot


def delivery_key(deliver: Deliver) -> str:
    """The name under which a delivery is waited for."""
    return f"deliver {deliver.attempt} {deliver.slot} {deliver.chunks[0]} {deliver.for_slot} {deliver.to_slot}"
