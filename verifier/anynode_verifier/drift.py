"""How far a segment as replayed is from the segment as opened, and whether honest machines are as far apart. Pure.

Compared is what a segment has changed, vector by vector of the inner state (parameters and moments): the relative L2
distance of the whole change and of every tensor's, and the ratio of the two changes' norms. Cosine similarity is no
evidence: whoever drops a quarter of a batch scores 0.94.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from anynode.training.messages import SegmentSums, TensorSums

SMALL_TENSOR = 0.1
"""A tensor's distance is relative to its own change, but not to less than this part of the whole change: what hardly
moves (a bias whose gradient is nothing but rounding) has no direction in which two machines could agree.
"""
MARGIN = 4.0
"""A threshold is so many times the largest honest distance of its calibration."""
NORM_MARGIN = 8.0
"""The same for norms, whose honest differences are of second order, smaller and so less well known."""


@dataclass(frozen=True, slots=True)
class Distance:
    """Of one vector's change: ``whole`` and ``tensor`` (the worst one) are relative L2 distances, ``norm`` is
    |ln(theirs / ours)| of the norms. A threshold is one too: the most that is taken for honest.
    """

    whole: float
    tensor: float
    norm: float


Drift = Mapping[str, Distance]
"""By vector of the inner state."""

#: Below this even a rare event of honest arithmetic is (a rounding that falls the other way in one activation, a mask
#: that flips), so that no calibration, however lucky its samples, may set a threshold lower.
FLOORS: Mapping[str, Distance] = {
    "float32": Distance(whole=5e-4, tensor=5e-3, norm=1e-4),
    "bfloat16": Distance(whole=1e-2, tensor=5e-2, norm=2e-3),
}


def drift_of(sums: SegmentSums) -> dict[str, Distance]:
    """The distances of a segment, from its sums of squares."""
    vectors: dict[str, list[TensorSums]] = {}
    for item in sums.tensors:
        vectors.setdefault(item.vector, []).append(item)
    return {vector: _distance(tensors) for vector, tensors in vectors.items()}


def worst(drifts: Iterable[Drift]) -> dict[str, Distance]:
    """The largest distance of each kind. Raises ``KeyError`` if they are not of the same vectors."""
    found: dict[str, Distance] = {}
    for drift in drifts:
        found = {
            vector: Distance(
                max(item.whole, found[vector].whole),
                max(item.tensor, found[vector].tensor),
                max(item.norm, found[vector].norm),
            )
            if found
            else item
            for vector, item in drift.items()
        }
    return found


def thresholds_from(drifts: Iterable[Drift], precision: str) -> dict[str, Distance]:
    """What is taken for honest: a margin over the worst that honest machines have shown, and at least the floor."""
    floor = FLOORS[precision]
    return {
        vector: Distance(
            max(MARGIN * item.whole, floor.whole),
            max(MARGIN * item.tensor, floor.tensor),
            max(NORM_MARGIN * item.norm, floor.norm),
        )
        for vector, item in worst(drifts).items()
    }


def excess(segment: int, drift: Drift, thresholds: Drift) -> str:
    """What is beyond a threshold, in words with the numbers, or nothing."""
    for vector, limit in thresholds.items():
        if vector not in drift:
            return f"segment {segment}: nothing was compared of {vector}"
        found = drift[vector]
        for name, value, most in (
            ("differs as a whole by", found.whole, limit.whole),
            ("differs in one tensor by", found.tensor, limit.tensor),
            ("differs in its norm by", found.norm, limit.norm),
        ):
            if not value <= most:
                words = f"the change of {vector} {name} {value:.3g}"
                return f"segment {segment}: {words}; honest machines stay below {most:.3g}"
    return ""


def _distance(tensors: Sequence[TensorSums]) -> Distance:
    ours, theirs = sum(item.ours for item in tensors), sum(item.theirs for item in tensors)
    whole = _relative(sum(item.difference for item in tensors), ours)
    least = SMALL_TENSOR**2 * ours
    tensor = max(_relative(item.difference, max(item.ours, least)) for item in tensors)
    if ours == theirs:
        return Distance(whole, tensor, 0.0)
    norm = 0.5 * abs(math.log(theirs / ours)) if ours and theirs else math.inf
    return Distance(whole, tensor, norm)


def _relative(difference: float, ours: float) -> float:
    if difference == 0.0:
        return 0.0
    return math.sqrt(difference / ours) if ours else math.inf
