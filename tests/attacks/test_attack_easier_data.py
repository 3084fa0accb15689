"""Easier data."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect
from court import Cheat, Court
from purse import Purse
from workshop import Lie, Workshop

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
