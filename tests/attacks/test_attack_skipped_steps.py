"""Inner steps left out."""

from __future__ import annotations

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from swarm import Swarm

ATTACK = Attack(
    "inner steps skipped",
    "A worker takes three quarters of its inner steps, 6 of 8, and commits to all.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec()
    shorter = shop.work(shop.spec(steps=spec.steps * 3 // 4))
    done = shop.with_update(spec, shorter, lambda _, values: values)
    return Lie(spec, shop.with_true_inputs(spec, done))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert verdict.first_differing_segment == 2, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(swarm: Swarm, expect: Expect) -> None:
    expect(swarm.false_work("skipped_steps"))
