"""bfloat16 sold as float32."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from anynode.training.gradients import Place
from swarm import Swarm

ATTACK = Attack(
    "bf16 sold as fp32",
    "A worker computes in bfloat16 and claims the class that computes in float32.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec()
    cheap = replace(shop.workload, place=Place("cpu", bfloat16=True))
    return Lie(spec, shop.with_true_inputs(spec, shop.work(spec, cheap)))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert verdict.first_differing_segment == 0, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(swarm: Swarm, expect: Expect) -> None:
    expect(swarm.false_work("cheaper_type"))
