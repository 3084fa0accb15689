"""What a worker does with a batch: a step of its inner optimizer or, in gradient mode, add its gradient up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from anynode.exact.state import State
from anynode.exact.update import MeanGradient, Trained
from anynode.jobs.settings import Training
from anynode.training.gradients import Gradients
from anynode.training.optimizers import inner_optimizer
from anynode.training.schedule import inner_warmup, learning_rate


class Steps(Protocol):
    """Batch after batch from one state. ``vectors`` [values] are all that changes (``Training.inner_vectors`` names
    them), ``rates`` the rates used so far.
    """

    @property
    def vectors(self) -> tuple[Tensor, ...]: ...

    rates: list[float]

    def planned(self, steps: int) -> list[float]:
        """The rates of the round's first ``steps`` steps."""

    def resume(self, steps: int, vectors: Sequence[Tensor]) -> None:
        """Go on as after ``steps`` steps, which have led to ``vectors``."""

    def direction_of(self, vectors: Sequence[Tensor]) -> Tensor | None:
        """Where all but the first of such ``vectors`` send the next step [values]; None where that is one already."""

    def take(self, batch: Mapping[str, Tensor], micro_batch: int) -> float:
        """Use one batch and give its loss."""

    def outcome(self, steps: int, samples: int) -> Trained | MeanGradient:
        """What the update is made of."""


class LocalSteps:
    """Steps of the inner optimizer, which starts from what the state publishes, at the state's learning rate."""

    def __init__(self, gradients: Gradients, params: Tensor, state: State, settings: Training) -> None:
        self._gradients, self._params, self._state, self._settings = gradients, params, state, settings
        self._optimizer = inner_optimizer(params, state, settings)
        self.vectors = (params, *self._optimizer.vectors)
        self.rates: list[float] = []

    def planned(self, steps: int) -> list[float]:
        return [self._rate(number) for number in range(steps)]

    def resume(self, steps: int, vectors: Sequence[Tensor]) -> None:
        _refill(self.vectors, vectors)
        self._optimizer.resume(steps)
        self.rates = self.planned(steps)

    def direction_of(self, vectors: Sequence[Tensor]) -> Tensor | None:
        return self._optimizer.direction(vectors[1:])

    def take(self, batch: Mapping[str, Tensor], micro_batch: int) -> float:
        loss = self._gradients.mean(batch, micro_batch)
        rate = self._rate(len(self.rates))
        self._optimizer.step(self._gradients.flat, rate)
        self.rates.append(rate)
        return loss

    def _rate(self, number: int) -> float:
        return learning_rate(self._settings, self._state.step + number) * inner_warmup(self._settings, number)

    def outcome(self, steps: int, samples: int) -> Trained:
        v = self._optimizer.vectors[1] if self._settings.publishes_moments else torch.empty(0)
        return Trained(self._state.params, self._params.cpu(), v.cpu(), steps=steps, samples=samples)


class GradientSum:
    """The sum of the batches' mean gradients, all at the state's parameters."""

    def __init__(self, gradients: Gradients) -> None:
        self._gradients = gradients
        self._sum = torch.zeros_like(gradients.flat)
        self.vectors = (self._sum,)
        self.rates: list[float] = []

    def planned(self, steps: int) -> list[float]:
        return []

    def resume(self, steps: int, vectors: Sequence[Tensor]) -> None:
        _refill(self.vectors, vectors)

    def direction_of(self, _: Sequence[Tensor]) -> None:
        """A sum of gradients sends nothing anywhere."""

    def take(self, batch: Mapping[str, Tensor], micro_batch: int) -> float:
        loss = self._gradients.mean(batch, micro_batch)
        self._sum.add_(self._gradients.flat)
        return loss

    def outcome(self, steps: int, samples: int) -> MeanGradient:
        return MeanGradient(self._sum.cpu() / float(steps), steps=steps, samples=samples)


def _refill(vectors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for vector, value in zip(vectors, values, strict=True):
        vector.copy_(value)
