"""What peers say to each other in a round, and what a shell tells its own core.

Messages that cross the network are the first part of this file; their protocol version and form and then their
signatures are checked at the edge (`wire.py`), so the cores trust the sender named in them. Events are what the local
shell reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import MaxLen, MinLen
from pydantic import ConfigDict

from anynode.rounds.ids import (
    Address,
    Attempt,
    Chunk,
    Hash,
    Height,
    Line,
    MicroBatch,
    Millijoule,
    PeerId,
    Round,
    Samples,
    Signature,
    Slot,
    StateRound,
    Steps,
)
from anynode.rounds.records import CHUNKS_PER_MESSAGE_MAX, MEMBERS_MAX, Record

PROTOCOL = 2
_STRICT = ConfigDict(strict=True, extra="forbid")

# ---------------------------------------------------------------- member -> coordinator


@dataclass(frozen=True, slots=True)
class Join:
    """A node asks for a place. The signature binds its node key to its libp2p peer. ``reduces``: others can reach it,
    so it takes chunks to reduce.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["join"]
    node: Address
    peer: PeerId
    hardware: Annotated[str, MaxLen(300)]
    code_version: Annotated[str, MaxLen(60)]
    reduces: bool
    signature: Signature = ""


@dataclass(frozen=True, slots=True)
class Sync:
    """A member is alive, has the records below ``height`` and holds the state of ``state_round`` (-1: none)."""

    __pydantic_config__ = _STRICT
    kind: Literal["sync"]
    node: Address
    height: Height
    state_round: StateRound


@dataclass(frozen=True, slots=True)
class Commitment:
    """A worker's signed word on what it did in a round (protocol.md, step 3)."""

    __pydantic_config__ = _STRICT
    kind: Literal["commitment"]
    node: Address
    round: Round
    slot: Slot
    steps: Steps
    samples: Samples
    micro_batch: MicroBatch
    update_root: Hash
    trace_root: Hash
    hardware: Annotated[str, MaxLen(300)]
    code_version: Annotated[str, MaxLen(60)]
    energy_mj: Millijoule = 0
    signature: Signature = ""


@dataclass(frozen=True, slots=True)
class Average:
    """One averaged chunk: the senders in it, and its hash."""

    __pydantic_config__ = _STRICT
    chunk: Chunk
    senders: Annotated[tuple[Slot, ...], MaxLen(MEMBERS_MAX)]
    result: Hash


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """A reducer has averaged these chunks; one signature covers them all."""

    __pydantic_config__ = _STRICT
    kind: Literal["chunk_done"]
    node: Address
    round: Round
    attempt: Attempt
    slot: Slot
    averages: Annotated[tuple[Average, ...], MinLen(1), MaxLen(CHUNKS_PER_MESSAGE_MAX)]
    signature: Signature = ""

    @property
    def chunks(self) -> tuple[int, ...]:
        return tuple(item.chunk for item in self.averages)


@dataclass(frozen=True, slots=True)
class StateReport:
    """A member has applied a round and holds the state that follows it."""

    __pydantic_config__ = _STRICT
    kind: Literal["state_report"]
    node: Address
    round: Round
    state_root: Hash
    signature: Signature = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """A member says good-bye: it is given no further work. What it committed keeps its worth."""

    __pydantic_config__ = _STRICT
    kind: Literal["leave"]
    node: Address


# ---------------------------------------------------------------- coordinator -> member


@dataclass(frozen=True, slots=True)
class Receipt:
    """The coordinator has this commitment. A receipt that is missing from the seal is evidence against it."""

    __pydantic_config__ = _STRICT
    kind: Literal["receipt"]
    node: Address
    round: Round
    slot: Slot
    update_root: Hash
    trace_root: Hash
    signature: Signature = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The coordinator will not have this node, and says why."""

    __pydantic_config__ = _STRICT
    kind: Literal["refused"]
    node: Address
    reason: Line


# ---------------------------------------------------------------- member -> member


@dataclass(frozen=True, slots=True)
class Delivery:
    """The header of chunks that the sender ``slot`` hands to their ``reducer``, or to its witness; the payloads follow
    it on the stream, in order.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["delivery"]
    node: Address
    round: Round
    attempt: Attempt
    slot: Slot
    reducer: Slot
    chunks: Annotated[tuple[Chunk, ...], MinLen(1), MaxLen(CHUNKS_PER_MESSAGE_MAX)]
    payloads: Annotated[tuple[Hash, ...], MinLen(1), MaxLen(CHUNKS_PER_MESSAGE_MAX)]


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """``node``, the reducer or its witness, has checked and kept the chunks of a delivery; one signature covers all."""

    __pydantic_config__ = _STRICT
    kind: Literal["delivery_receipt"]
    node: Address
    round: Round
    attempt: Attempt
    slot: Slot
    reducer: Slot
    chunks: Annotated[tuple[Chunk, ...], MinLen(1), MaxLen(CHUNKS_PER_MESSAGE_MAX)]
    payloads: Annotated[tuple[Hash, ...], MinLen(1), MaxLen(CHUNKS_PER_MESSAGE_MAX)]
    signature: Signature = ""


# ---------------------------------------------------------------- events from the local shell


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class RecordsArrived:
    """Records in order of height, signatures and hashes checked."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class WorkDone:
    """The trainer has finished a round's work."""

    round: int
    state_root: str
    steps: int
    samples: int
    micro_batch: int
    update_root: str
    trace_root: str
    energy_mj: int = 0


@dataclass(frozen=True, slots=True)
class Reduced:
    """The trainer has averaged a chunk from these senders."""

    round: int
    chunk: int
    senders: tuple[int, ...]
    result: str


@dataclass(frozen=True, slots=True)
class Applied:
    """The state after ``round`` has been computed and saved (coordinator and members)."""

    round: int
    state_root: str


@dataclass(frozen=True, slots=True)
class StateFetched:
    """A whole state, the one that ``state_round`` starts from, has been fetched, checked and saved."""

    state_round: int
    state_root: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An effect could not be carried out; it may be tried again."""

    what: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The connection to this node has closed: it is not waited for until it is heard again."""

    node: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """The verifier has recomputed a slot's work."""

    round: int
    slot: int
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ResultFetched:
    """The coordinator keeps a copy of the averaged chunks of ``done``, so that they outlive their reducer."""

    done: ChunkDone


@dataclass(frozen=True, slots=True)
class Beacon:
    """The block hash for opening a round, and the height whose hash will complete the audit draw."""

    round: int
    block_hash: str
    audit_height: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """The audit draw of a round: the block hash at the sealed height, and the slots it picks."""

    round: int
    secret: str
    block_hash: str
    slots: tuple[int, ...]


CoordinatorMessage = (
    Join
    | Sync
    | Commitment
    | ChunkDone
    | DeliveryReceipt
    | StateReport
    | Leave
    | Gone
    | Tick
    | Replayed
    | ResultFetched
    | Applied
    | Beacon
    | Drawn
    | Failed
)
MemberMessage = (
    RecordsArrived
    | Receipt
    | Refused
    | Delivery
    | DeliveryReceipt
    | WorkDone
    | Reduced
    | Applied
    | StateFetched
    | Failed
    | Tick
)
