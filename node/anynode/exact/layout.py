"""Where a value lies: the flat, name-ordered parameter vector, and the exchange chunks it is cut into."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from anynode_contracts.errors import invariant

EXCHANGE_VALUES = 262_144
"""Values of one exchange chunk; the last chunk of a section is shorter."""

Section = Literal["delta", "v"]
"""What a chunk holds: the pseudo-gradient per step, or the square root of the second moment."""


@dataclass(frozen=True)
class TensorLayout:
    """Names and shapes of a model's tensors in name order, and so the place of each in one flat vector."""

    tensors: tuple[tuple[str, tuple[int, ...]], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.tensors]
        invariant(names == sorted(set(names)), "tensor names are distinct and in order")

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> TensorLayout:
        return cls(tuple((name, tuple(tensors[name].shape)) for name in sorted(tensors)))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(math.prod(shape) for _, shape in self.tensors)

    @cached_property
    def values(self) -> int:
        """Length of the flat vector."""
        return sum(self.sizes)

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """One new float32 vector [values] of the tensors in name order."""
        flat = torch.empty(self.values, dtype=torch.float32)
        for name, view in self.views(flat).items():
            view.copy_(tensors[name])
        return flat

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """The tensors as views into ``flat`` [values]: writing to one writes to the other."""
        pieces = torch.split(flat, list(self.sizes))
        return {name: piece.view(shape) for (name, shape), piece in zip(self.tensors, pieces, strict=True)}


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """Exchange chunk ``index`` of an update: values ``start`` to ``start + count`` of a section's flat
    vector.
    """

    index: int
    section: Section
    start: int
    count: int


def chunk_specs(n_params: int, refresh: bool) -> list[ChunkSpec]:
    """The chunks of an update in order: all of "delta", then on refresh rounds all of "v"."""
    sections: tuple[Section, ...] = ("delta", "v") if refresh else ("delta",)
    pieces = [
        (section, start, min(EXCHANGE_VALUES, n_params - start))
        for section in sections
        for start in range(0, n_params, EXCHANGE_VALUES)
    ]
    return [ChunkSpec(index, *piece) for index, piece in enumerate(pieces)]


def refresh_due(round_: int, refresh_rounds: int, has_moments: bool) -> bool:
    """Whether a round's updates carry moments: every ``refresh_rounds`` rounds, and until there are any."""
    return not has_moments or round_ % refresh_rounds == 0
