"""What the trainer is asked and what it answers. Importing this needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MaxLen

from anynode.device.hardware import THREADS_MAX, Device, Instructions, Precision
from anynode.training.fields import (
    ChunkIndex,
    Hash,
    Line,
    Message,
    MicroBatch,
    Position,
    Round,
    SampleIndex,
    Samples,
    Segment,
    Slot,
    Steps,
)
from anynode.training.trace import TraceLeaf

OPENED_SEGMENTS_MAX = 64
OPENED_STATES_MAX = 2 * OPENED_SEGMENTS_MAX + 1
LEAVES_MAX = 100_000
SKETCH_VALUES = 256
"""Values of a sketch: inner products of two sketches are those of what they are of, to a sixteenth of their norms."""

Leaves = Annotated[tuple[TraceLeaf, ...], MaxLen(LEAVES_MAX)]
NotNegative = Annotated[float, Ge(0)]
Phase = Literal["fresh", "moments"]
"""Whether a round's workers start from no second moments or from published ones: drift differs."""


@dataclass(frozen=True, slots=True)
class WorkSpec(Message):
    """One slot's work: ``steps`` inner steps from the state ``state_root``, each on the next ``batch_size``
    of the data set's sample numbers ``indices``. ``refresh``: the update carries second moments. ``micro_batch``:
    samples of one forward and backward pass, 0 for as many as fit here; a replay needs those of the worker.
    """

    job_id: Hash
    round: Round
    slot: Slot
    state_root: Hash
    steps: Steps
    indices: Annotated[tuple[SampleIndex, ...], MaxLen(1 << 22)]
    refresh: bool
    micro_batch: MicroBatch = 0


@dataclass(frozen=True, slots=True)
class WorkResult(Message):
    """What a worker commits to: the update (in the store), the trace, and how much was done: with a time
    limit, a prefix of the steps asked for. ``micro_batch``: samples of one forward and backward pass.
    """

    update_root: Hash
    trace_root: Hash
    leaves: tuple[TraceLeaf, ...]
    steps: Steps
    samples: Samples
    micro_batch: MicroBatch
    mean_loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Claim(Message):
    """What a worker committed to. With ``leaves`` a replay stops at the first segment that differs."""

    update_root: Hash
    trace_root: Hash
    leaves: tuple[TraceLeaf, ...] | None = None


Disputed = Literal["segments", "place", "before", "inputs", "rates", "after", "update"]
"""What of a segment differs: how many there are, which steps it covers, the state that it begins from, its samples, its
learning rates, the state that it gives; after the last one, the update.
"""


@dataclass(frozen=True, slots=True)
class Dispute(Message):
    """The first segment of a trace that differs, and what differs in it. ``agreed`` is the root of the opened state
    before it, on which both sides agree; empty where that is not kept or is the one that the round began from.
    """

    segment: Segment
    what: Disputed
    recomputed: Line
    claimed: Line
    agreed: Hash | Literal[""] = ""


@dataclass(frozen=True, slots=True)
class ReplayVerdict(Message):
    """Whether a replay gave the same bits, why in words, and how many ``steps`` were replayed to know it. Where the
    leaves of the trace were known, ``dispute`` says what differs.
    """

    accepted: bool
    reason: Line
    dispute: Dispute | None
    steps: Steps
    seconds: float

    @property
    def first_differing_segment(self) -> int | None:
        """None too where all segments are right, and only the update is another."""
        return self.dispute.segment if self.dispute is not None and self.dispute.what != "update" else None


@dataclass(frozen=True, slots=True)
class Recomputation(Message):
    """What doing work again gives: its trace and its update. ``proof``: the fingerprint, under the asker's key,
    of every state on the way, which a trace alone does not tell.
    """

    leaves: Leaves
    update_root: Hash
    proof: Hash
    seconds: float


@dataclass(frozen=True, slots=True)
class OpenedState(Message):
    """An inner state of a piece of work: the one at which segment ``boundary`` begins and the one before it ends. Its
    ``root`` is that of a manifest (see ``opened.py``).
    """

    boundary: Segment
    root: Hash


@dataclass(frozen=True, slots=True)
class Opened(Message):
    """Work done again: its trace, and the states asked for, the last one among them."""

    leaves: Leaves
    states: Annotated[tuple[OpenedState, ...], MaxLen(OPENED_STATES_MAX)]


@dataclass(frozen=True, slots=True)
class OpenedClaim(Message):
    """What a worker committed to and has opened, and which ``segments`` of it are to be replayed."""

    update_root: Hash
    trace_root: Hash
    opened: Opened
    segments: Annotated[tuple[Segment, ...], MaxLen(OPENED_SEGMENTS_MAX)]


@dataclass(frozen=True, slots=True)
class TensorSums(Message):
    """Sums of squares over one tensor of one vector's change in a segment: ours, theirs, and their difference."""

    vector: Line
    tensor: Line
    ours: NotNegative
    theirs: NotNegative
    difference: NotNegative


@dataclass(frozen=True, slots=True)
class SegmentSums(Message):
    """How far a segment as replayed is from the segment as opened. ``sketch``: of the difference (theirs - ours) of the
    first vector's change, see `sketch.py`.
    """

    segment: Segment
    tensors: tuple[TensorSums, ...]
    sketch: Annotated[tuple[float, ...], MaxLen(SKETCH_VALUES)] = ()


@dataclass(frozen=True, slots=True)
class SegmentsReplay(Message):
    """What a replay of opened segments found. ``fault`` is what is wrong, in words, or empty: then there are the sums
    of every segment. An ``exact`` fault is one of the work committed to, on any machine; another is one of what was
    opened of it. ``phase`` is that of the start state, for which thresholds are frozen.
    """

    fault: Line
    exact: bool
    phase: Phase
    segments: tuple[SegmentSums, ...]
    steps: Steps
    seconds: float


@dataclass(frozen=True, slots=True)
class ReduceInput(Message):
    """One sender's delivered chunk (in the store) and its committed work. Without ``full_weight`` it weighs
    nothing.
    """

    slot: Slot
    payload_hash: Hash
    samples: Samples
    steps: Steps
    full_weight: bool = True


@dataclass(frozen=True, slots=True)
class ReduceSpec(Message):
    """One exchange chunk to average: index ``chunk_index`` of ``chunk_specs(parameters, refresh)``, slots
    ascending.
    """

    job_id: Hash
    round: Round
    chunk_index: ChunkIndex
    refresh: bool
    contributions: Annotated[tuple[ReduceInput, ...], MaxLen(100_000)]


@dataclass(frozen=True, slots=True)
class OuterStepSpec(Message):
    """The outer step of one round: its results by chunk, none for a void round."""

    refresh: bool
    results: Annotated[tuple[Hash, ...], MaxLen(1 << 20)]
    steps_advance: Steps


@dataclass(frozen=True, slots=True)
class ApplySpec(Message):
    """Outer steps one after the other from ``state_root``, and the fields of the last state that dealing decides."""

    state_root: Hash
    steps: Annotated[tuple[OuterStepSpec, ...], MaxLen(1 << 20)]
    next_round: Round
    cursor: Position
    returned: Annotated[tuple[tuple[Position, Position], ...], MaxLen(1 << 20)]


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """How far the running request is, in inner steps, chunks or batches, and how many it does a second; the last
    training loss where there is one.
    """

    done: int
    total: int
    loss: float | None = None
    per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Limits(Message):
    """``nice``: added to the priority number, so that networking is not starved. ``memory_limit_bytes``:
    private memory (RLIMIT_DATA, which counts heap and anonymous mappings but not the libraries' code).
    ``network``: keep it. ``steps_per_s_max``: how fast it may train, None for as fast as it can. ``device``:
    where forward and backward run, ``precision``: in what; "auto" takes the best there is. ``threads`` and
    ``instructions`` of the processor: another number or set is another hardware class.
    """

    nice: int = 5
    memory_limit_bytes: int = 16 << 30
    network: bool = False
    steps_per_s_max: Annotated[float, Gt(0)] | None = None
    device: Device = "auto"
    precision: Precision = "auto"
    threads: Annotated[int, Ge(1), Le(THREADS_MAX)] = 1
    instructions: Instructions = "auto"


@dataclass(frozen=True, slots=True)
class Opening(Message):
    """The first frame: absolute paths of the blob store and of the job's folder, and what the process may
    use.
    """

    store_folder: str
    job_folder: str
    limits: Limits
