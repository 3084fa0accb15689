"""One row of the embedding poisoned."""

from __future__ import annotations

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from torch import Tensor
from workshop import Lie, Workshop

from swarm import Swarm

EMBEDDING = "embedding.weight"


ATTACK = Attack(
    "one tensor poisoned",
    "A worker does its work and changes one row of the embedding, 32 values of 42,368.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec()
    done = shop.work(spec)
    layout = shop.states[spec.state_root].layout

    def poison(section: str, values: Tensor) -> Tensor:
        if section == "delta":
            rows = layout.views(values)[EMBEDDING]
            rows[ord("e")] = rows.norm() / 4
        return values

    return Lie(spec, shop.with_update(spec, done, poison))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert "the update sent is another" in verdict.reason, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(turned_swarm: Swarm, expect: Expect) -> None:
    expect(turned_swarm.false_work("one_row"))
