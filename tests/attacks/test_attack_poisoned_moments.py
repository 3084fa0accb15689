"""Poisoned moments."""

from __future__ import annotations

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from swarm import Swarm

ATTACK = Attack(
    "poisoned moments",
    "A worker sends its true update with second moments that would freeze everybody's parameters.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec()
    done = shop.work(spec)
    return Lie(spec, shop.with_update(spec, done, lambda section, values: values * 100 if section == "v" else values))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert "the update sent is another" in verdict.reason, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(swarm: Swarm, expect: Expect) -> None:
    expect(swarm.false_work("poisoned_moments"))
