"""What a member of a job knows: who it is, the round under way, its work, and where its chunks are."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anynode.rounds.course import Assign, Member, Open, Result, Seal
from anynode.rounds.effects import Deliver, MemberEffect
from anynode.rounds.events import Reduced, WorkDone
from anynode.rounds.judgements import Judged
from anynode.rounds.messages import ChunkDone, DeliveryReceipt, Receipt
from anynode.rounds.own_standing import OwnStanding
from anynode.rounds.records import GENESIS
from anynode.rounds.table import Table

WITNESS_SHARE = 0.25
"""After this part of an exchange a sender without receipt turns to the first witness."""
NEXT_WITNESS_SHARE = 0.08
"""After this further part to the next one: so that all have been asked before the reducer may go without."""
STAY_S = 45.0
"""So long after the job's end a member stays for its last verdicts: audits may need what it keeps."""
VERDICT_S = 900.0
"""A verdict is overdue so long after the seal: replays, and a chain that is down for a while, take less."""
LATE_SHARE = 0.5
"""After this part of an exchange a reducer goes without the senders that have not delivered."""
TELL_S = 0.25
"""So often a reducer says what it has averaged, so that its results leave while it averages the rest."""
ASKS_S = 10.0
"""So long a member that was excluded when it stopped asks for newer records before it ends again."""
TOLD_S = 3.0
"""So long a member that has restarted inside a round waits to hear what is left of it."""
CATCH_UP_ROUNDS = 8
"""A state that is at most so many rounds old is brought up to date by their averages: they are far smaller than a
state, which on a slow line would be out of date again when it has come.
"""
WORK_SHARE = 0.85
"""The part of a round's time for work in which inner steps are taken; the rest is for the update and its commitment."""


@dataclass(frozen=True, slots=True)
class Self:
    """Who this member is, and how often it repeats what was not answered (seconds). ``reduces``: others reach it.
    ``audits``: it takes audit tasks.
    """

    job: str
    node: str
    peer: str
    hardware: str
    code_version: str
    reduces: bool = True
    audits: bool = False
    sync_s: float = 1.0
    join_s: float = 5.0
    resend_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Chunks that go to one reducer in one delivery."""

    reducer: int
    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A sealed round without its verdict: what its audit secret must hash to, and since when it is waited for."""

    secret_hash: str
    since: float


@dataclass(frozen=True, slots=True)
class State:
    """Everything a member knows. ``held_root`` is the state it has saved: the one ``held_round`` starts from.

    Inner steps of the round are taken until ``work_until``. A member that found its round open when it started does not
    know how long it has been: it asks, and waits for the answer until ``waits_until``.

    ``own`` is how it stands by the records: that it is excluded is taken from nobody's word. Where it was when it
    started, it asks for newer records until ``asks_until``, among which a granted appeal may be. ``turned_away`` is why
    the coordinator would not have it join, for example in another version.

    ``over``: this member has no further part in the job, or the job has ended and so have its audits.

    ``past`` are the last rounds that have closed, from which an older state is brought up to date.

    Of the exchange: ``sealed_root`` is its own update as sealed, ``batches`` are what is to be delivered, ``delivered``
    the pairs of chunk and reducer for which there is a receipt, ``mine`` the chunks to be reduced here, ``arrived``
    their senders so far, ``done`` what was said of them to the coordinator, for the last time ``told_at``,
    ``witnessed`` the deliveries taken for another reducer, and ``handed_on`` those of them for which that reducer has
    given a receipt. ``fixed`` are the senders with which a chunk is averaged here, chosen once; a chunk that was taken
    from this reducer when its senders were fixed is ``barred`` to deliveries of attempts before that. ``receipts`` are
    those of others for its own chunks, and ``claims`` those of them, by round, whose chunks a result leaves out.
    """

    me: Self
    height: int = 0
    head: str = GENESIS
    closed_round: int = -1
    closed_root: str = ""
    held_round: int = -1
    held_root: str = ""
    past: tuple[tuple[Open, Result], ...] = ()
    open: Open | None = None
    work_until: float = 0.0
    waits_until: float = -math.inf
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
    told_at: float = 0.0
    witnessed: tuple[DeliveryReceipt, ...] = ()
    handed_on: frozenset[DeliveryReceipt] = frozenset()
    fixed: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    barred: Mapping[int, int] = field(default_factory=dict)
    receipts: tuple[DeliveryReceipt, ...] = ()
    claims: Mapping[int, tuple[DeliveryReceipt, ...]] = field(default_factory=dict)
    unjudged: Mapping[int, Unjudged] = field(default_factory=dict)
    asks_until: float = -math.inf
    own: OwnStanding = field(default_factory=OwnStanding)
    turned_away: str = ""
    finished: bool = False
    finished_at: float = 0.0
    over: bool = False
    asked: Table[str, float] = field(default_factory=Table)

    @property
    def refused(self) -> str:
        """Why this node has no further part; empty while it has."""
        return self.own.standing.banned or self.turned_away


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
