"""Its own previous round again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from swarm import Swarm

ATTACK = Attack(
    "its own previous round again",
    "A worker sends the update of the round before once more, under a trace of this round's samples.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec(round_=1)
    before = shop.work(replace(shop.spec(round_=0), refresh=spec.refresh))  # with the chunks that this round asks for
    again = shop.with_update(spec, before, lambda _, values: values)
    return Lie(spec, shop.with_true_inputs(spec, again))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert verdict.first_differing_segment == 0, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(turned_swarm: Swarm, expect: Expect) -> None:
    expect(turned_swarm.false_work("same_again"))
