"""What the cores ask their shells to do. Every effect may be asked for again, so carrying it out twice is harmless."""

from __future__ import annotations

from dataclasses import dataclass

from anynode.rounds.appeals import Appeal
from anynode.rounds.course import Assign, Open, Result, Seal
from anynode.rounds.events import Plan
from anynode.rounds.judgements import CorrectedRound, Excision
from anynode.rounds.messages import (
    ChunkDone,
    Claim,
    Commitment,
    Delivery,
    DeliveryReceipt,
    Join,
    Receipt,
    Refused,
    StateReport,
    Sync,
    WorkLeft,
)
from anynode.rounds.records import Record

# ---------------------------------------------------------------- of a member


@dataclass(frozen=True, slots=True)
class Send:
    """Sign if needed and send to the coordinator; an answer comes back as a message."""

    message: Join | Sync | Commitment | ChunkDone | DeliveryReceipt | Claim | StateReport


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
    """Sign a receipt for the delivered chunks, of which ``late`` came too late, and return it to the sender."""

    delivery: Delivery
    late: tuple[int, ...] = ()


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


@dataclass(frozen=True, slots=True)
class KeepEvidence:
    """This seal leaves out what a coordinator has given this receipt for: keep it, tell the verifiers and the user."""

    receipt: Receipt
    seal: Seal


# ---------------------------------------------------------------- of the coordinator


@dataclass(frozen=True, slots=True)
class Append:
    """Sign this record, keep it for ever, and push it to the members."""

    record: Record


@dataclass(frozen=True, slots=True)
class Answer:
    """Sign if needed and send to a member."""

    node: str
    message: Receipt | Refused | WorkLeft


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
class GetRates:
    """How often each member of the round is to be audited; answer `AuditRates`."""

    open: Open


@dataclass(frozen=True, slots=True)
class Replay:
    """Recompute a slot's work; answer `Replayed`. ``again``: a first replay has found a difference; another auditor,
    which knows nothing of it, recomputes the work bit by bit in the class of its worker. ``seed`` draws the segments
    that are opened, if the work is judged by segments; before the exchange there is none yet.
    """

    open: Open
    seal: Seal
    slot: int
    again: bool = False
    seed: str = ""


@dataclass(frozen=True, slots=True)
class AskAuditor:
    """Have another member do a slot's work again, which it is told nothing of; answer `Answered`, also when it keeps
    silent.
    """

    open: Open
    seal: Seal
    plan: Plan


@dataclass(frozen=True, slots=True)
class Recompute:
    """Do an auditor's task here, in a fresh process if ``again``; answer `Recomputed`."""

    open: Open
    seal: Seal
    plan: Plan
    again: bool


@dataclass(frozen=True, slots=True)
class Hear:
    """Replay rejected work once more, whole and in a fresh process; answer `Heard`."""

    appeal: Appeal


@dataclass(frozen=True, slots=True)
class FetchResult:
    """Fetch averaged chunks from their reducer and read them; answer `ResultFetched` or `Failed`."""

    open: Open
    done: ChunkDone


@dataclass(frozen=True, slots=True)
class DrawAudits:
    """At the sealed height, draw the slots with their auditors, and the averaged chunks; answer `Drawn`."""

    open: Open
    seal: Seal
    assign: Assign
    result: Result
    candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AverageAgain:
    """Average these chunks of a closed round again from what their senders delivered; answer `AveragedAgain`. With each
    further ``look`` they are those that nobody has given so far.
    """

    open: Open
    seal: Seal
    assign: Assign
    result: Result
    chunks: tuple[int, ...]
    look: int = 0


@dataclass(frozen=True, slots=True)
class MakeCorrection:
    """Compute the state that number ``round`` would open from without the excised, and save it as the one of the number
    after; answer `Corrected` or `Failed`, after which it is given up.
    """

    round: int
    excised: tuple[Excision, ...]
    rounds: tuple[CorrectedRound, ...]


MemberEffect = Send | StartWork | StopWork | Deliver | Acknowledge | Reduce | Apply | FetchState | Fault | KeepEvidence
CoordinatorEffect = (
    Append
    | Answer
    | SendRecords
    | GetBeacon
    | GetRates
    | Replay
    | AskAuditor
    | Recompute
    | Hear
    | FetchResult
    | Apply
    | DrawAudits
    | AverageAgain
    | MakeCorrection
    | Fault
)
