"""What the cores ask their shells to do. Every effect may be asked for again, so carrying it out twice is harmless."""

from __future__ import annotations

from dataclasses import dataclass

from anynode.rounds.messages import (
    ChunkDone,
    Commitment,
    Delivery,
    DeliveryReceipt,
    Join,
    Receipt,
    Refused,
    StateReport,
    Sync,
)
from anynode.rounds.records import Assign, Open, Record, Result, Seal

# ---------------------------------------------------------------- of a member


@dataclass(frozen=True, slots=True)
class Send:
    """Sign if needed and send to the coordinator; an answer comes back as a message."""

    message: Join | Sync | Commitment | ChunkDone | DeliveryReceipt | StateReport


@dataclass(frozen=True, slots=True)
class StartWork:
    """Train slot ``slot`` of this round for at most ``time_limit_s``; answer `WorkDone` or `Failed`."""

    open: Open
    slot: int
    time_limit_s: float


@dataclass(frozen=True, slots=True)
class StopWork:
    """The round went on without us: stop training."""

    round: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand chunks of the update ``update_root`` of slot ``slot`` to ``to_slot``, for their reducer ``for_slot``; the
    receipt comes back as a message.
    """

    round: int
    attempt: int
    slot: int
    to_slot: int
    chunks: tuple[int, ...]
    update_root: str
    for_slot: int


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Sign a receipt for the delivered chunks and return it to the sender."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Reduce:
    """Average a chunk from these senders; answer `Reduced` or `Failed`."""

    open: Open
    seal: Seal
    assign: Assign
    chunk: int
    senders: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """Fetch the averaged chunks, compute the next state and save it; answer `Applied` or `Failed`."""

    open: Open
    result: Result


@dataclass(frozen=True, slots=True)
class FetchState:
    """Fetch a whole state by its root; answer `StateFetched` or `Failed`."""

    state_round: int
    state_root: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that must not happen did; tell the user. The core has already chosen how to recover."""

    sentence: str


# ---------------------------------------------------------------- of the coordinator


@dataclass(frozen=True, slots=True)
class Append:
    """Sign this record, keep it for ever, and push it to the members."""

    record: Record


@dataclass(frozen=True, slots=True)
class Answer:
    """Sign if needed and send to a member."""

    node: str
    message: Receipt | Refused


@dataclass(frozen=True, slots=True)
class SendRecords:
    """Send the records from ``height`` on to a member."""

    node: str
    height: int


@dataclass(frozen=True, slots=True)
class GetBeacon:
    """Read the newest block; answer `Beacon`."""

    round: int


@dataclass(frozen=True, slots=True)
class Replay:
    """Recompute a slot's work; answer `Replayed`."""

    open: Open
    seal: Seal
    slot: int


@dataclass(frozen=True, slots=True)
class FetchResult:
    """Fetch averaged chunks from their reducer; answer `ResultFetched` or `Failed`."""

    open: Open
    done: ChunkDone


@dataclass(frozen=True, slots=True)
class DrawAudits:
    """When the sealed height is reached, draw the slots to audit; answer `Drawn`."""

    open: Open
    seal: Seal
    candidates: tuple[int, ...]


MemberEffect = Send | StartWork | StopWork | Deliver | Acknowledge | Reduce | Apply | FetchState | Fault
CoordinatorEffect = Append | Answer | SendRecords | GetBeacon | Replay | FetchResult | Apply | DrawAudits | Fault
