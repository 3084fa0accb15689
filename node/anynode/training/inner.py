"""One slot's inner training, from a published state, with a trace: a pure function of state, data and job.

A worker keeps nothing from round to round. It starts from the parameters and published moments of S_r, and
the learning rate follows from the step count of S_r, so that anyone who has S_r can do the same work again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anynode.exact.quantise import DivergedError
from anynode.exact.reduce import ExchangeRules
from anynode.exact.state import State
from anynode.exact.update import Trained, UpdatePlace, build_update
from anynode.jobs.settings import Training
from anynode.training.adamw import FlatAdamW, learning_rate
from anynode.training.fingerprint import InputFingerprint, state_fingerprint
from anynode.training.messages import Progress, WorkResult, WorkSpec
from anynode.training.trace import TraceLeaf, trace_root
from anynode_contracts.errors import RefusedError

LossFunction = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""(parameters by name, batch columns by name) -> scalar loss, differentiable in the parameters."""
BatchFunction = Callable[[Sequence[int]], Mapping[str, Tensor]]
"""Sample numbers -> batch columns by name, in that order."""
Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Workload:
    """What a job trains: its loss, where batches come from, and its settings."""

    loss: LossFunction
    batch_of: BatchFunction
    settings: Training

    @property
    def exchange(self) -> ExchangeRules:
        chosen = self.settings
        return ExchangeRules(chosen.bits, chosen.block, chosen.clip_multiple)


class InnerRun:
    """Inner training under way. ``segments`` advances it; afterwards ``trained`` and ``mean_loss`` hold the
    outcome.
    """

    def __init__(self, workload: Workload, state: State, spec: WorkSpec) -> None:
        _check(workload.settings, state, spec)
        self._workload, self._state, self._spec = workload, state, spec
        self._params = state.params.clone()
        self._m = state.m.clone() if state.has_moments else torch.zeros_like(state.params)
        self._v = state.v.clone() if state.has_moments else torch.zeros_like(state.params)
        seen = state.step if state.has_moments else 0
        self._optimizer = FlatAdamW(self._params, self._m, self._v, seen, workload.settings)
        views = state.layout.views(self._params)
        self._leaves = {name: view.detach().requires_grad_() for name, view in views.items()}
        self._gradient = torch.empty_like(self._params)
        self.steps_done = 0
        self.losses: list[float] = []

    def segments(self, report: Report, out_of_time: Callable[[], bool]) -> Iterator[TraceLeaf]:
        """Train segment by segment and yield the leaf of each; stops after the first step that is out of
        time.
        """
        before = state_fingerprint(self._params, self._m, self._v)
        number = 0
        stopped = False
        while self.steps_done < self._spec.steps and not stopped:
            first, inputs = self.steps_done, InputFingerprint()
            rates = []
            while self.steps_done < min(first + self._workload.settings.segment_steps, self._spec.steps):
                rates.append(self._step(inputs))
                report(Progress(self.steps_done, self._spec.steps, self.losses[-1]))
                stopped = out_of_time()
                if stopped:
                    break
            after = state_fingerprint(self._params, self._m, self._v)
            yield TraceLeaf(
                segment=number,
                first_step=first,
                steps=self.steps_done - first,
                before=before,
                after=after,
                inputs=inputs.hexdigest(),
                rates=tuple(rate.hex() for rate in rates),
            )
            before, number = after, number + 1

    @property
    def samples(self) -> int:
        return self.steps_done * self._workload.settings.batch_size

    @property
    def mean_loss(self) -> float:
        return sum(self.losses) / len(self.losses)

    def update_root(self, keep: Callable[[bytes], str]) -> str:
        """Build the update, handing payloads and the manifest to ``keep``, and return its root."""
        trained = Trained(
            self._state.params, self._params, self._m, self._v, steps=self.steps_done, samples=self.samples
        )
        spec = self._spec
        place = UpdatePlace(spec.job_id, spec.round, spec.slot, spec.refresh)
        manifest = build_update(trained, place, self._workload.exchange, keep)
        return keep(manifest.to_bytes())

    def _step(self, inputs: InputFingerprint) -> float:
        size = self._workload.settings.batch_size
        start = self.steps_done * size
        batch = self._workload.batch_of(self._spec.indices[start : start + size])
        inputs.add(batch)
        loss = self._workload.loss(self._leaves, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(
                f"training diverged in round {self._spec.round}, inner step {self.steps_done} (the loss is {value}); "
                "submit the job again with a lower learning rate"
            )
        gradients = self._gradients(loss)
        torch.cat([gradient.reshape(-1) for gradient in gradients], out=self._gradient)
        rate = learning_rate(self._workload.settings, self._state.step + self.steps_done)
        with torch.no_grad():
            self._optimizer.step(self._gradient, rate)
        self.steps_done += 1
        self.losses.append(value)
        return rate

    def _gradients(self, loss: Tensor) -> tuple[Tensor, ...]:
        """A stranger's graph can pass every check forward and still have no gradient for its values."""
        try:
            return torch.autograd.grad(loss, list(self._leaves.values()), materialize_grads=True)
        except RuntimeError as error:
            raise RefusedError(
                "the job's model has no gradient for this batch; do not take part in this job"
            ) from error


def work(
    workload: Workload,
    state: State,
    spec: WorkSpec,
    keep: Callable[[bytes], str],
    *,
    report: Report = lambda _: None,
    time_limit_s: float | None = None,
    now_s: Callable[[], float] = time.monotonic,
) -> WorkResult:
    """Train one slot's work and build its update. ``keep`` stores bytes and returns their hash.

    With ``time_limit_s`` it ends after the first step that finishes later than that, and commits the steps
    done. Raises ``RefusedError`` for a spec that does not fit the state and ``DivergedError`` when training
    diverges.
    """
    began_s = now_s()
    run = InnerRun(workload, state, spec)

    def out_of_time() -> bool:
        return time_limit_s is not None and now_s() - began_s >= time_limit_s

    leaves = tuple(run.segments(report, out_of_time))
    update_root = run.update_root(keep)
    return WorkResult(
        update_root=update_root,
        trace_root=trace_root(leaves),
        leaves=leaves,
        steps=run.steps_done,
        samples=run.samples,
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
    if spec.steps < 1 or len(spec.indices) != spec.steps * settings.batch_size:
        raise RefusedError(
            f"the work names {len(spec.indices)} samples for {spec.steps} steps of {settings.batch_size}; ask again"
        )
