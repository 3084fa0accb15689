"""Work done again by an auditor: the same trace and update, and a proof that only its states give."""

from __future__ import annotations

import pytest
from line_job import MemoryStore, initial_state, one_round, spec_of, workload

from anynode.training.inner import work
from anynode.training.messages import Recomputation
from anynode.training.recompute import recompute
from anynode.training.trace import trace_root

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
MODES: tuple[dict[str, object], ...] = ({}, {"optimizer": "muon"}, {"inner_steps": 1})


def bits(found: Recomputation) -> tuple[str, str, str]:
    return found.update_root, trace_root(found.leaves), found.proof


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_it_gives_what_the_worker_has_committed_to(mode: dict[str, object]) -> None:
    task = workload(**mode)
    state = one_round(task, initial_state(), 2)
    spec = spec_of(state, 1, refresh=False)
    done = work(task, state, spec, MemoryStore().keep)
    again = recompute(task, state, spec, KEY)
    assert (again.leaves, again.update_root) == (done.leaves, done.update_root)
    assert bits(recompute(task, state, spec, KEY)) == bits(again)


def test_a_proof_is_worth_nothing_under_another_key() -> None:
    task, state = workload(), initial_state()
    spec = spec_of(state, 0)
    mine, other = recompute(task, state, spec, KEY), recompute(task, state, spec, OTHER)
    assert mine.leaves == other.leaves and mine.proof != other.proof


def test_the_proof_is_of_the_states_on_the_way() -> None:
    """Less work has the same first states and another proof."""
    task, state = workload(), initial_state()
    whole, part = (recompute(task, state, spec_of(state, 0, steps=steps), KEY) for steps in (10, 4))
    assert part.leaves == whole.leaves[:1]
    assert part.proof != whole.proof
