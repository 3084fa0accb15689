"""The signed residuals of accepted tolerant audits, and where each worker was off before, kept on disk.

The difference of two changes, claimed and replayed, is projected on two directions, as a part of the tolerance.
``along`` the replayed change itself: who makes every update a little longer or shorter shows there. ``again``: the sum
of all differences of this worker so far. Whatever an honest machine was off before, it is off to either side of that
the next time; who pushes the model anywhere, again and again, is off in the direction of that sum. Only who turns so
that it never is stays unseen, and then the sum, which is what does harm, grows no faster than that of noise.
By Cauchy and Schwarz both are in [-1, 1] for whatever was accepted.

The sum is one of sketches, under a seed that only this verifier knows. The file may be lost: the sum then begins anew
with another seed, and what was found before stands in the records.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from annotated_types import Len
from pydantic import BaseModel, ConfigDict, ValidationError

from anynode.rounds.lean import UNIT
from anynode.training.messages import SKETCH_VALUES, SegmentSums
from anynode_contracts.files import write_aside

RESIDUALS_FILE = "residuals.json"
Sketch = Annotated[tuple[float, ...], Len(SKETCH_VALUES, SKETCH_VALUES)]


class _Kept(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    seed: str
    sums: dict[str, Sketch]


class Residuals:
    """Those of one job's workers, with their sums in ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            kept = _Kept.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            kept = _Kept(seed=secrets.token_hex(32), sums={})
        self.seed, self._sums = kept.seed, dict(kept.sums)

    def take(self, node: str, segments: Sequence[SegmentSums], tolerance: float) -> tuple[int, ...]:
        """The residuals of an accepted audit of ``node`` in thousandths, ``along`` and ``again`` of each segment; what
        it adds to the worker's sum is kept. ``tolerance``: the relative L2 distance that is taken for honest.
        """
        found: list[int] = []
        total: Sketch = self._sums.get(node, (0.0,) * SKETCH_VALUES)
        for sums in segments:
            ours, along = _squares(sums)
            scale = tolerance * math.sqrt(ours)
            off = tuple(value / scale if scale else 0.0 for value in sums.sketch)
            found += [
                _thousandths(along / ours / tolerance if ours else 0.0),
                _thousandths(_product(off, total) / (_length(total) or 1.0)),
            ]
            total = tuple(before + now for before, now in zip(total, off, strict=True))
        self._sums[node] = total
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(self._path, json.dumps({"seed": self.seed, "sums": self._sums}).encode())
        return tuple(found)


def _squares(sums: SegmentSums) -> tuple[float, float]:
    """Of the first vector's change: the square of ours, and the product of the difference with it.

    With d = theirs - ours, |theirs|² = |ours|² + 2 d·ours + |d|².
    """
    first = sums.tensors[0].vector
    tensors = [item for item in sums.tensors if item.vector == first]
    ours = sum(item.ours for item in tensors)
    return ours, sum(item.theirs - item.ours - item.difference for item in tensors) / 2.0


def _thousandths(part: float) -> int:
    return round(UNIT * min(1.0, max(-1.0, part)))


def _product(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(one, other, strict=True))


def _length(vector: Sequence[float]) -> float:
    return math.sqrt(_product(vector, vector))
