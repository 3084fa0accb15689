"""An update made larger."""

from __future__ import annotations

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from swarm import Swarm

ATTACK = Attack(
    "update times 1.5",
    "A worker does its work and sends one and a half times its update, to weigh more than others.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec()
    done = shop.work(spec)
    return Lie(spec, shop.with_update(spec, done, lambda section, values: values if section == "v" else values * 1.5))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert "the update sent is another" in verdict.reason, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(turned_swarm: Swarm, expect: Expect) -> None:
    expect(turned_swarm.false_work("half_as_much_again"))
