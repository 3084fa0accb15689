"""What the trainer is asked and what it answers. Importing this needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, MaxLen

from anynode.device.hardware import Device, Precision
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


@dataclass(frozen=True, slots=True)
class ReplayVerdict(Message):
    """Whether a replay gave the same bits, why in words, and how many ``steps`` were replayed to know it."""

    accepted: bool
    reason: Line
    first_differing_segment: Segment | None
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
class ApplySpec(Message):
    """The outer step from ``state_root``: the round's results by chunk, none for a void round, and the fields
    of the next state that dealing decides.
    """

    state_root: Hash
    refresh: bool
    results: Annotated[tuple[Hash, ...], MaxLen(1 << 20)]
    steps_advance: Steps
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
    where forward and backward run, ``precision``: in what; "auto" takes the best there is.
    """

    nice: int = 5
    memory_limit_bytes: int = 16 << 30
    network: bool = False
    steps_per_s_max: Annotated[float, Gt(0)] | None = None
    device: Device = "auto"
    precision: Precision = "auto"


@dataclass(frozen=True, slots=True)
class Opening(Message):
    """The first frame: absolute paths of the blob store and of the job's folder, and what the process may
    use.
    """

    store_folder: str
    job_folder: str
    limits: Limits
