"""Easier data."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect
from court import Cheat, Court
from purse import Purse
from workshop import Lie, Workshop

from swarm import Swarm

ATTACK = Attack(
    "easier data",
    "A worker trains on one sample over and over, which it has in its cache, and claims those that it was dealt.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec()
    easy = dict(shop.data.batch([0] * shop.job.training.batch_size))
    return Lie(spec, shop.trained_on(spec, lambda _, __: easy))


def cheat_openly(shop: Workshop) -> Lie:
    spec = shop.spec()
    return Lie(spec, shop.work(replace(spec, indices=(0,) * len(spec.indices))))


@pytest.mark.parametrize("attempt", [cheat, cheat_openly])
def test_it_is_caught(court: Court, purse: Purse, expect: Expect, attempt: Cheat) -> None:
    found, _, verdict = court.judged(attempt, purse)
    assert verdict.first_differing_segment == 0, verdict.reason
    expect(found)


@pytest.mark.deep
@pytest.mark.parametrize("name", ["easier_data", "cheat_openly"])
def test_it_is_caught_in_a_swarm(turned_swarm: Swarm, expect: Expect, name: str) -> None:
    expect(turned_swarm.false_work(name))
