"""What a shell tells its own core: time that has passed, and what became of the effects that were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from anynode.rounds.appeals import Appeal
from anynode.rounds.judgements import (
    Correct,
    CorrectedRound,
    Evidence,
    Excision,
    Outcome,
    Redone,
    ReductionJudged,
    Ruling,
)
from anynode.rounds.messages import (
    ChunkDone,
    Claim,
    Commitment,
    Delivery,
    DeliveryReceipt,
    Join,
    Leave,
    Receipt,
    Refused,
    StateReport,
    Sync,
    WorkLeft,
)
from anynode.rounds.records import Record

# ---------------------------------------------------------------- to both cores


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The state after ``round`` has been computed and saved."""

    round: int
    state_root: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An effect could not be carried out; it may be tried again."""

    what: str


# ---------------------------------------------------------------- to a member


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
class StateFetched:
    """A whole state, the one that ``state_round`` starts from, has been fetched, checked and saved."""

    state_round: int
    state_root: str


@dataclass(frozen=True, slots=True)
class Answering:
    """The coordinator answers again after a silence: it may have restarted, and forgotten what no record shows."""


# ---------------------------------------------------------------- to a coordinator


@dataclass(frozen=True, slots=True)
class Gone:
    """The connection to this node has closed: it is not waited for until it is heard again."""

    node: str


@dataclass(frozen=True, slots=True)
class Beacon:
    """The block hash for opening a round, and the height whose hash will complete the audit draw, 0 while the chain was
    never seen. ``staked`` are nodes that have something to lose, on this job or another, ``owners`` whom the pay of
    registered nodes goes to.
    """

    round: int
    block_hash: str
    audit_height: int
    staked: tuple[str, ...] = ()
    owners: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditRates:
    """The audit rates of a round's slots, in parts per million, as stake, pay and the network's floor ask for them."""

    round: int
    ppm: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ResultFetched:
    """The coordinator keeps a copy of the averaged chunks of ``done``, so that they outlive their reducer.
    ``readable``: each of them is a payload that a round can apply.
    """

    done: ChunkDone
    readable: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    """The verifier has recomputed a slot's work, or says why nobody can: then its outcome is void.
    ``again``: it is the second, independent replay. ``steps_per_s``: how fast it went, 0 if that was not measured.
    ``proof``: the fraud proof of a rejection that is confirmed.
    ``segments`` were drawn and replayed, where the work was accepted by them; ``residuals``: see `lean.py`.
    """

    round: int
    slot: int
    outcome: Outcome
    evidence: Evidence
    reason: str
    again: bool = False
    steps_per_s: float = 0.0
    proof: str = ""
    residuals: tuple[int, ...] = ()
    segments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The auditor in slot ``auditor`` is to do the first ``steps`` of the work of ``slot`` again, and to fingerprint
    the states on the way under ``key``. ``known``: it is replayed here as well, whatever the auditor says.
    """

    slot: int
    auditor: int
    steps: int
    key: str
    known: bool


@dataclass(frozen=True, slots=True)
class Drawn:
    """The audit draw of a round: the block hash at the sealed height, slots with their auditors, averaged chunks."""

    round: int
    secret: str
    block_hash: str
    slots: tuple[int, ...]
    chunks: tuple[int, ...] = ()
    plans: tuple[Plan, ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """What an auditor has answered under its ``signature``; none, with the reason, where it has not."""

    round: int
    slot: int
    redone: Redone | None
    signature: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What the verifier's own replay of a task gives; none where this machine does not make the class.

    ``again``: in a fresh process, that knows nothing of the first.
    """

    round: int
    slot: int
    again: bool
    redone: Redone | None


@dataclass(frozen=True, slots=True)
class AveragedAgain:
    """The verifier has averaged drawn chunks of a round again: of those asked for, these are not as they must be. What
    nobody gives now is called withheld; whether its reducer withholds it shows in the rounds that follow.
    """

    round: int
    found: tuple[ReductionJudged, ...]


@dataclass(frozen=True, slots=True)
class Excise:
    """The shell has proven these slots' work a fraud, and has averaged again what is left of their rounds."""

    excised: tuple[Excision, ...]
    rounds: tuple[CorrectedRound, ...]


@dataclass(frozen=True, slots=True)
class Corrected:
    """The corrected state has been computed and saved; ``body`` is its record."""

    body: Correct


@dataclass(frozen=True, slots=True)
class Appealed:
    """An appeal has come in; its signature is checked."""

    appeal: Appeal


@dataclass(frozen=True, slots=True)
class Heard:
    """The work that an appeal is about has been replayed once more."""

    ruling: Ruling


@dataclass(frozen=True, slots=True)
class Ended:
    """The job is over on the chain, by its deadline or cancelled: no round is opened any more."""


# ---------------------------------------------------------------- what each core takes in, with what peers say

CoordinatorMessage = (
    Join
    | Sync
    | Commitment
    | ChunkDone
    | DeliveryReceipt
    | Claim
    | StateReport
    | Leave
    | Gone
    | Tick
    | Replayed
    | ResultFetched
    | Applied
    | Beacon
    | AuditRates
    | Drawn
    | AveragedAgain
    | Answered
    | Recomputed
    | Excise
    | Corrected
    | Appealed
    | Heard
    | Ended
    | Failed
)
MemberMessage = (
    RecordsArrived
    | Receipt
    | Refused
    | WorkLeft
    | Answering
    | Delivery
    | DeliveryReceipt
    | WorkDone
    | Reduced
    | Applied
    | StateFetched
    | Failed
    | Tick
)
