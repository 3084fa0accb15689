"""Interpolated states."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from anynode.training.fingerprint import state_fingerprint
from anynode.training.inner import InnerRun
from anynode.training.messages import WorkResult
from swarm import Swarm

ATTACK = Attack(
    "interpolated states",
    "A worker trains one segment, goes on in its direction untrained, and shows what lies between as states.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    spec = shop.spec()
    run = InnerRun(shop.workload, shop.states[spec.state_root], spec)
    start = [vector.clone() for vector in run.vectors]
    honest = next(run.segments(lambda _: None, lambda: False))
    change = [vector - before for vector, before in zip(run.vectors, start, strict=True)]
    fingerprints, done = [honest.after], run.steps_done
    for steps in (2 * done, spec.steps):
        share = steps / done
        vectors = [
            (before + share * moved).abs() if number == 2 else before + share * moved
            for number, (before, moved) in enumerate(zip(start, change, strict=True))
        ]
        run.resume(steps, vectors)
        fingerprints.append(state_fingerprint(*run.vectors))
    root = run.update_root(shop.store.put)
    leaves = tuple(replace(honest, segment=number, after=after) for number, after in enumerate(fingerprints))
    told = WorkResult(root, "0" * 64, leaves, spec.steps, len(spec.indices), run.micro_batch, 1.0, 1.0)
    return Lie(spec, shop.with_true_inputs(spec, told))


def test_it_is_caught(court: Court, purse: Purse, expect: Expect) -> None:
    found, _, verdict = court.judged(cheat, purse)
    assert verdict.first_differing_segment == 1, verdict.reason
    expect(found)


@pytest.mark.deep
def test_it_is_caught_in_a_swarm(swarm: Swarm, expect: Expect) -> None:
    expect(swarm.false_work("interpolated"))
