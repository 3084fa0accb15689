"""Averaging one exchange chunk: what a reducer computes, and what anyone recomputes from the kept
contributions.

Senders are taken in slot order. A delta is first clipped to a multiple of the lower median norm of the
full-weight senders. Each sender's values (exact in float32) are multiplied by one float32 weight, samples ·
clip / total samples, computed in float64, and added in float32. The mean delta, which is per step, is
multiplied by the weighted mean of steps rounded down. In gradient mode a delta is the mean gradient of its
sender's samples: it is neither clipped nor multiplied, so that the mean is the gradient of all samples.
Second moments travel as square roots: they are squared, averaged, and the root is taken again. The result
is quantised once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from anynode.exact.arithmetic import filled, square_root
from anynode.exact.layout import ChunkSpec, Section
from anynode.exact.quantise import VALUE_MAX, Codec, Quantised
from anynode_contracts.errors import RefusedError, invariant

CLIP_MEMBERS_MIN = 3
STEPS_MAX = 1_000_000
SAMPLES_MAX = 1 << 40


@dataclass(frozen=True, slots=True)
class ExchangeRules:
    """The job's settings of the exchange: ``bits`` and ``block`` of the codec, ``clip_multiple`` of the
    median norm; ``gradients``: a delta is a mean gradient (``inner_steps = 1``).
    """

    bits: int
    block: int
    clip_multiple: float = 4.0
    gradients: bool = False

    def codec(self, section: Section) -> Codec:
        return Codec(self.bits, self.block, unsigned=section == "v")


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one sender committed and delivered. Without ``full_weight`` it is checked but weighs nothing."""

    slot: int
    payload: bytes
    samples: int
    steps: int
    full_weight: bool = True


def steps_advance(work: Sequence[tuple[int, int]]) -> int:
    """The mean of steps weighted by samples, rounded down, of ``(samples, steps)`` pairs; 0 for none."""
    total = sum(samples for samples, _ in work)
    return sum(samples * steps for samples, steps in work) // total if total else 0


def reduce_chunk(spec: ChunkSpec, contributions: Sequence[Contribution], rules: ExchangeRules) -> bytes:
    """The canonical payload of the average of ``contributions``, which are in ascending slot order.

    Raises ``RefusedError`` for a malformed payload (naming its slot) and when none has full weight.
    """
    _check(contributions)
    codec = rules.codec(spec.section)
    parsed = {item.slot: _parse(codec, item, spec.count) for item in contributions}
    members = [item for item in contributions if item.full_weight]
    total = sum(item.samples for item in members)
    clips = clip_factors({item.slot: parsed[item.slot] for item in members}, rules, spec.section)
    work = torch.empty(spec.count)
    mean = weighted_mean(
        (_contributed(parsed[item.slot], spec.section, work), item.samples * clips[item.slot] / total)
        for item in members
    )
    if spec.section == "delta" and not rules.gradients:
        mean.mul_(filled(float(steps_advance([(item.samples, item.steps) for item in members])), mean))
    elif spec.section == "v":
        mean = square_root(mean)
    return codec.encode(_bounded(mean))


def weighted_mean(weighed: Iterable[tuple[Tensor, float]]) -> Tensor:
    """The sum of vectors [values] of one type times their weights, added in the order given. Each vector is **spent**
    before the next is asked for, so that they may share their memory.
    """
    mean: Tensor | None = None
    for values, weight in weighed:
        product = values.mul_(filled(weight, values))
        mean = torch.zeros_like(product).add_(product) if mean is None else mean.add_(product)
    invariant(mean is not None, "a mean has members")
    return cast(Tensor, mean)


def clip_factors(
    members: Mapping[int, Quantised], rules: ExchangeRules, section: Section = "delta"
) -> dict[int, float]:
    """By slot, the factor (at most 1) that brings a delta down to ``clip_multiple`` times the lower median
    norm.
    """
    if section != "delta" or rules.gradients or len(members) < CLIP_MEMBERS_MIN:
        return dict.fromkeys(members, 1.0)
    norms = {slot: math.sqrt(quantised.norm_squared()) for slot, quantised in members.items()}
    limit = rules.clip_multiple * sorted(norms.values())[(len(norms) - 1) // 2]
    return {slot: limit / norm if norm > limit else 1.0 for slot, norm in norms.items()}


def _check(contributions: Sequence[Contribution]) -> None:
    slots = [item.slot for item in contributions]
    if slots != sorted(set(slots)):
        raise RefusedError("the contributions to a chunk are not in slot order; ask the coordinator for the seal again")
    for item in contributions:
        if not (0 < item.samples <= SAMPLES_MAX and 0 < item.steps <= STEPS_MAX):
            raise RefusedError(f"slot {item.slot} contributes no samples or steps; leave it out of the round")
    if not any(item.full_weight for item in contributions):
        raise RefusedError("a chunk has no full-weight contribution to average; close the round as void")


def _parse(codec: Codec, item: Contribution, count: int) -> Quantised:
    try:
        return codec.parse(item.payload, count)
    except RefusedError as error:
        raise RefusedError(f"slot {item.slot}: {error}") from error


def _contributed(quantised: Quantised, section: Section, work: Tensor) -> Tensor:
    values = quantised.values(work)
    return values.mul_(values) if section == "v" else values


def _bounded(values: Tensor) -> Tensor:
    """``values`` brought, in place, within what the codec takes: no set of accepted payloads makes a reducer fail."""
    return values.clamp_(-VALUE_MAX, VALUE_MAX)
