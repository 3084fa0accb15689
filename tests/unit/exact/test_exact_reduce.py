"""Averaging a chunk, against a straightforward float64 computation, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from exact_inputs import spread
from torch import Tensor

from anynode.exact.layout import ChunkSpec, Section
from anynode.exact.reduce import Contribution, ExchangeRules, reduce_chunk, steps_advance
from anynode_contracts.errors import RefusedError

COUNT = 1_000
RULES = ExchangeRules(bits=4, block=128, clip_multiple=4.0)


def chunk(section: Section) -> ChunkSpec:
    return ChunkSpec(0, section, 0, COUNT)


def contribution(slot: int, section: Section, *, grown: float = 1.0, rules: ExchangeRules = RULES) -> Contribution:
    values = spread(COUNT, slot, unsigned=section == "v") * grown
    return Contribution(slot, rules.codec(section).encode(values), samples=80 + 10 * slot, steps=8 + slot)


def decoded(item: Contribution, section: Section, rules: ExchangeRules = RULES) -> Tensor:
    return rules.codec(section).parse(item.payload, COUNT).values().double()


def reference(items: list[Contribution], section: Section, rules: ExchangeRules) -> Tensor:
    """The mean in float64, without clipping, before its quantisation."""
    values = [decoded(item, section, rules) ** (2 if section == "v" else 1) for item in items]
    total = sum(item.samples for item in items)
    mean = torch.stack([v * (i.samples / total) for v, i in zip(values, items, strict=True)]).sum(0)
    if section == "v":
        return mean.sqrt()
    return mean * (sum(i.samples * i.steps for i in items) // total) if section == "delta" else mean


def drift_rel_l2(result: Tensor, wanted: Tensor) -> float:
    return float((result.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("section", ["delta", "v"])
def test_unquantised_it_is_the_weighted_mean(section: Section) -> None:
    rules = replace(RULES, bits=32)
    items = [contribution(slot, section, rules=rules) for slot in range(5)]
    result = rules.codec(section).parse(reduce_chunk(chunk(section), items, rules), COUNT).values()
    assert drift_rel_l2(result, reference(items, section, rules)) < 1e-6


@pytest.mark.parametrize("section", ["delta", "v"])
def test_quantised_it_is_the_weighted_mean_quantised_once(section: Section) -> None:
    items = [contribution(slot, section) for slot in range(3)]
    result = reduce_chunk(chunk(section), items, RULES)
    codec = RULES.codec(section)
    wanted = codec.parse(codec.encode(reference(items, section, RULES).float()), COUNT)
    got = codec.parse(result, COUNT)
    off = (got.values() - wanted.values()).abs()
    steps = wanted.scales.repeat_interleave(128)[:COUNT]
    assert bool((off <= steps * 1.01).all())
    assert float((off > steps * 0.1).double().mean()) < 0.01  # only where a value lay between two codes


def test_a_delta_is_clipped_to_a_multiple_of_the_lower_median_norm() -> None:
    rules = replace(RULES, bits=32, clip_multiple=2.0)
    items = [contribution(slot, "delta", rules=rules) for slot in range(3)]
    items.append(contribution(3, "delta", grown=1_000.0, rules=rules))
    norms = sorted(float(decoded(item, "delta", rules).norm()) for item in items)
    large = decoded(items[3], "delta", rules)
    clipped = large * (2.0 * norms[1] / float(large.norm()))
    payload = rules.codec("delta").encode(clipped.float())
    # the clipped sender as a fourth member stays under the limit, so that nothing is clipped in the reference
    wanted = reference([*items[:3], replace(items[3], payload=payload)], "delta", rules)
    result = rules.codec("delta").parse(reduce_chunk(chunk("delta"), items, rules), COUNT).values()
    assert drift_rel_l2(result, wanted) < 1e-6


def test_below_three_members_nothing_is_clipped() -> None:
    rules = replace(RULES, bits=32)
    items = [contribution(0, "delta", rules=rules), contribution(1, "delta", grown=1e4, rules=rules)]
    result = rules.codec("delta").parse(reduce_chunk(chunk("delta"), items, rules), COUNT).values()
    assert drift_rel_l2(result, reference(items, "delta", rules)) < 1e-6


def test_a_newcomer_weighs_nothing_and_moves_no_median() -> None:
    items = [contribution(slot, "delta") for slot in range(3)]
    newcomer = replace(contribution(3, "delta", grown=1e6), full_weight=False)
    assert reduce_chunk(chunk("delta"), [*items, newcomer], RULES) == reduce_chunk(chunk("delta"), items, RULES)
    with pytest.raises(RefusedError, match="no full-weight contribution"):
        reduce_chunk(chunk("delta"), [newcomer], RULES)


def test_the_largest_payloads_never_make_a_reducer_fail() -> None:
    top = bytes([0xFF] * (COUNT // 2)) + b"\x80\x53" * math.ceil(COUNT / 128)  # code 7 or 15, scale 2^40
    for section in ("delta", "v"):
        items = [Contribution(slot, top, 1 << 40, 1_000_000) for slot in range(2)]
        payload = reduce_chunk(chunk(section), items, RULES)
        RULES.codec(section).parse(payload, COUNT)


def test_what_is_malformed_names_its_slot() -> None:
    items = [contribution(slot, "delta") for slot in range(3)]
    broken = replace(items[1], payload=items[1].payload[:-1])
    with pytest.raises(RefusedError, match="slot 1: "):
        reduce_chunk(chunk("delta"), [items[0], broken, items[2]], RULES)
    with pytest.raises(RefusedError, match="slot order"):
        reduce_chunk(chunk("delta"), [items[1], items[0]], RULES)
    with pytest.raises(RefusedError, match="slot 0 contributes no samples"):
        reduce_chunk(chunk("delta"), [replace(items[0], samples=0)], RULES)


def test_steps_advance_is_the_weighted_mean_rounded_down() -> None:
    assert steps_advance([(10, 5), (10, 6)]) == 5
    assert steps_advance([(30, 20), (10, 4)]) == 16
    assert steps_advance([]) == 0
