"""Zeros instead of work."""

from __future__ import annotations

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from swarm import Swarm

ATTACK = Attack(
    "zeros",
    "A worker sends an update of nothing but zeros.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec()
    one = shop.work(shop.spec(steps=1))
    return Lie(spec, shop.with_true_inputs(spec, shop.with_update(spec, one, lambda _, values: values * 0)))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert verdict.first_differing_segment == 0, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(swarm: Swarm, expect: Expect) -> None:
    expect(swarm.false_work("zeros"))
