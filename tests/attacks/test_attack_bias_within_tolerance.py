"""A bias that stays just inside the tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from attack import Attack, Expect, Finding
from torch import Tensor

from anynode.exact.layout import chunk_specs
from anynode.exact.outer import NextRound, OuterRules, apply_round
from anynode.exact.quantise import Codec
from anynode.exact.reduce import Contribution, ExchangeRules, reduce_chunk
from anynode.exact.state import State
from anynode.rounds.audit_secrets import SEGMENTS_DRAWN
from anynode.rounds.lean import UNIT, Lean, after_residuals
from anynode.training.messages import SegmentSums, TensorSums
from anynode_verifier.drift import Distance, drift_of, excess
from anynode_verifier.harm import Swarm, audited_push_max, push_of_a_round, push_until_suspected

ATTACK = Attack(
    "a bias inside the tolerance",
    "Colluding workers of another class add as much to each segment as the tolerance lets pass, wherever they like.",
    "bounded",
)

VALUES, HONEST, COLLUDING, SEGMENTS, ROUNDS = 256, 3, 1, 4, 12
TOLERANCE = 0.05
Turn = Callable[[int, Tensor], Tensor]
"""Number of the audited segment and the sum of all pushes so far -> the next push, of at most one."""


def constant(part: float) -> Turn:
    return lambda _, total: part * torch.eye(1, total.numel(), dtype=torch.float64)[0]


def sideways(_: int, total: Tensor) -> Tensor:
    """At right angles to all that was pushed before: never seen by itself."""
    push = torch.zeros_like(total)
    length = float(total.norm())
    if length == 0:
        push[0] = 1.0
    else:
        push[0], push[1] = -total[1] / length, total[0] / length
    return push


def gambler(number: int, total: Tensor) -> Tensor:
    """Back and forth first, to lose what was staked against it, then one way."""
    return constant(1.0)(number, total) * (-1.0 if number < 200 and number % 2 else 1.0)


def hidden_in_noise(part: float) -> Turn:
    """As far back as forth on most days, a little more forth."""
    dice = torch.Generator().manual_seed(7)

    def turn(number: int, total: Tensor) -> Tensor:
        forth = float(torch.rand(1, generator=dice)) < (1 + part) / 2
        return constant(1.0 if forth else -1.0)(number, total)

    return turn


def greedy(number: int, total: Tensor) -> Tensor:
    """Sideways with as much forth as the square root lets pass."""
    forth = min(1.0, 3.0 / math.sqrt(number + 1))
    return forth * constant(1.0)(number, total) + math.sqrt(1 - forth**2) * sideways(number, total)


TURNS: dict[str, Turn] = {
    **{f"always {part:g} of it": constant(part) for part in (1.0, 0.9, 0.5, 0.25, 0.1, 0.05, 0.02)},
    **{f"{part:g} hidden in noise": hidden_in_noise(part) for part in (0.5, 0.3, 0.1, 0.05)},
    "at right angles to its past": sideways,
    "stakes lost first": gambler,
    "sideways and a little forth": greedy,
}


def pushed(turn: Turn, segments: int) -> list[float]:
    """How long the sum of pushes is after each audited segment, until the worker is suspected."""
    total, lean, lengths = torch.zeros(2, dtype=torch.float64), Lean(), []
    for number in range(segments):
        push = turn(number, total)
        assert float(push.norm()) <= 1 + 1e-9
        length = float(total.norm())
        again = round(UNIT * float(push @ total) / length) if length else 0
        lean = after_residuals(lean, (0, again))
        if lean.crossed:
            break
        total = total + push
        lengths.append(float(total.norm()))
    return lengths


@pytest.mark.parametrize("name", TURNS)
def test_whatever_it_does_its_pushes_add_up_to_no_more_than_the_bound(name: str) -> None:
    lengths = pushed(TURNS[name], 1_500)
    for number, length in enumerate(lengths, 1):
        assert length <= audited_push_max(number) + 1e-6, f"{length} after {number} segments"


def test_the_bound_is_the_whole_tolerance_at_first_and_far_less_later() -> None:
    assert audited_push_max(20) == 20, "nobody is suspected for a few roundings"
    parts = [audited_push_max(count) / count for count in (100, 300, 1_000, 10_000, 100_000)]
    assert parts == sorted(parts, reverse=True) and parts[2] < 0.45 and parts[-1] < 0.07
    assert len(pushed(constant(1.0), 100)) <= 25, "the whole tolerance one way is seen within 25 segments"


class Average:
    """Rounds of three honest workers and one that pushes, in the job's exact arithmetic."""

    def __init__(self) -> None:
        self.rules = OuterRules(0.7, 0.9, ExchangeRules(bits=32, block=128))
        self.dice = torch.Generator().manual_seed(3)

    def path(self) -> Tensor:
        """The changes of a round's segments [SEGMENTS, VALUES]."""
        return torch.randn(SEGMENTS, VALUES, generator=self.dice) * 0.01

    def after(self, state: State, updates: list[Tensor]) -> State:
        (spec,) = chunk_specs(VALUES, refresh=False)
        codec = Codec(32, 128)
        sent = [Contribution(slot, codec.encode(-delta), 100, 1) for slot, delta in enumerate(updates)]
        payload = reduce_chunk(spec, sent, self.rules.exchange)
        step = NextRound(state.round + 1, 0, ())
        return apply_round(state, [payload], self.rules, refresh=False, steps_advance=1, after=step)


def accepted(change: Tensor, push: Tensor) -> bool:
    sums = [float((item * item).sum()) for item in (change.double(), (change + push).double(), push.double())]
    tensors = (TensorSums("params", "weight", *sums),)
    limit = {"params": Distance(TOLERANCE, TOLERANCE, 1.0)}
    return not excess(0, drift_of(SegmentSums(0, tensors)), limit)


def test_what_it_does_to_the_model_is_bounded(expect: Expect) -> None:
    """One of four pushes as far as is accepted, one way, in every segment of every round; the model with it and not."""
    average, somewhere = Average(), torch.ones(VALUES) / math.sqrt(VALUES)
    start = torch.zeros(VALUES)
    with_it, without = (State.initial("ab" * 32, {"weight": start.clone()}) for _ in range(2))
    longest = 0.0
    for _ in range(ROUNDS):
        paths = [average.path() for _ in range(HONEST + COLLUDING)]
        pushes = torch.stack([TOLERANCE * 0.999 * change.norm() * somewhere for change in paths[-1]])
        assert all(accepted(change, push) for change, push in zip(paths[-1], pushes, strict=True))
        assert not accepted(paths[-1][0], pushes[0] * 1.01)
        updates = [path.sum(0) for path in paths]
        without = average.after(without, updates)
        with_it = average.after(with_it, [*updates[:-1], updates[-1] + pushes.sum(0)])
        longest = max(longest, sum(float(change.norm()) for change in paths[-1]))
    swarm = Swarm(COLLUDING / (HONEST + COLLUDING), TOLERANCE, 1.0, SEGMENTS_DRAWN, 0.7, 0.9)
    moved = float((with_it.params - without.params).norm())
    bound = push_until_suspected(swarm, ROUNDS) * longest
    assert 0.2 * bound < moved <= bound, (moved, bound)
    assert push_of_a_round(swarm) == pytest.approx(0.0125)
    seldom = replace(swarm, audit_rate=0.04)
    long = push_until_suspected(seldom, 100_000) / push_until_suspected(seldom, 1_000) / 100
    assert long < 0.25, "over a long time it is held to a fraction of the tolerance"
    said = f"{moved / longest:.3f} of a round's path after {ROUNDS} rounds, at most {bound / longest:.3f}"
    expect(Finding("bounded", said))
