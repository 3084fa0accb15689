"""A forged hardware class."""

from __future__ import annotations

import pytest
import torch
from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from swarm import Swarm

ATTACK = Attack(
    "forged class",
    "A worker trains with another number of threads than the class that it claims, in which it is replayed.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    """Another class of the same machine: its sums are cut elsewhere."""
    spec = shop.spec()
    torch.set_num_threads(2)
    try:
        return Lie(spec, shop.work(spec))
    finally:
        torch.set_num_threads(1)


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, _ = court.judged(cheat, purse)
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(turned_swarm: Swarm, expect: Expect) -> None:
    expect(turned_swarm.false_work("forged_class"))
