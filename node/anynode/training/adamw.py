"""The inner optimizer: AdamW over one flat vector, and its learning-rate schedule.

One vector instead of a list of tensors makes a step a dozen kernels whatever the number of layers. The
formulas are those of ``torch.optim.AdamW`` (Loshchilov and Hutter, "Decoupled Weight Decay Regularization",
2019), and a test compares the two.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anynode.jobs.settings import Training

_CLIP_EPSILON = 1e-6


def learning_rate(settings: Training, step: int) -> float:
    """Linear warm-up times a cosine from ``learning_rate`` down to ``min_lr_ratio`` of it at ``total_steps``."""
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    gone = min(step, settings.total_steps) / settings.total_steps
    floor = settings.min_lr_ratio
    return settings.learning_rate * warm * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * gone)))


class FlatAdamW:
    """AdamW on float32 vectors ``params``, ``m`` and ``v`` [values], all updated in place.

    ``step`` is the number of steps that the moments have seen: bias correction goes on from it.
    """

    def __init__(self, params: Tensor, m: Tensor, v: Tensor, step: int, settings: Training) -> None:
        self.params, self.m, self.v = params, m, v
        self.step_count = step
        self._settings = settings
        self._scratch = torch.empty_like(params)

    def step(self, gradient: Tensor, rate: float) -> None:
        """One step down ``gradient`` [values], which is clipped to the job's norm in place."""
        chosen = self._settings
        self.step_count += 1
        if chosen.clip_norm:
            norm = float(torch.linalg.vector_norm(gradient))
            if norm > chosen.clip_norm:
                gradient.mul_(chosen.clip_norm / (norm + _CLIP_EPSILON))
        self.params.mul_(1.0 - rate * chosen.weight_decay)
        self.m.lerp_(gradient, 1.0 - chosen.beta1)
        self.v.mul_(chosen.beta2).addcmul_(gradient, gradient, value=1.0 - chosen.beta2)
        first = 1.0 - chosen.beta1**self.step_count
        second = 1.0 - chosen.beta2**self.step_count
        torch.sqrt(self.v, out=self._scratch)
        self._scratch.div_(math.sqrt(second)).add_(chosen.eps)
        self.params.addcdiv_(self.m, self._scratch, value=-rate / first)
