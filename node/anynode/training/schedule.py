"""The learning rate of a step. In gradient mode it enters the exact step, so it is made of exact operations alone."""

from __future__ import annotations

from anynode.exact.arithmetic import half_cosine
from anynode.jobs.settings import Training


def learning_rate(settings: Training, step: int) -> float:
    """The rate of step number ``step`` of the job: linear warm-up times the schedule, which goes from
    ``learning_rate`` down to ``min_lr_ratio`` of it at ``total_steps`` and stays there.
    """
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    gone = min(step, settings.total_steps) / settings.total_steps
    floor = settings.min_lr_ratio
    match settings.schedule:
        case "constant":
            left = 1.0
        case "linear":
            left = 1.0 - (1.0 - floor) * gone
        case "cosine":
            left = floor + (1.0 - floor) * 0.5 * (1.0 + half_cosine(gone))
    return settings.learning_rate * warm * left


def inner_warmup(settings: Training, inner_step: int) -> float:
    """The factor of the rate of a round's step ``inner_step`` where the optimizer starts fresh in each round."""
    if settings.optimizer != "adamw-fresh" or inner_step >= settings.inner_warmup_steps:
        return 1.0
    return (inner_step + 1) / settings.inner_warmup_steps
