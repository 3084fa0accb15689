"""A peer's shard instead of its own."""

from __future__ import annotations

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from swarm import Swarm

ATTACK = Attack(
    "a peer's shard",
    "A worker trains on the samples of another slot and claims its own.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    mine, theirs = shop.spec(slot=0), shop.spec(slot=1)
    done = shop.with_update(mine, shop.work(theirs), lambda _, values: values)
    return Lie(mine, shop.with_true_inputs(mine, done))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert verdict.first_differing_segment == 0, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(swarm: Swarm, expect: Expect) -> None:
    expect(swarm.false_work("peers_shard"))
