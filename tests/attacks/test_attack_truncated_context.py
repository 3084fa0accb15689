"""Truncated context."""

from __future__ import annotations

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from torch import Tensor
from workshop import Lie, Workshop

from swarm import Swarm

ATTACK = Attack(
    "truncated context",
    "A worker cuts every sample to half its length, which costs half, and fills up with what it has.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec()

    def halve(_: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        tokens = batch["tokens"].clone()
        middle = tokens.shape[1] // 2
        tokens[:, middle : 2 * middle] = tokens[:, :middle]
        return batch | {"tokens": tokens}

    return Lie(spec, shop.trained_on(spec, halve))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert verdict.first_differing_segment == 0, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(swarm: Swarm, expect: Expect) -> None:
    expect(swarm.false_work("truncated_context"))
