"""Sketches: a long vector as a few sums of its values under random signs, which keep lengths and angles about.

Each value is added to one of ``SKETCH_VALUES`` sums, or taken off it, as a seed says (Charikar, Chen and
Farach-Colton, "Finding frequent items in data streams", 2002). Sketches under one seed add up like the vectors, and the
inner product of two is right on average, whatever the vectors are, as long as who makes these does not know the seed.
"""

from __future__ import annotations

import torch
from blake3 import blake3
from torch import Tensor

from anynode.training.messages import SKETCH_VALUES

_PIECE = 1 << 20


def difference_sketch(seed: str, ours: Tensor, theirs: Tensor) -> tuple[float, ...]:
    """The sketch of ``theirs`` - ``ours`` [values]; a million values at a time, so that it needs little memory."""
    number = int.from_bytes(blake3(f"sketch {seed}".encode()).digest()[:8], "little")
    generator = torch.Generator().manual_seed(number & ((1 << 63) - 1))
    sums = torch.zeros(2 * SKETCH_VALUES, dtype=torch.float64)
    for mine, other in zip(torch.split(ours, _PIECE), torch.split(theirs, _PIECE), strict=True):
        places = torch.randint(2 * SKETCH_VALUES, (mine.numel(),), generator=generator)
        sums.index_add_(0, places, other.double() - mine.double())
    return tuple((sums[:SKETCH_VALUES] - sums[SKETCH_VALUES:]).tolist())
