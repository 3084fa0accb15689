"""Bisection of two traces of one piece of work: the first segment that differs, and what differs in it. Pure.

Each segment begins from the state in which the one before it ended. So traces that agree up to a segment agree on the
state before it, and one replay of that segment from there tells which of the two is true, whatever came before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from anynode.training.messages import Dispute, Disputed
from anynode.training.trace import TraceLeaf

_NAMES: dict[Disputed, str] = {
    "place": "the steps that it covers",
    "before": "the state before it",
    "inputs": "the samples fed in",
    "rates": "the learning rates",
    "after": "the state after it",
}


def first_difference(mine: Sequence[TraceLeaf], theirs: Sequence[TraceLeaf]) -> Dispute | None:
    """Where two traces part, None where they are equal. Traces of another length differ before anything is trained."""
    if len(mine) != len(theirs):
        return Dispute(min(len(mine), len(theirs)), "segments", str(len(mine)), str(len(theirs)))
    found = (difference(own, other) for own, other in zip(mine, theirs, strict=True))
    return next((item for item in found if item is not None), None)


def difference(mine: TraceLeaf, theirs: TraceLeaf) -> Dispute | None:
    """What differs in a segment: first what is the same on every machine, then what training has made of it."""
    parts: tuple[tuple[Disputed, str, str], ...] = (
        ("place", _place(mine), _place(theirs)),
        ("before", mine.before, theirs.before),
        ("inputs", mine.inputs, theirs.inputs),
        ("rates", *_rates(mine, theirs)),
        ("after", mine.after, theirs.after),
    )
    return next((Dispute(mine.segment, *part) for part in parts if part[1] != part[2]), None)


def in_words(dispute: Dispute, segment_steps: int, steps: int) -> str:
    """A dispute about work of ``steps`` steps, for people."""
    if dispute.what == "segments":
        return f"{dispute.claimed} segments are claimed, the work has {dispute.recomputed}"
    values = f"recomputed {_short(dispute.recomputed)}, claimed {_short(dispute.claimed)}"
    if dispute.what == "update":
        return f"training was done as claimed but the update sent is another: {values}"
    first = dispute.segment * segment_steps
    last = min(first + segment_steps, steps) - 1
    return f"segment {dispute.segment} (steps {first} to {last}) differs in {_NAMES[dispute.what]}: {values}"


def _place(leaf: TraceLeaf) -> str:
    return f"segment {leaf.segment}, {leaf.steps} steps from step {leaf.first_step} on"


def _rates(mine: TraceLeaf, theirs: TraceLeaf) -> tuple[str, str]:
    """The first two rates that differ."""
    pairs = zip_longest(mine.rates, theirs.rates, fillvalue="none")
    own, other = next(((a, b) for a, b in pairs if a != b), ("", ""))
    return own, other


def _short(value: str) -> str:
    return value if len(value) <= 24 or " " in value else value[:16] + "…"
