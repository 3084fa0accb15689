"""Bisection of traces, and one disputed segment replayed from the state before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from line_job import MemoryStore, initial_state, one_round, spec_of, workload
from torch import Tensor

from anynode.training.bisection import first_difference
from anynode.training.inner import work
from anynode.training.messages import Claim, ReplayVerdict, WorkResult
from anynode.training.replay import replay, replay_disputed
from anynode.training.trace import TraceLeaf, trace_root
from anynode_contracts.errors import RefusedError

OTHER = "ab" * 32


class Kept:
    """The states that a replay has kept, by root."""

    def __init__(self) -> None:
        self.states: dict[str, tuple[Tensor, ...]] = {"": ()}

    def keep(self, vectors: Sequence[Tensor]) -> str:
        root = f"{len(self.states):064x}"
        self.states[root] = tuple(vector.clone() for vector in vectors)
        return root


def false(result: WorkResult, segment: int, **changes: object) -> Claim:
    """A claim whose leaf ``segment`` says something else, and whose root fits its leaves."""
    leaves = list(result.leaves)
    leaves[segment] = replace(leaves[segment], **changes)  # type: ignore[arg-type]
    return Claim(result.update_root, trace_root(leaves), tuple(leaves))


MODES: tuple[dict[str, object], ...] = ({}, {"optimizer": "muon"}, {"optimizer": "sgd"}, {"inner_steps": 1})


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("segment", [0, 1, 2])
def test_a_false_segment_is_found_twice_the_second_time_by_itself_alone(mode: dict[str, object], segment: int) -> None:
    """Ten steps in segments of four: the second replay does one segment, whatever came before it."""
    task = workload(**mode)
    state = one_round(task, initial_state(), 2)
    spec = spec_of(state, 1, refresh=False)
    result = work(task, state, spec, MemoryStore().keep)
    claim = false(result, segment, after=OTHER)
    kept = Kept()
    first = replay(task, state, spec, claim, keep=kept.keep)
    assert first.dispute is not None and (first.dispute.segment, first.dispute.what) == (segment, "after")
    assert (first.dispute.recomputed, first.dispute.claimed) == (result.leaves[segment].after, OTHER)
    second = replay_disputed(task, state, spec, claim, segment, agreed=kept.states[first.dispute.agreed])
    assert not second.accepted and second.reason == first.reason
    assert second.steps == result.leaves[segment].steps, "no more than the segment"
    assert first.steps == sum(leaf.steps for leaf in result.leaves[: segment + 1])


@pytest.mark.parametrize("segment", [0, 1, 2])
def test_a_false_accusation_is_found_by_the_segment_alone(segment: int) -> None:
    state, kept = initial_state(), Kept()
    spec, task = spec_of(state, 0), workload()
    result = work(task, state, spec, MemoryStore().keep)
    claim = false(result, segment, after=OTHER)
    found = replay(task, state, spec, claim, keep=kept.keep)
    assert found.dispute is not None
    honest = Claim(result.update_root, result.trace_root, result.leaves)
    verdict = replay_disputed(task, state, spec, honest, segment, agreed=kept.states[found.dispute.agreed])
    assert verdict.accepted and f"segment {segment} replayed" in verdict.reason


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"before": OTHER}, "before"),
        ({"inputs": OTHER}, "inputs"),
        ({"rates": ((1.0).hex(),) * 4}, "rates"),
        ({"steps": 3}, "place"),
        ({"after": OTHER, "inputs": OTHER}, "inputs"),
    ],
    ids=str,
)
def test_what_is_the_same_on_every_machine_needs_no_training(changes: dict[str, object], what: str) -> None:
    state = initial_state()
    spec, task = spec_of(state, 0), workload()
    claim = false(work(task, state, spec, MemoryStore().keep), 1, **changes)
    first = replay(task, state, spec, claim)
    assert first.dispute is not None and (first.dispute.segment, first.dispute.what) == (1, what), first
    second = replay_disputed(task, state, spec, claim, 1)
    assert not second.accepted and second.steps == 0 and second.reason == first.reason


def test_the_update_follows_from_the_last_state() -> None:
    state, kept = initial_state(), Kept()
    spec, task = spec_of(state, 0), workload()
    result = work(task, state, spec, MemoryStore().keep)
    claim = Claim(OTHER, result.trace_root, result.leaves)
    first = replay(task, state, spec, claim, keep=kept.keep)
    assert first.dispute is not None and first.dispute.what == "update" and first.first_differing_segment is None
    agreed = kept.states[first.dispute.agreed]
    second = replay_disputed(task, state, spec, claim, first.dispute.segment, agreed=agreed)
    assert not second.accepted and second.steps == 0 and "the update sent is another" in second.reason
    honest = replace(claim, update_root=result.update_root)
    assert replay_disputed(task, state, spec, honest, 3, agreed=agreed).accepted


def test_a_state_that_the_trace_does_not_bind_is_refused() -> None:
    """Whoever gives the state need not be trusted: nothing follows from another one."""
    state = initial_state()
    spec, task = spec_of(state, 0), workload()
    result = work(task, state, spec, MemoryStore().keep)
    claim = false(result, 1, after=OTHER)
    kept = Kept()
    replay(task, state, spec, claim, keep=kept.keep)
    (agreed,) = (vectors for root, vectors in kept.states.items() if root)
    shifted = tuple(vector + 1e-3 for vector in agreed)
    attempts: tuple[tuple[Claim, int, Sequence[Tensor]], ...] = (
        (claim, 1, shifted),
        (claim, 1, ()),
        (claim, 4, agreed),
        (replace(claim, leaves=result.leaves), 1, agreed),
        (replace(claim, leaves=None), 1, agreed),
    )
    for attempt, segment, vectors in attempts:
        with pytest.raises(RefusedError, match="replay the"):
            replay_disputed(task, state, spec, attempt, segment, agreed=vectors)


def test_traces_part_where_the_first_leaf_differs() -> None:
    state = initial_state()
    leaves: tuple[TraceLeaf, ...] = work(workload(), state, spec_of(state, 0), MemoryStore().keep).leaves
    assert first_difference(leaves, leaves) is None and first_difference((), ()) is None
    later = (leaves[0], replace(leaves[1], after=OTHER), replace(leaves[2], inputs=OTHER))
    found = first_difference(leaves, later)
    assert found is not None and (found.segment, found.what) == (1, "after")
    shorter = first_difference(leaves, leaves[:2])
    assert shorter is not None and (shorter.segment, shorter.what, shorter.recomputed) == (2, "segments", "3")
    verdict = ReplayVerdict(False, "differs", found, 8, 0.5)
    assert ReplayVerdict.from_json(verdict.to_json()) == verdict and verdict.first_differing_segment == 1
