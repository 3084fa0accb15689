"""Whether values are finite, in one pass over them."""

from __future__ import annotations

import torch
from torch import Tensor


def all_finite(values: Tensor) -> bool:
    """Whether no value of a floating-point tensor is infinite or NaN: both show in the least and the greatest."""
    if not values.numel():
        return True
    least, greatest = torch.aminmax(values)
    return bool(torch.isfinite(least) & torch.isfinite(greatest))
