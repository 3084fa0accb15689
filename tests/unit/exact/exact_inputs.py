"""Inputs for the tests of exact arithmetic: those of its test vectors, and a state made of them."""

from __future__ import annotations

from anynode.exact.state import State
from anynode.exact.vectors import spread

__all__ = ["spread", "spread_state"]


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
