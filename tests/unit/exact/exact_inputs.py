"""Inputs for the tests of exact arithmetic, from integers alone, so that no random generator's version
matters.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anynode.exact.state import State


def spread(count: int, seed: int, *, unsigned: bool = False) -> Tensor:
    """``count`` float32 values over many magnitudes, some zero, some whole blocks zero, by a linear
    congruence.
    """
    state = (np.arange(count, dtype=np.uint64) + np.uint64(seed * 7_919 + 1)) * np.uint64(6364136223846793005)
    state ^= state >> np.uint64(29)
    state *= np.uint64(1442695040888963407)
    state ^= state >> np.uint64(32)
    mantissa = (state & np.uint64(0xFFFFF)).astype(np.int64) - (1 << 19)
    power = ((state >> np.uint64(24)) & np.uint64(15)).astype(np.int64) - 30
    values = np.ldexp(mantissa.astype(np.float64), power).astype(np.float32)
    values[(state >> np.uint64(40)) % np.uint64(11) == 0] = 0.0
    values[128:256] = 0.0
    return torch.from_numpy(np.abs(values) if unsigned else values)


def spread_state(values: int = 700) -> State:
    """A state with moments, of two tensors whose names are out of order when made."""
    first = values // 3
    tensors = {"b.weight": spread(values, 3)[first:], "a.weight": spread(values, 3)[:first].view(-1, 1)}
    state = State.initial("ab" * 32, tensors)
    return State(
        state.job_id,
        state.layout,
        state.params,
        spread(values, 4),
        spread(values, 5),
        spread(values, 6, unsigned=True),
        step=40,
        round=3,
        cursor=960,
        returned=((5, 9), (20, 24)),
    )
