"""Random noise instead of work."""

from __future__ import annotations

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from torch import Tensor
from workshop import Lie, Workshop, noise_like

from swarm import Swarm

ATTACK = Attack(
    "random noise",
    "A worker does one step and sends noise of the norm that its update has.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec()
    one = shop.work(shop.spec(steps=1))
    noise = shop.with_update(spec, one, _noise)
    return Lie(spec, shop.with_true_inputs(spec, noise))


def _noise(section: str, values: Tensor) -> Tensor:
    noise = noise_like(values, seed=1)
    return noise.abs() if section == "v" else noise


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert verdict.first_differing_segment == 0, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(swarm: Swarm, expect: Expect) -> None:
    expect(swarm.false_work("noise"))
