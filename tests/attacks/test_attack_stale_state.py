"""A stale start state."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from swarm import Swarm

ATTACK = Attack(
    "stale start state",
    "A worker trains from the state of the round before and claims to have begun from this round's.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec(round_=1)
    before = shop.spec(round_=0)
    stale = shop.work(replace(spec, round=before.round, state_root=before.state_root))
    done = shop.with_update(spec, stale, lambda _, values: values)
    return Lie(spec, shop.with_true_inputs(spec, done))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert verdict.first_differing_segment == 0, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(turned_swarm: Swarm, expect: Expect) -> None:
    expect(turned_swarm.false_work("stale_state"))
