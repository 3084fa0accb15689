"""One slot's inner training, from a published state, with a trace: a pure function of state, data and job.

A worker keeps nothing from round to round. It starts from the parameters and published second moments of S_r, and
the learning rate follows from the step count of S_r, so that anyone who has S_r can do the same work again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from anynode.exact.layout import TensorLayout
from anynode.exact.quantise import DivergedError
from anynode.exact.state import State
from anynode.exact.update import UpdatePlace, build_update
from anynode.jobs.settings import Training
from anynode.training.fingerprint import InputFingerprint, state_fingerprint
from anynode.training.gradients import BatchFunction, Gradients, LossFunction, Place
from anynode.training.kept import Keep, no_keep
from anynode.training.messages import Progress, WorkResult, WorkSpec
from anynode.training.rules import exchange_rules
from anynode.training.steps import GradientSum, LocalSteps, Steps
from anynode.training.trace import TraceLeaf, trace_root
from anynode_contracts.errors import RefusedError

Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Workload:
    """What a job trains: its loss, where batches come from, its settings, and where forward and backward run.

    ``sizes``: the numbers of samples that the loss takes in one pass, none for whole batches only; ``micro_batch``:
    that of them which fits here, 0 for a whole batch.
    """

    loss: LossFunction
    batch_of: BatchFunction
    settings: Training
    place: Place = field(default_factory=Place)
    micro_batch: int = 0
    sizes: tuple[int, ...] = ()

    def micro_batch_of(self, spec: WorkSpec) -> int:
        """Samples of one pass: as the spec says, or as fits here. Raises ``RefusedError`` for a size that the loss is
        not there for.
        """
        size = spec.micro_batch or self.micro_batch or self.settings.share_samples
        if size not in (self.sizes or (self.settings.share_samples,)):
            raise RefusedError(f"the job's model takes no {size} samples at a time; ask for a size that it has")
        return size


class InnerRun:
    """Inner training under way. ``segments`` advances it; afterwards ``trained`` and ``mean_loss`` hold the
    outcome.
    """

    def __init__(self, workload: Workload, state: State, spec: WorkSpec) -> None:
        _check(workload.settings, state, spec)
        self._workload, self._state, self._spec = workload, state, spec
        self.micro_batch = workload.micro_batch_of(spec)
        place, settings = workload.place, workload.settings
        params = state.params.to(place.device, copy=True)
        gradients = Gradients(workload.loss, state.layout, params, place)
        self._steps: Steps
        if settings.averages_gradients:
            self._steps = GradientSum(gradients)
        else:
            self._steps = LocalSteps(gradients, params, state, settings)
        self.steps_done = 0
        self.losses: list[float] = []

    def segments(self, report: Report, out_of_time: Callable[[], bool]) -> Iterator[TraceLeaf]:
        """Train segment by segment and yield the leaf of each; stops after the first step that is out of
        time.
        """
        before = state_fingerprint(*self._steps.vectors)
        number = 0
        stopped = False
        while self.steps_done < self._spec.steps and not stopped:
            first, inputs = self.steps_done, InputFingerprint()
            while self.steps_done < min(first + self._workload.settings.segment_steps, self._spec.steps):
                self._step(inputs)
                report(Progress(self.steps_done, self._spec.steps, self.losses[-1]))
                stopped = out_of_time()
                if stopped:
                    break
            after = state_fingerprint(*self._steps.vectors)
            yield TraceLeaf(
                segment=number,
                first_step=first,
                steps=self.steps_done - first,
                before=before,
                after=after,
                inputs=inputs.hexdigest(),
                rates=tuple(rate.hex() for rate in self._steps.rates[first:]),
            )
            before, number = after, number + 1

    @property
    def layout(self) -> TensorLayout:
        """Where the values of each tensor lie."""
        return self._state.layout

    @property
    def vectors(self) -> tuple[Tensor, ...]:
        """The inner state as it is now [values], on the device: it changes as training goes on."""
        return self._steps.vectors

    def direction_of(self, vectors: Sequence[Tensor]) -> Tensor | None:
        """Where an inner state's ``vectors`` [values] send the next step by themselves, see `Optimizer.direction`."""
        return self._steps.direction_of(vectors)

    def planned_rates(self) -> list[float]:
        """The learning rates of all steps of the work, none in gradient mode."""
        return self._steps.planned(self._spec.steps)

    def inputs_of(self, first_step: int, steps: int) -> str:
        """The fingerprint of the samples that some steps are fed."""
        inputs = InputFingerprint()
        for step in range(first_step, first_step + steps):
            inputs.add(self._batch(step))
        return inputs.hexdigest()

    def resume(self, steps: int, vectors: Sequence[Tensor]) -> None:
        """Go on as if ``steps`` steps had been done, which have led to ``vectors`` [values]."""
        self._steps.resume(steps, vectors)
        self.steps_done = steps

    def advance(self, steps: int, report: Report) -> None:
        """Do some more steps."""
        inputs = InputFingerprint()
        for _ in range(steps):
            self._step(inputs)
            report(Progress(self.steps_done, self._spec.steps, self.losses[-1]))

    @property
    def samples(self) -> int:
        return self.steps_done * self._workload.settings.share_samples

    @property
    def mean_loss(self) -> float:
        return sum(self.losses) / len(self.losses)

    def update_root(self, keep: Callable[[bytes], str]) -> str:
        """Build the update, handing payloads and the manifest to ``keep``, and return its root."""
        spec = self._spec
        place = UpdatePlace(spec.job_id, spec.round, spec.slot, spec.refresh)
        done = self._steps.outcome(self.steps_done, self.samples)
        manifest = build_update(done, place, exchange_rules(self._workload.settings), keep)
        return keep(manifest.to_bytes())

    def _step(self, inputs: InputFingerprint) -> None:
        batch = self._batch(self.steps_done)
        inputs.add(batch)
        value = self._steps.take(batch, self.micro_batch)
        if not math.isfinite(value):
            raise DivergedError(
                f"training diverged in round {self._spec.round}, inner step {self.steps_done} (the loss is {value}); "
                "submit the job again with a lower learning rate"
            )
        self.steps_done += 1
        self.losses.append(value)

    def _batch(self, step: int) -> Mapping[str, Tensor]:
        size = self._workload.settings.share_samples
        return self._workload.batch_of(self._spec.indices[step * size : (step + 1) * size])


def work(
    workload: Workload,
    state: State,
    spec: WorkSpec,
    keep: Callable[[bytes], str],
    *,
    on_state: Keep = no_keep,
    report: Report = lambda _: None,
    time_limit_s: float | None = None,
    now_s: Callable[[], float] = time.monotonic,
) -> WorkResult:
    """Train one slot's work and build its update. ``keep`` stores bytes and returns their hash; ``on_state`` is shown
    the state at the end of every segment.

    With ``time_limit_s`` it ends after the first step that finishes later than that, and commits the steps
    done. Raises ``RefusedError`` for a spec that does not fit the state and ``DivergedError`` when training
    diverges.
    """
    began_s = now_s()
    run = InnerRun(workload, state, spec)

    def out_of_time() -> bool:
        return time_limit_s is not None and now_s() - began_s >= time_limit_s

    leaves = []
    for leaf in run.segments(report, out_of_time):
        leaves.append(leaf)
        on_state(leaf.segment + 1, run.vectors)
    update_root = run.update_root(keep)
    return WorkResult(
        update_root=update_root,
        trace_root=trace_root(leaves),
        leaves=tuple(leaves),
        steps=run.steps_done,
        samples=run.samples,
        micro_batch=run.micro_batch,
        mean_loss=run.mean_loss,
        seconds=now_s() - began_s,
    )


def _check(settings: Training, state: State, spec: WorkSpec) -> None:
    if state.job_id != spec.job_id:
        raise RefusedError(
            f"the work is for job {spec.job_id[:16]}… but its start state is of another; ask for it again"
        )
    if state.round != spec.round:
        raise RefusedError(
            f"the work is for round {spec.round} but its start state opens round {state.round}; ask again"
        )
    if spec.steps < 1 or len(spec.indices) != spec.steps * settings.share_samples:
        raise RefusedError(
            f"the work names {len(spec.indices)} samples for {spec.steps} steps of {settings.share_samples}; ask again"
        )
