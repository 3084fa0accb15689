"""The inner optimizers: AdamW, SGD with momentum, and Muon for matrices beside AdamW, each over one flat vector.

One vector instead of a list of tensors makes a step a few kernels whatever the number of layers. The kernels are those
of ``torch.optim`` with ``fused=True``; they are called directly because its classes import PyTorch's compiler, which
takes longer to load than everything else here. Tests compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from anynode.exact.layout import TensorLayout
from anynode.exact.state import State
from anynode.jobs.settings import Training

_CLIP_EPSILON = 1e-6
_NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315
_NEWTON_SCHULZ_STEPS = 5
_NORM_MIN = 1e-7


class Optimizer(Protocol):
    """An optimizer of ``params`` [values], which it updates in place, as it does its own ``vectors``."""

    @property
    def vectors(self) -> tuple[Tensor, ...]: ...

    def resume(self, steps: int) -> None:
        """Go on as after ``steps`` steps of the round, which the vectors now hold."""

    def step(self, gradient: Tensor, rate: float) -> None:
        """One step down ``gradient`` [values], which is clipped to the job's norm in place."""

    def direction(self, vectors: Sequence[Tensor]) -> Tensor | None:
        """Where such ``vectors`` as its own send the next step [values], up to its length; None where they are one."""


class FlatAdamW:
    """AdamW on float32 vectors ``params``, ``m`` and ``v`` [values] (Loshchilov and Hutter, "Decoupled Weight Decay
    Regularization", 2019).

    ``seen`` is the number of steps that ``v`` has seen: bias correction of both goes on from it.
    """

    def __init__(self, params: Tensor, m: Tensor, v: Tensor, seen: int, settings: Training) -> None:
        self.vectors = m, v
        self._params, self._settings, self._seen = params, settings, seen
        self._step = torch.tensor(float(seen), device=params.device)

    def resume(self, steps: int) -> None:
        self._step.fill_(float(self._seen + steps))

    def direction(self, vectors: Sequence[Tensor]) -> Tensor:
        m, v = vectors
        return m / (v.sqrt() + self._settings.eps)

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


class FlatMuon:
    """Muon for hidden matrices and AdamW for all else, on float32 vectors [values] (Jordan and others, "Muon: An
    optimizer for hidden layers in neural networks", 2024; with an outer step: Thérien and others, "MuLoCo", 2025).

    A matrix is a tensor of two dimensions that ``settings.muon_except`` does not name. Its step has one size whatever
    its momentum, so an empty momentum is right at once, and it needs no second moment: its ``v`` stays as it is, zero
    from the beginning. AdamW goes on from ``v`` after ``seen`` steps, but corrects the bias of its first moment from
    the round's own steps, so that all tensors move equally fast from a round's first step on.
    """

    def __init__(self, params: Tensor, v: Tensor, seen: int, layout: TensorLayout, settings: Training) -> None:
        self.vectors = torch.zeros_like(params), v
        self._layout, self._settings = layout, settings
        self._seen, self._taken = seen, 0
        self._matrices = [
            name for name, shape in layout.tensors if len(shape) == 2 and name not in settings.muon_except
        ]
        self._others = [name for name, _ in layout.tensors if name not in self._matrices]
        self._params, self._m, self._v = (layout.views(vector) for vector in (params, *self.vectors))

    def resume(self, steps: int) -> None:
        self._taken = steps

    def direction(self, vectors: Sequence[Tensor]) -> Tensor:
        m, v = vectors
        found = m / (v.sqrt() + self._settings.eps)
        views, momenta = self._layout.views(found), self._layout.views(m)
        for name in self._matrices:
            views[name].copy_(orthogonal(momenta[name]))
        return found

    def step(self, gradient: Tensor, rate: float) -> None:
        clip(gradient, self._settings.clip_norm)
        slopes = self._layout.views(gradient)
        self._taken += 1
        for name in self._matrices:
            self._step_matrix(self._params[name], self._m[name], slopes[name], rate)
        if self._others:
            self._step_others(slopes, rate)

    def _step_matrix(self, weight: Tensor, momentum: Tensor, slope: Tensor, rate: float) -> None:
        chosen = self._settings
        momentum.mul_(chosen.inner_momentum).add_(slope)
        size = chosen.muon_rms * math.sqrt(max(weight.shape))
        weight.mul_(1.0 - rate * chosen.weight_decay).add_(orthogonal(momentum), alpha=-rate * size)

    def _step_others(self, slopes: Mapping[str, Tensor], rate: float) -> None:
        chosen = self._settings
        seen = self._seen + self._taken
        # The kernel corrects both moments by the same number of steps; the rate makes up for the first one's.
        faster = (1.0 - chosen.beta1**seen) / (1.0 - chosen.beta1**self._taken)
        params, m, v, given = (
            [views[name] for name in self._others] for views in (self._params, self._m, self._v, slopes)
        )
        torch._fused_adamw_(
            params,
            given,
            m,
            v,
            [],
            [torch.tensor(float(seen), device=params[0].device) for _ in params],
            lr=rate * faster,
            beta1=chosen.beta1,
            beta2=chosen.beta2,
            weight_decay=chosen.weight_decay / faster,
            eps=chosen.eps,
            amsgrad=False,
            maximize=False,
        )


class FlatSGD:
    """SGD with momentum on float32 vectors [values]. The momentum starts empty; weight decay adds to the gradient."""

    def __init__(self, params: Tensor, settings: Training) -> None:
        self.vectors = (torch.zeros_like(params),)
        self._params, self._settings = params, settings

    def resume(self, steps: int) -> None:
        """Its vectors are all that it remembers."""

    def direction(self, _: Sequence[Tensor]) -> None:
        """Its one vector is the direction."""

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
        v, seen = state.v.to(params.device, copy=True), state.step
    else:
        v, seen = torch.zeros_like(params), 0
    if settings.optimizer == "muon":
        return FlatMuon(params, v, seen, state.layout, settings)
    return FlatAdamW(params, torch.zeros_like(params), v, seen, settings)


def orthogonal(matrix: Tensor) -> Tensor:
    """``matrix`` [rows, columns] with its singular values brought near one: five steps of the quintic Newton-Schulz
    iteration with Muon's coefficients, in float32 for matrices as for momenta.
    """
    first, third, fifth = _NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / torch.linalg.vector_norm(x).clamp(min=_NORM_MIN)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x.T if tall else x


def clip(gradient: Tensor, norm_max: float) -> None:
    """Scale down, in place, to the L2 norm ``norm_max``; 0 leaves it as it is."""
    if norm_max:
        norm = float(torch.linalg.vector_norm(gradient))
        if norm + _CLIP_EPSILON > norm_max:
            gradient.mul_(norm_max / (norm + _CLIP_EPSILON))
