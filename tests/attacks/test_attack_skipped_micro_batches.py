"""Micro-batches left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect
from court import Cheat, Court
from purse import Purse
from torch import Tensor
from workshop import Lie, Workshop

from swarm import Swarm

ATTACK = Attack(
    "micro-batches skipped",
    "A worker leaves out one of the round's 32 micro-batches, a quarter or half of them.",
    "caught",
)


def skip(shop: Workshop, skipped: frozenset[int]) -> Lie:
    """Leave out some of the 32 samples, each a micro-batch; the mean is taken over the rest of its batch."""
    spec = replace(shop.spec(), micro_batch=1)
    size = shop.job.training.batch_size

    def change(number: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = [place for place in range(size) if number * size + place not in skipped]
        return {name: column[kept] for name, column in batch.items()}

    return Lie(spec, shop.trained_on(spec, change))


def one_in_32(shop: Workshop) -> Lie:
    return skip(shop, frozenset({31}))


def a_quarter(shop: Workshop) -> Lie:
    return skip(shop, frozenset(range(0, 32, 4)))


def half(shop: Workshop) -> Lie:
    return skip(shop, frozenset(range(0, 32, 2)))


@pytest.mark.parametrize(("cheat", "segment"), [(one_in_32, 2), (a_quarter, 0), (half, 0)])
def test_it_is_caught(court: Court, purse: Purse, expect: Expect, cheat: Cheat, segment: int) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert verdict.first_differing_segment == segment, verdict.reason
    expect(found)


@pytest.mark.deep
@pytest.mark.parametrize("name", ["one_in_32", "a_quarter", "half"])
def test_it_is_caught_in_a_swarm(swarm: Swarm, expect: Expect, name: str) -> None:
    expect(swarm.false_work(name))
