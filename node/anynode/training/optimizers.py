"""The inner optimizers: AdamW and SGD with momentum, each over one flat vector.

One vector instead of a list of tensors makes a step a few kernels whatever the number of layers. The kernels are those
of ``torch.optim`` with ``fused=True``; they are called directly because its classes import PyTorch's compiler, which
takes longer to load than everything else here. Tests compare the two.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from anynode.exact.state import State
from anynode.jobs.settings import Training

_CLIP_EPSILON = 1e-6


class Optimizer(Protocol):
    """An optimizer of ``params`` [values], which it updates in place, as it does its own ``vectors``."""

    @property
    def vectors(self) -> tuple[Tensor, ...]: ...

    def step(self, gradient: Tensor, rate: float) -> None:
        """One step down ``gradient`` [values], which is clipped to the job's norm in place."""


class FlatAdamW:
    """AdamW on float32 vectors ``params``, ``m`` and ``v`` [values] (Loshchilov and Hutter, "Decoupled Weight Decay
    Regularization", 2019).

    ``seen`` is the number of steps that ``v`` has seen: bias correction of both goes on from it.
    """

    def __init__(self, params: Tensor, m: Tensor, v: Tensor, seen: int, settings: Training) -> None:
        self.vectors = m, v
        self._params, self._settings = params, settings
        self._step = torch.tensor(float(seen), device=params.device)

    def step(self, gradient: Tensor, rate: float) -> None:
        chosen = self._settings
        clip(gradient, chosen.clip_norm)
        self._step.add_(1.0)
        m, v = self.vectors
        torch._fused_adamw_(
            [self._params],
            [gradient],
            [m],
            [v],
            [],
            [self._step],
            lr=rate,
            beta1=chosen.beta1,
            beta2=chosen.beta2,
            weight_decay=chosen.weight_decay,
            eps=chosen.eps,
            amsgrad=False,
            maximize=False,
        )


class FlatSGD:
    """SGD with momentum on float32 vectors [values]. The momentum starts empty; weight decay adds to the gradient."""

    def __init__(self, params: Tensor, settings: Training) -> None:
        self.vectors = (torch.zeros_like(params),)
        self._params, self._settings = params, settings

    def step(self, gradient: Tensor, rate: float) -> None:
        chosen = self._settings
        clip(gradient, chosen.clip_norm)
        torch._fused_sgd_(
            [self._params],
            [gradient],
            list(self.vectors),
            lr=rate,
            momentum=chosen.inner_momentum,
            weight_decay=chosen.weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,  # the momentum is there, and zero
        )


def inner_optimizer(params: Tensor, state: State, settings: Training) -> Optimizer:
    """The optimizer that a round starts with: what it remembers comes from the state alone.

    AdamW goes on from the published second moment, which changes slowly, and from no first moment: one that is a few
    rounds old drags every worker the way the model went then (`scripts/bench loss` has the figures). As bias correction
    goes on from the state's step, the first steps of a round are short.
    """
    if settings.optimizer == "sgd":
        return FlatSGD(params, settings)
    if settings.publishes_moments and state.has_moments:
        return FlatAdamW(params, torch.zeros_like(params), state.v.to(params.device, copy=True), state.step, settings)
    return FlatAdamW(params, torch.zeros_like(params), torch.zeros_like(params), 0, settings)


def clip(gradient: Tensor, norm_max: float) -> None:
    """Scale down, in place, to the L2 norm ``norm_max``; 0 leaves it as it is."""
    if norm_max:
        norm = float(torch.linalg.vector_norm(gradient))
        if norm + _CLIP_EPSILON > norm_max:
            gradient.mul_(norm_max / (norm + _CLIP_EPSILON))
