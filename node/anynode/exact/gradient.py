"""Gradient mode (``inner_steps = 1``): one optimizer step on the round's mean gradient, in exact arithmetic.

Workers send the mean gradient of their samples as the update's "delta" section. Its mean over all samples is clipped
to a global norm and taken into AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019) or SGD with
momentum, once, by every peer alike. AdamW's moments are those of the state, SGD's momentum is the state's momentum.
The formulas are PyTorch's; the step takes float64 vectors too, in which a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from anynode.exact.arithmetic import filled, pairwise_sum, square_root, whole_power
from anynode.exact.layout import EXCHANGE_VALUES, chunk_specs
from anynode.exact.outer import NextRound, averaged
from anynode.exact.reduce import ExchangeRules
from anynode.exact.state import State

CLIP_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class GradientRules:
    """The job's settings of the step. ``momentum`` is SGD's; ``clip_norm`` 0 clips nothing."""

    optimizer: Literal["adamw", "sgd"]
    beta1: float
    beta2: float
    eps: float
    momentum: float
    weight_decay: float
    clip_norm: float
    exchange: ExchangeRules


def apply_gradient_round(
    state: State, results: Iterable[bytes] | None, rules: GradientRules, *, learning_rate: float, after: NextRound
) -> State:
    """S_r+1. **Consumes** ``state`` as ``apply_round`` does; the step count advances by one.

    ``results`` are the payloads of ``chunk_specs`` in order, or ``None`` for a void round. Raises ``RefusedError`` for
    a payload that is malformed or missing.
    """
    if results is None:
        return replace(state, round=after.round, cursor=after.cursor, returned=after.returned)
    if rules.optimizer == "adamw" and not state.has_moments:
        state = replace(state, m=torch.zeros_like(state.params), v=torch.zeros_like(state.params))
    gradient = torch.empty_like(state.params)
    for spec, values in averaged(results, chunk_specs(state.layout.values, refresh=False), rules.exchange):
        gradient[spec.start : spec.start + spec.count] = values
    clip_(gradient, rules.clip_norm)
    if rules.optimizer == "adamw":
        moments = state.m, state.v
        adamw_(state.params, *moments, gradient, step=state.step + 1, learning_rate=learning_rate, rules=rules)
    else:
        sgd_(state.params, state.momentum, gradient, learning_rate=learning_rate, rules=rules)
    step = state.step + 1
    return replace(state, step=step, round=after.round, cursor=after.cursor, returned=after.returned)


def clip_(gradient: Tensor, norm_max: float) -> float:
    """Scale a vector down, in place, to the L2 norm ``norm_max`` (0 = leave it), and give the norm it had.

    Squares are summed in float64, chunk by chunk and then over the chunks, each time by pairwise halving.
    """
    squares = [pairwise_sum(_squares(piece)) for piece in torch.split(gradient, EXCHANGE_VALUES)]
    norm = math.sqrt(pairwise_sum(torch.tensor(squares, dtype=torch.float64)))
    factor = norm_max / (norm + CLIP_EPSILON)
    if norm_max and factor < 1.0:
        gradient.mul_(filled(factor, gradient))
    return norm


def adamw_(
    params: Tensor, m: Tensor, v: Tensor, gradient: Tensor, *, step: int, learning_rate: float, rules: GradientRules
) -> None:
    """One AdamW step in place on vectors [values] of one type, with the bias correction of step number ``step``."""
    first = 1.0 - whole_power(rules.beta1, step)
    root = math.sqrt(1.0 - whole_power(rules.beta2, step))
    keep, rate = 1.0 - learning_rate * rules.weight_decay, learning_rate / first
    pieces = zip(*(torch.split(vector, EXCHANGE_VALUES) for vector in (params, m, v, gradient)), strict=True)
    for param, mean, square, slope in pieces:
        mean.mul_(filled(rules.beta1, mean)).add_(slope * filled(1.0 - rules.beta1, slope))
        grown = slope * slope
        grown.mul_(filled(1.0 - rules.beta2, slope))
        square.mul_(filled(rules.beta2, square)).add_(grown)
        divisor = square_root(square)
        divisor.div_(filled(root, divisor)).add_(filled(rules.eps, divisor))
        param.mul_(filled(keep, param)).sub_((mean / divisor).mul_(filled(rate, mean)))


def sgd_(params: Tensor, momentum: Tensor, gradient: Tensor, *, learning_rate: float, rules: GradientRules) -> None:
    """One step of SGD with momentum in place; weight decay is added to the gradient, as PyTorch's SGD does."""
    pieces = zip(*(torch.split(vector, EXCHANGE_VALUES) for vector in (params, momentum, gradient)), strict=True)
    for param, velocity, slope in pieces:
        pull = param * filled(rules.weight_decay, param)
        pull.add_(slope)
        velocity.mul_(filled(rules.momentum, velocity)).add_(pull)
        param.sub_(velocity * filled(learning_rate, velocity))


def _squares(values: Tensor) -> Tensor:
    wide = values.to(torch.float64)
    return wide * wide
