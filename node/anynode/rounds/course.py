"""The bodies of the records that say how a job goes: its rounds from opening to close, its beginning and its end."""

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
    Owner,
    PeerId,
    Position,
    Proof,
    Range,
    Rate,
    Round,
    Samples,
    Seconds,
    Signature,
    Slot,
    Steps,
    Thresholds,
)

MEMBERS_MAX = 10_000
CHUNKS_MAX = 100_000
CHUNKS_PER_MESSAGE_MAX = 8
_STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Begin:
    """The first record: which job, on which protocol, from which state."""

    __pydantic_config__ = _STRICT
    kind: Literal["begin"]
    protocol: int
    state_root: Hash


@dataclass(frozen=True, slots=True)
class Member:
    """A node's place in a round. ``proven``: it has had an accepted audit, so its update has weight. ``reduces``: it
    can be reached by the others, so it may be given chunks to reduce. ``audits``: it takes audit tasks. ``owner``: whom
    its pay goes to.
    """

    __pydantic_config__ = _STRICT
    slot: Slot
    node: Address
    peer: PeerId
    hardware: Annotated[str, MaxLen(300)]
    quota_steps: Steps
    proven: bool
    reduces: bool
    audits: bool
    owner: Owner


@dataclass(frozen=True, slots=True)
class Open:
    """Round ``round`` starts from ``state_root``; ``ranges[slot]`` are the positions dealt to each slot.
    ``inner_steps`` is the H of this round, from which the quotas follow. ``thresholds`` is the hash of the frozen
    thresholds by which work of other hardware classes is judged in it; empty where there are none.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["open"]
    round: Round
    state_root: Hash
    beacon: Annotated[str, MaxLen(66)]
    refresh: bool
    members: Annotated[tuple[Member, ...], MaxLen(MEMBERS_MAX)]
    ranges: Annotated[tuple[tuple[Range, ...], ...], MaxLen(MEMBERS_MAX)]
    cursor: Annotated[Position, "after this round's samples were taken"]
    returned: tuple[Range, ...]
    inner_steps: Steps
    work_s: Seconds
    exchange_s: Seconds
    thresholds: Thresholds = ""


@dataclass(frozen=True, slots=True)
class Committed:
    """A commitment that counts, with the worker's EIP-712 signature over it."""

    __pydantic_config__ = _STRICT
    slot: Slot
    node: Address
    steps: Steps
    samples: Samples
    micro_batch: MicroBatch
    update_root: Hash
    trace_root: Hash
    hardware: Annotated[str, MaxLen(300)]
    code_version: Annotated[str, MaxLen(60)]
    energy_mj: Millijoule
    signature: Signature


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a slot does not count, in words; ``proof`` is the fraud proof that shows it, empty where that is not about
    the work of this round.
    """

    __pydantic_config__ = _STRICT
    slot: Slot
    reason: Line
    proof: Proof = ""


@dataclass(frozen=True, slots=True)
class Seal:
    """The commitments that count, those that do not, and what fixes the audit draw: ``rates_ppm`` are the audit rates
    of the commitments, in their order. ``sealer``, the verifier that proposes it and keeps the secret, has signed for
    each of ``missing``, in their order, that it has given no receipt to that slot (``absences``, see `words.py`).
    """

    __pydantic_config__ = _STRICT
    kind: Literal["seal"]
    round: Round
    commitments: Annotated[tuple[Committed, ...], MaxLen(MEMBERS_MAX)]
    missing: tuple[Reason, ...]
    secret_hash: Hash
    audit_height: Height
    rates_ppm: Annotated[tuple[Rate, ...], MaxLen(MEMBERS_MAX)]
    sealer: Address
    absences: Annotated[tuple[Signature, ...], MaxLen(MEMBERS_MAX)]


@dataclass(frozen=True, slots=True)
class Reducer:
    """Slot ``slot`` reduces exchange chunk ``chunk``; ``witness`` is the first to take it from a sender to whom the
    reducer gives no receipt (`witnesses.py`). A reducer without another member beside it is its own witness.
    """

    __pydantic_config__ = _STRICT
    chunk: Chunk
    slot: Slot
    witness: Slot


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """One averaged chunk: its hash and the senders in it."""

    __pydantic_config__ = _STRICT
    chunk: Chunk
    attempt: Attempt
    reducer: Slot
    senders: tuple[Slot, ...]
    result: Hash


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What one signature of a reducer covers, of which a chunk at least is no payload that the job's codec reads. The
    signature and the bytes are the proof against it.
    """

    __pydantic_config__ = _STRICT
    entries: Annotated[tuple[ChunkResult, ...], MinLen(1), MaxLen(CHUNKS_PER_MESSAGE_MAX)]
    signature: Signature

    @property
    def reducer(self) -> int:
        return self.entries[0].reducer


@dataclass(frozen=True, slots=True)
class Assign:
    """Whose updates count (``accepted``), and who reduces which chunks. ``attempt`` > 0 replaces dead reducers.

    ``absent`` are accepted slots that had died by then: what they delivered is averaged, and nobody waits for more.
    ``unreadable`` is what reducers have signed in this round that is no average: they reduce nothing more.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["assign"]
    round: Round
    attempt: Attempt
    accepted: tuple[Slot, ...]
    rejected: tuple[Reason, ...]
    weightless: tuple[Slot, ...]
    absent: tuple[Slot, ...]
    reducers: Annotated[tuple[Reducer, ...], MaxLen(CHUNKS_MAX)]
    unreadable: Annotated[tuple[Unreadable, ...], MaxLen(MEMBERS_MAX)]


@dataclass(frozen=True, slots=True)
class Reduction:
    """What one signature of a reducer covers: these chunks, with their senders and results."""

    __pydantic_config__ = _STRICT
    reducer: Slot
    attempt: Attempt
    chunks: Annotated[tuple[Chunk, ...], MaxLen(CHUNKS_PER_MESSAGE_MAX)]
    signature: Signature


@dataclass(frozen=True, slots=True)
class Result:
    """Every chunk of the averaged update, in order, signed before any peer applies it. Empty: the round is void."""

    __pydantic_config__ = _STRICT
    kind: Literal["result"]
    round: Round
    chunks: Annotated[tuple[ChunkResult, ...], MaxLen(CHUNKS_MAX)]
    reductions: Annotated[tuple[Reduction, ...], MaxLen(CHUNKS_MAX)]
    steps: Steps
    cursor: Position
    returned: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A member's signed word that it holds the new state."""

    __pydantic_config__ = _STRICT
    node: Address
    signature: Signature


@dataclass(frozen=True, slots=True)
class Close:
    """The new state. ``forks``: nodes that reported another root."""

    __pydantic_config__ = _STRICT
    kind: Literal["close"]
    round: Round
    state_root: Hash
    reports: Annotated[tuple[Report, ...], MaxLen(MEMBERS_MAX)]
    forks: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The job has had all its rounds, or has ``ended`` before: by its deadline on the chain, or cancelled there."""

    __pydantic_config__ = _STRICT
    kind: Literal["finish"]
    rounds: Round
    state_root: Hash
    ended: bool
