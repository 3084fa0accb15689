"""A peer's update, given away by that peer."""

from __future__ import annotations

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from swarm import Swarm

ATTACK = Attack(
    "a peer's update, from a friend",
    "A worker hands in what a friend in another slot has trained, update and trace.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    mine, theirs = shop.spec(slot=0), shop.spec(slot=1)
    copied = shop.with_update(mine, shop.work(theirs), lambda _, values: values)
    return Lie(mine, copied)


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert "the state after it" in verdict.reason or "the samples fed in" in verdict.reason, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(swarm: Swarm, expect: Expect) -> None:
    expect(swarm.false_work("copied_from_a_friend"))
