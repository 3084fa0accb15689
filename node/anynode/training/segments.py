"""Tolerant replay: from the states that a worker of another hardware class has opened, some segments done again here.

Everything that does not depend on the class is compared exactly: the trace with its root, the chain of states, the
state that the round began from, samples, learning rates, and the update, which follows from the last state by exact
arithmetic. What depends on it, the change of a segment, comes back as sums of squares: whether their difference is
within what honest machines show is decided elsewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from anynode.exact.layout import TensorLayout
from anynode.exact.quantise import DivergedError
from anynode.exact.state import State
from anynode.jobs.settings import Training
from anynode.training.fingerprint import state_fingerprint
from anynode.training.inner import InnerRun, Report, Workload
from anynode.training.messages import OpenedClaim, Phase, SegmentsReplay, SegmentSums, TensorSums, WorkSpec
from anynode.training.opened import boundaries
from anynode.training.sketch import difference_sketch
from anynode.training.trace import trace_root
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import RefusedError

CACHED_VALUES = 1 << 14
"""So many are compared at a time: what they are turned into on the way does not leave the processor's cache."""

Load = Callable[[str, int, int], Sequence[Tensor]]
"""Root, number of vectors, values of each -> the vectors of an opened state; ``RefusedError`` if it is none."""


def phase_of(settings: Training, state: State) -> Phase:
    """What the workers of the round that opens from ``state`` start with."""
    return "moments" if settings.publishes_moments and state.has_moments else "fresh"


class _MismatchError(Exception):
    """What is wrong, in words."""


class _FalseWorkError(_MismatchError):
    """What was committed to is wrong, on any machine."""


def replay_segments(
    workload: Workload,
    state: State,
    spec: WorkSpec,
    claim: OpenedClaim,
    load: Load,
    *,
    sketch_seed: str = "",
    report: Report = lambda _: None,
    now_s: Callable[[], float] = time.monotonic,
) -> SegmentsReplay:
    """Check ``claim`` and replay its segments. Raises ``RefusedError`` for a spec that does not fit the state."""
    began_s = now_s()
    phase = phase_of(workload.settings, state)
    steps = 0

    def outcome(fault: str, found: Sequence[SegmentSums] = (), *, exact: bool = False) -> SegmentsReplay:
        return SegmentsReplay(fault, exact, phase, tuple(found), steps, now_s() - began_s)

    if spec.micro_batch and spec.micro_batch not in (workload.sizes or (workload.settings.share_samples,)):
        return outcome(f"the model takes no {spec.micro_batch} samples at a time, as is claimed", exact=True)
    run = InnerRun(workload, state, spec)
    found = []
    try:
        _check_trace(run, workload.settings, spec, claim)
        opened = _Opened(run, claim, load)
        _check_update(run, spec, claim, opened)
        for segment in claim.segments:
            leaf = claim.opened.leaves[segment]
            before, after = opened.at(segment), opened.at(segment + 1)
            run.resume(leaf.first_step, before)
            run.advance(leaf.steps, report)
            steps += leaf.steps
            sums = _compared(run, before, after, workload.settings)
            found.append(SegmentSums(segment, sums, difference_sketch(sketch_seed, run.vectors[0].cpu(), after[0])))
    except _MismatchError as error:
        return outcome(str(error), exact=isinstance(error, _FalseWorkError))
    except DivergedError as error:
        return outcome(f"the work cannot be done as claimed: {error}")
    return outcome("", found)


class _Opened:
    """The states that a worker has opened, each checked against the trace when it is used."""

    def __init__(self, run: InnerRun, claim: OpenedClaim, load: Load) -> None:
        self._leaves, self._load = claim.opened.leaves, load
        self._roots = {item.boundary: item.root for item in claim.opened.states}
        self._start = tuple(vector.clone() for vector in run.vectors)
        missing = boundaries(claim.segments, len(self._leaves)) - self._roots.keys()
        if missing:
            raise _MismatchError(f"the state at the start of segment {min(missing)} was not opened")

    def at(self, boundary: int) -> Sequence[Tensor]:
        """The vectors [values] at which segment ``boundary`` begins."""
        if boundary == 0:
            return self._start
        try:
            vectors = self._load(self._roots[boundary], len(self._start), self._start[0].numel())
        except RefusedError as error:
            raise _MismatchError(str(error)) from error
        if state_fingerprint(*vectors) != self._leaves[boundary - 1].after:
            raise _MismatchError(f"the state opened after segment {boundary - 1} is not the one committed to")
        return vectors


def _check_trace(run: InnerRun, settings: Training, spec: WorkSpec, claim: OpenedClaim) -> None:
    """Everything about a trace that is the same on every machine."""
    leaves = claim.opened.leaves
    if trace_root(leaves) != claim.trace_root:
        raise _MismatchError("the trace shown is not the one committed to")
    starts = range(0, spec.steps, settings.segment_steps)
    if len(leaves) != len(starts):
        raise _FalseWorkError(f"{len(leaves)} segments are claimed, the work has {len(starts)}")
    rates = [rate.hex() for rate in run.planned_rates()]
    before = state_fingerprint(*run.vectors)
    for number, (leaf, first) in enumerate(zip(leaves, starts, strict=True)):
        steps = min(settings.segment_steps, spec.steps - first)
        where = f"segment {number} (steps {first} to {first + steps - 1})"
        if (leaf.segment, leaf.first_step, leaf.steps) != (number, first, steps):
            raise _FalseWorkError(f"{where} is claimed as segment {leaf.segment} of {leaf.steps} steps")
        if leaf.before != before:
            start = "the state that the round began from" if number == 0 else "where the segment before it ended"
            raise _FalseWorkError(f"{where} does not begin from {start}")
        if leaf.rates != tuple(rates[first : first + steps]):
            raise _FalseWorkError(f"{where} differs in the learning rates")
        if leaf.inputs != run.inputs_of(first, steps):
            raise _FalseWorkError(f"{where} differs in the samples fed in")
        before = leaf.after
    if any(segment >= len(leaves) for segment in claim.segments):
        raise RefusedError("a segment was to be replayed that the work does not have")


def _check_update(run: InnerRun, spec: WorkSpec, claim: OpenedClaim, opened: _Opened) -> None:
    """The update follows from the last state by exact arithmetic."""
    run.resume(spec.steps, opened.at(len(claim.opened.leaves)))
    root = run.update_root(hash_hex)
    if root != claim.update_root:
        raise _FalseWorkError(
            f"the update committed to ({claim.update_root[:16]}…) is not the one that the last opened state gives "
            f"({root[:16]}…)"
        )


def _compared(
    run: InnerRun, before: Sequence[Tensor], after: Sequence[Tensor], settings: Training
) -> tuple[TensorSums, ...]:
    """How far a segment that ``run`` has just replayed is from the one opened.

    Of what the optimizer remembers, the direction of its next step is compared too: a second moment that is nothing
    where it should be small hardly differs from it, and makes a step of any length.
    """
    changes = zip(settings.inner_vectors, before, run.vectors, after, strict=True)
    sums = [one for change in changes for one in change_sums(run.layout, *change)]
    ours, theirs = (run.direction_of([vector.cpu() for vector in state]) for state in (run.vectors, after))
    if ours is not None and theirs is not None:
        sums += change_sums(run.layout, "direction", torch.zeros_like(ours), ours, theirs)
    return tuple(sums)


def change_sums(
    layout: TensorLayout, vector: str, before: Tensor, ours: Tensor, theirs: Tensor
) -> Iterator[TensorSums]:
    """The change of every tensor of one vector [values], ours and theirs."""
    views = [layout.views(values.cpu()) for values in (before, ours, theirs)]
    for tensor in views[0]:
        sums = [0.0, 0.0, 0.0]
        for parts in zip(*(torch.split(view[tensor].reshape(-1), CACHED_VALUES) for view in views), strict=True):
            began, mine, other = (part.double() for part in parts)
            for place, change in enumerate((mine - began, other - began, other - mine)):
                sums[place] += float(torch.dot(change, change))
        if not math.isfinite(sum(sums)):
            raise _MismatchError(f"the change of {tensor} is not finite")
        yield TensorSums(vector, tensor, *sums)
