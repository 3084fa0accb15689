"""Honest only where an audit is expected."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from anynode.training.inner import InnerRun
from anynode.training.messages import WorkResult
from swarm import Swarm

ATTACK = Attack(
    "honest only where predictable",
    "A worker trains the first and the last segment honestly and leaves out the middle one.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec()
    size = shop.job.training.batch_size
    middle = range(3, 6)
    kept = tuple(i for step in range(spec.steps) if step not in middle for i in spec.indices[step * size :][:size])
    run = InnerRun(shop.workload, shop.states[spec.state_root], replace(spec, steps=5, indices=kept))
    leaves = list(run.segments(lambda _: None, lambda: False))
    run.resume(spec.steps, [vector.clone() for vector in run.vectors])
    after = (leaves[0].after, leaves[0].after, leaves[1].after)
    told = tuple(replace(leaves[0], segment=number, after=state) for number, state in enumerate(after))
    root = run.update_root(shop.store.put)
    result = WorkResult(root, "0" * 64, told, spec.steps, len(spec.indices), run.micro_batch, 1.0, 1.0)
    return Lie(spec, shop.with_true_inputs(spec, result))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert verdict.first_differing_segment == 1, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(swarm: Swarm, expect: Expect) -> None:
    expect(swarm.false_work("honest_at_the_ends"))
