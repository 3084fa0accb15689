"""From a job's settings to exact arithmetic: how updates are coded and averaged, and the step that ends a round."""

from __future__ import annotations

from collections.abc import Iterable

from anynode.exact.gradient import GradientRules, apply_gradient_round
from anynode.exact.outer import NextRound, OuterRules, apply_round
from anynode.exact.reduce import ExchangeRules
from anynode.exact.state import State
from anynode.jobs.settings import Training
from anynode.training.schedule import learning_rate


def exchange_rules(settings: Training) -> ExchangeRules:
    """How the job's updates are coded and averaged."""
    return ExchangeRules(settings.bits, settings.block, settings.clip_multiple, settings.averages_gradients)


def end_round(
    state: State,
    results: Iterable[bytes] | None,
    settings: Training,
    *,
    refresh: bool,
    steps_advance: int,
    after: NextRound,
) -> State:
    """S_r+1 by the outer step or, in gradient mode, by the optimizer's step. **Consumes** ``state``.

    ``results`` and what is raised are those of ``apply_round``.
    """
    if settings.averages_gradients:
        rate = learning_rate(settings, state.step)
        return apply_gradient_round(state, results, _gradient_rules(settings), learning_rate=rate, after=after)
    rules = OuterRules(settings.outer_lr, settings.outer_momentum, exchange_rules(settings))
    return apply_round(state, results, rules, refresh=refresh, steps_advance=steps_advance, after=after)


def _gradient_rules(settings: Training) -> GradientRules:
    return GradientRules(
        optimizer="sgd" if settings.optimizer == "sgd" else "adamw",
        beta1=settings.beta1,
        beta2=settings.beta2,
        eps=settings.eps,
        momentum=settings.inner_momentum,
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        exchange=exchange_rules(settings),
    )
