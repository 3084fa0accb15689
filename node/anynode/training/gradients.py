"""Mean gradients of batches: forward and backward on a device, in micro-batches where memory asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anynode.exact.layout import TensorLayout
from anynode_contracts.errors import RefusedError

LossFunction = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""(parameters by name, batch columns by name) -> scalar loss, differentiable in the parameters."""
BatchFunction = Callable[[Sequence[int]], Mapping[str, Tensor]]
"""Sample numbers -> batch columns by name, in that order."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where forward and backward run, and whether in bfloat16 where autocast says; parameters stay float32."""

    device: str = "cpu"
    bfloat16: bool = False

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context of a forward pass."""
        if not self.bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16)


def parts_of(batch: Mapping[str, Tensor], micro_batch: int, place: Place) -> Iterator[dict[str, Tensor]]:
    """``batch`` in parts of ``micro_batch`` samples, in their order, on the device."""
    for start in range(0, next(iter(batch.values())).shape[0], micro_batch):
        here = slice(start, start + micro_batch)
        yield {name: column[here].to(place.device) for name, column in batch.items()}


def mean_loss(
    loss: LossFunction, params: Mapping[str, Tensor], batch: Mapping[str, Tensor], micro_batch: int, place: Place
) -> float:
    """The loss of ``batch`` without gradients; ``params`` are on the device."""
    with torch.no_grad(), place.autocast():
        losses = [float(loss(params, part)) for part in parts_of(batch, micro_batch, place)]
    return sum(losses) / len(losses)


class Gradients:
    """Computes gradients at ``params`` [values, on the device of ``place``] into ``flat`` [values]."""

    def __init__(self, loss: LossFunction, layout: TensorLayout, params: Tensor, place: Place) -> None:
        self._loss, self._place = loss, place
        self.flat = torch.zeros_like(params)
        self._leaves = {name: view.detach().requires_grad_() for name, view in layout.views(params).items()}
        for leaf, view in zip(self._leaves.values(), layout.views(self.flat).values(), strict=True):
            leaf.grad = view

    def mean(self, batch: Mapping[str, Tensor], micro_batch: int) -> float:
        """The loss of ``batch``; its gradient is in ``flat``. ``micro_batch`` samples go through at a time, in their
        order, and gradients add up.
        """
        self.flat.zero_()
        losses = []
        for part in parts_of(batch, micro_batch, self._place):
            with self._place.autocast():
                loss = self._loss(self._leaves, part)
            self._backward(loss)
            losses.append(loss.detach())
        if len(losses) > 1:
            self.flat.div_(len(losses))
        return sum(float(loss) for loss in losses) / len(losses)

    def _backward(self, loss: Tensor) -> None:
        """A stranger's graph can pass every check forward and still have no gradient for its values."""
        try:
            torch.autograd.backward(loss)
        except RuntimeError as error:
            raise RefusedError(
                "the job's model has no gradient for this batch; do not take part in this job"
            ) from error
