"""The bodies of the records that judge work: verdicts on rounds, rulings on appeals, corrections of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import ConfigDict

from anynode.rounds.course import CHUNKS_MAX, CHUNKS_PER_MESSAGE_MAX, MEMBERS_MAX
from anynode.rounds.ids import (
    Address,
    Attempt,
    Chunk,
    Hash,
    Line,
    Position,
    Proof,
    Range,
    Round,
    Secret,
    Signature,
    Slot,
    Steps,
)
from anynode.rounds.lean import UNIT

CORRECTION_ROUNDS_MAX = 32
"""How far back a correction reaches: for so long the updates of a round are kept."""
CLAIMS_MAX = 4_096
"""Receipts of omitted senders that one verdict takes in."""
RESIDUAL_SEGMENTS_MAX = 8
_STRICT = ConfigDict(strict=True, extra="forbid")

Outcome = Literal["accepted", "rejected", "void"]
"""``void`` work could not be decided: it is neither paid nor slashed."""

Evidence = Literal["exact", "tolerant", "admission", "none"]
"""What an outcome rests on: a replay bit by bit, one within the tolerance of another hardware class, what was decided
before the exchange, or nothing: the draw passed the work by, or it could not be audited.
"""

Segments = Annotated[tuple[Annotated[int, Ge(0), Le(1_000_000)], ...], MaxLen(RESIDUAL_SEGMENTS_MAX)]
Residuals = Annotated[tuple[Annotated[int, Ge(-UNIT), Le(UNIT)], ...], MaxLen(2 * RESIDUAL_SEGMENTS_MAX)]


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one committed slot. What is rejected comes with a fraud ``proof``, but for the work of a node that
    was excluded before. Of accepted tolerant evidence: the ``segments`` that were drawn and replayed, and the
    ``residuals``, see `lean.py`.
    """

    __pydantic_config__ = _STRICT
    slot: Slot
    node: Address
    outcome: Outcome
    evidence: Evidence
    reason: Line
    proof: Proof = ""
    residuals: Residuals = ()
    segments: Segments = ()

    @property
    def accepted(self) -> bool:
        return self.outcome == "accepted"

    @property
    def rejected(self) -> bool:
        return self.outcome == "rejected"

    @property
    def audited(self) -> bool:
        return self.evidence != "none"


@dataclass(frozen=True, slots=True)
class ReductionJudged:
    """What is wrong with an averaged chunk of the reducer in ``slot``: rejected (it is not the average of its senders'
    chunks), withheld (its reducer is there and does not give what it has averaged, which counts like a wrong sum) or
    void (nobody can average it again).
    """

    __pydantic_config__ = _STRICT
    chunk: Chunk
    slot: Slot
    node: Address
    outcome: Literal["rejected", "withheld", "void"]
    reason: Line


@dataclass(frozen=True, slots=True)
class Redone:
    """What doing work again gives: its update and trace, and the fingerprint of all states on the way under the key of
    the task (`enquiries.task_key`).
    """

    __pydantic_config__ = _STRICT
    update_root: Hash
    trace_root: Hash
    proof: Hash


@dataclass(frozen=True, slots=True)
class Task:
    """The member ``auditor`` was asked to do the first ``steps`` of another's work again, and has answered ``redone``
    under its signature. ``accepted``: it is paid. ``rejected``: two replays agree that it is wrong. ``void``: it has
    not answered in time, or was not asked, or nobody could decide; it is not paid, and loses nothing.
    """

    __pydantic_config__ = _STRICT
    slot: Slot
    auditor: Address
    steps: Steps
    outcome: Outcome
    reason: Line
    redone: Redone | None
    signature: Signature


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that the result leaves out: the receipt of ``signer``, the reducer or its witness, for the sender in
    ``slot``. Chunks among ``late`` came when their senders were fixed already.
    """

    __pydantic_config__ = _STRICT
    slot: Slot
    signer: Slot
    reducer: Slot
    attempt: Attempt
    chunks: Annotated[tuple[Chunk, ...], MinLen(1), MaxLen(CHUNKS_PER_MESSAGE_MAX)]
    payloads: Annotated[tuple[Hash, ...], MinLen(1), MaxLen(CHUNKS_PER_MESSAGE_MAX)]
    late: Annotated[tuple[Chunk, ...], MaxLen(CHUNKS_PER_MESSAGE_MAX)]
    signature: Signature


@dataclass(frozen=True, slots=True)
class Verdict:
    """The audits of a round are final. ``secret`` and ``block_hash`` let anyone repeat the draw, also that of the
    auditors of ``tasks``. An empty secret is one withheld: the block hash alone has drawn. A drawn chunk that
    ``reductions`` does not name is as it must be.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["verdict"]
    round: Round
    secret: Secret
    block_hash: Annotated[str, MaxLen(66)]
    judged: Annotated[tuple[Judged, ...], MaxLen(MEMBERS_MAX)]
    reductions: Annotated[tuple[ReductionJudged, ...], MaxLen(CHUNKS_MAX)]
    tasks: Annotated[tuple[Task, ...], MaxLen(MEMBERS_MAX)]
    claims: Annotated[tuple[Claimed, ...], MaxLen(CLAIMS_MAX)]


@dataclass(frozen=True, slots=True)
class Excision:
    """A slot whose update is taken out of the model after its round has closed, and why."""

    __pydantic_config__ = _STRICT
    round: Round
    slot: Slot
    node: Address
    reason: Line


@dataclass(frozen=True, slots=True)
class CorrectedRound:
    """What a past round gives without the excised: the hashes of all its averaged chunks, none where nothing is left,
    and its steps.
    """

    __pydantic_config__ = _STRICT
    round: Round
    results: Annotated[tuple[Hash, ...], MaxLen(CHUNKS_MAX)]
    steps: Steps


@dataclass(frozen=True, slots=True)
class Correct:
    """A forward correction. It takes the number of a round: its state is the one that all rounds before give with these
    results in place of their own. ``steps``, ``returned`` and ``has_moments`` are those of that state.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["correct"]
    round: Round
    excised: Annotated[tuple[Excision, ...], MaxLen(MEMBERS_MAX)]
    rounds: Annotated[tuple[CorrectedRound, ...], MaxLen(CORRECTION_ROUNDS_MAX)]
    state_root: Hash
    steps: Position
    returned: tuple[Range, ...]
    has_moments: bool


@dataclass(frozen=True, slots=True)
class Ruling:
    """What an appeal has come to: the work of ``slot`` in ``round``, which a verdict had rejected, was replayed once
    more. ``granted``: it is accepted after all. ``heard``: it could be replayed; where not, the rejection stands, and
    nothing is paid for the replay. ``appeal`` is the worker's signature under its appeal, ``mistaken`` the verifier
    whose rejection is taken back, empty where it is upheld.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["ruling"]
    round: Round
    slot: Slot
    node: Address
    appeal: Signature
    heard: bool
    granted: bool
    reason: Line
    mistaken: Address | Literal[""]
