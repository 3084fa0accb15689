"""What peers say to each other in a round.

The protocol's version, the form and the signatures of a message are checked at the edge (`wire.py`), so the cores trust
the sender named in it. What the local shell reports is in `events.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import MaxLen, MinLen
from pydantic import ConfigDict

from anynode.rounds.course import CHUNKS_PER_MESSAGE_MAX, MEMBERS_MAX
from anynode.rounds.ids import (
    Address,
    Attempt,
    Chunk,
    Hash,
    Height,
    Line,
    MicroBatch,
    Millijoule,
    Milliseconds,
    PeerId,
    Round,
    Samples,
    Signature,
    Slot,
    StateRound,
    Steps,
)
from anynode.rounds.votes import Equivocation

PROTOCOL = 6
RECEIPTS_MAX = 64
"""Receipts of one claim: of 512 chunks, 134 million values. What a round leaves out beyond that is not paid."""
_STRICT = ConfigDict(strict=True, extra="forbid")

# ---------------------------------------------------------------- member -> coordinator


@dataclass(frozen=True, slots=True)
class Join:
    """A node asks for a place. The signature binds its node key to its libp2p peer. ``reduces``: others can reach it,
    so it takes chunks to reduce. ``audits``: it takes audit tasks.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["join"]
    node: Address
    peer: PeerId
    hardware: Annotated[str, MaxLen(300)]
    code_version: Annotated[str, MaxLen(60)]
    reduces: bool
    audits: bool
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
    """A worker's signed word on what it did in a round."""

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
    """The coordinator has this commitment, on its disk. If it then seals the round without, both signatures are a proof
    against it (`words.py`).
    """

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


@dataclass(frozen=True, slots=True)
class WorkLeft:
    """To a member that joins again inside its round: its commitment is not here, and inner steps are to end in
    ``left_ms`` milliseconds, about when the others are done.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["work_left"]
    node: Address
    round: Round
    left_ms: Milliseconds


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another verifier is on duty for the job: the one at ``peer``, as far as is known."""

    __pydantic_config__ = _STRICT
    kind: Literal["elsewhere"]
    node: Address
    peer: PeerId


# ---------------------------------------------------------------- member -> every verifier


@dataclass(frozen=True, slots=True)
class Accusation:
    """A verifier has broken its word; the proof speaks for itself."""

    __pydantic_config__ = _STRICT
    kind: Literal["accusation"]
    node: Address
    proof: Equivocation


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

    def receipt(self, receiver: str) -> DeliveryReceipt:
        """The receipt, not yet signed, that ``receiver`` gives for it in time."""
        return DeliveryReceipt(
            kind="delivery_receipt",
            node=receiver,
            round=self.round,
            attempt=self.attempt,
            slot=self.slot,
            reducer=self.reducer,
            chunks=self.chunks,
            payloads=self.payloads,
            late=(),
        )


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """``node``, the reducer or its witness, has checked and kept the chunks of a delivery; one signature covers all.
    The senders of chunks in ``late`` were fixed without this one.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["delivery_receipt"]
    node: Address
    round: Round
    attempt: Attempt
    slot: Slot
    reducer: Slot
    chunks: Annotated[tuple[Chunk, ...], MinLen(1), MaxLen(CHUNKS_PER_MESSAGE_MAX)]
    payloads: Annotated[tuple[Hash, ...], MinLen(1), MaxLen(CHUNKS_PER_MESSAGE_MAX)]
    late: Annotated[tuple[Chunk, ...], MaxLen(CHUNKS_PER_MESSAGE_MAX)]
    signature: Signature = ""


# ---------------------------------------------------------------- member -> coordinator, after a round


@dataclass(frozen=True, slots=True)
class Claim:
    """The result of a round leaves out ``slot``, although there are these receipts for what it delivered. It is signed,
    so that nobody else fills what is kept of its claims with receipts of little worth.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["claim"]
    node: Address
    round: Round
    slot: Slot
    receipts: Annotated[tuple[DeliveryReceipt, ...], MinLen(1), MaxLen(RECEIPTS_MAX)]
    signature: Signature = ""
