"""Work of a worker that has left, audited without it: by its class where the verifier makes it, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_verifier_disputes import OTHER, STEPS, Bench, bench, job  # noqa: F401 (fixtures)

from anynode.rounds.course import Seal
from anynode_verifier.calibration import Entry, Limit, Thresholds

ELSEWHERE = "cpu linux x86_64 another-maker torch-0 float32 threads-7 aten-avx2 mkl-avx2 onednn-avx2"
"""A class that no machine here makes."""


@pytest.fixture(autouse=True)
def left(bench: Bench) -> None:  # noqa: F811
    bench.worker.gone = True


def between(worker: str, auditor: str, vectors: tuple[str, ...]) -> Thresholds:
    """Frozen thresholds of a pair of classes."""
    limits = tuple(Limit(vector, 500, 2_000, 2_000) for vector in vectors)
    phases = (Entry(worker, auditor, phase, 100, 3, (), limits) for phase in ("fresh", "moments"))
    return Thresholds(tuple(phases))


def in_class(seal: Seal, hardware: str) -> Seal:
    return replace(seal, commitments=(replace(seal.commitments[0], hardware=hardware),))


async def test_a_leavers_work_is_replayed_whole_in_the_verifiers_class(bench: Bench) -> None:  # noqa: F811
    found = await bench.judged(bench.claims(bench.honest.update_root, bench.honest.leaves), again=False)
    assert (found.outcome, found.evidence) == ("accepted", "exact"), found
    false = bench.claims(OTHER, bench.honest.leaves)
    first, second = [await bench.judged(false, again=again) for again in (False, True)]
    assert (first.outcome, second.outcome, second.evidence) == ("rejected", "rejected", "exact")
    assert second.proof, "leaving saves nobody from a rejection"
    assert {verdict.steps for _, verdict in bench.keeper.verdicts} == {STEPS}


async def test_a_leavers_work_of_another_class_is_replayed_in_it_where_it_is_made(bench: Bench) -> None:  # noqa: F811
    vectors = bench.job.job.training.compared_vectors
    there = replace(bench, own=ELSEWHERE, thresholds=between(bench.hardware, ELSEWHERE, vectors))
    found = await there.judged(there.claims(there.honest.update_root, there.honest.leaves), again=False)
    assert (found.outcome, found.evidence) == ("accepted", "exact") and "does not open it" in found.reason, found


@pytest.mark.parametrize("calibrated", [True, False])
async def test_where_nobody_makes_its_class_a_leavers_work_is_void(bench: Bench, calibrated: bool) -> None:  # noqa: F811
    vectors = bench.job.job.training.compared_vectors
    thresholds = between(ELSEWHERE, bench.hardware, vectors) if calibrated else Thresholds()
    there = replace(bench, thresholds=thresholds)
    for update_root in (there.honest.update_root, OTHER):
        seal = in_class(there.claims(update_root, there.honest.leaves), ELSEWHERE)
        found = await there.judged(seal, again=False)
        assert (found.outcome, found.evidence, found.proof) == ("void", "none", ""), found
        assert "no auditor has" in found.reason and not there.keeper.verdicts
