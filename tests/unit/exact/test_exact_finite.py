"""Values that are not finite are seen wherever they are."""

from __future__ import annotations

import pytest
import torch

from anynode.exact.finite import all_finite


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [0, 5_000, -1])
def test_one_is_enough(value: float, place: int) -> None:
    values = torch.linspace(-1.0, 1.0, 10_001)
    assert all_finite(values)
    values[place] = value
    assert not all_finite(values)


def test_none_are_all_finite() -> None:
    assert all_finite(torch.empty(0))
    assert all_finite(torch.tensor([torch.finfo(torch.float32).max]))
