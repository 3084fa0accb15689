"""Sketches keep lengths and angles about, add up, and are long whatever the vector is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anynode.training.messages import SKETCH_VALUES
from anynode.training.sketch import difference_sketch

VALUES = 5_000
NOTHING = torch.zeros(VALUES)


def drawn(seed: int) -> Tensor:
    return torch.randn(VALUES, generator=torch.Generator().manual_seed(seed))


def product(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return sum(x * y for x, y in zip(one, other, strict=True))


def test_products_of_sketches_are_those_of_what_they_are_of() -> None:
    one, other = drawn(1), drawn(2) + 0.5 * drawn(1)
    true = float(one @ other)
    found = [
        product(difference_sketch(s, NOTHING, one), difference_sketch(s, NOTHING, other)) for s in map(str, range(50))
    ]
    spread = float(one.norm() * other.norm()) * math.sqrt(2 / SKETCH_VALUES)
    assert all(abs(item - true) < 5 * spread for item in found)
    assert sum(found) / len(found) == pytest.approx(true, abs=5 * spread / math.sqrt(len(found)))


def test_one_value_alone_is_as_long_in_its_sketch() -> None:
    """Wherever a worker hides what it adds, the sketch has its length."""
    for place in (0, 17, VALUES - 1):
        single = NOTHING.clone()
        single[place] = 3.0
        sketch = difference_sketch("seed", NOTHING, single)
        assert product(sketch, sketch) == pytest.approx(9.0)


def test_sketches_add_up_and_depend_on_the_seed() -> None:
    one, other = drawn(1), drawn(2)
    both = difference_sketch("seed", -other, one)
    parts = zip(difference_sketch("seed", NOTHING, one), difference_sketch("seed", -other, NOTHING), strict=True)
    assert both == pytest.approx([x + y for x, y in parts], abs=1e-4)
    assert difference_sketch("another", NOTHING, one) != difference_sketch("seed", NOTHING, one)
