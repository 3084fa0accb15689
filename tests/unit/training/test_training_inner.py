"""Inner training, its trace and its replay, in this process on a toy."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from line_job import (
    STEPS,
    MemoryStore,
    batch_of,
    chunks_of,
    initial_state,
    loss,
    mean_loss,
    one_round,
    spec_of,
    workload,
)
from torch import Tensor

from anynode.blobs.manifest import Manifest
from anynode.exact.quantise import DivergedError
from anynode.exact.state import State
from anynode.training.inner import work
from anynode.training.messages import Claim, Progress, WorkResult
from anynode.training.replay import replay
from anynode.training.schedule import learning_rate
from anynode.training.trace import EMPTY_ROOT, trace_root
from anynode_contracts.errors import RefusedError


def claim(result: WorkResult) -> Claim:
    return Claim(result.update_root, result.trace_root, result.leaves)


def done(state: State | None = None, **changes: object) -> WorkResult:
    chosen = state or initial_state()
    return work(workload(**changes), chosen, spec_of(chosen, 0), MemoryStore().keep)


@pytest.mark.parametrize("bits", [4, 32])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw-fresh", "muon", "sgd"])
def test_three_workers_learn_together(bits: int, optimizer: str) -> None:
    task, state = workload(bits=bits, optimizer=optimizer), initial_state()
    first = mean_loss(state)
    for _ in range(12):
        state = one_round(task, state, workers=3)
    assert mean_loss(state) < first / 5, (bits, first, mean_loss(state))
    assert state.step == 12 * STEPS and state.cursor == 12 * 3 * STEPS * 8
    assert state.has_moments == (optimizer in {"adamw", "muon"})


@pytest.mark.parametrize("bits", [4, 32])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_workers_that_average_gradients_learn_together(bits: int, optimizer: str) -> None:
    task, state = workload(bits=bits, optimizer=optimizer, inner_steps=1, schedule="constant"), initial_state()
    first = mean_loss(state)
    for _ in range(60):
        state = one_round(task, state, workers=3, steps=2)
    assert mean_loss(state) < first / 4, (bits, first, mean_loss(state))
    assert state.step == 60 and state.cursor == 60 * 3 * 2 * 8


def test_in_gradient_mode_shares_of_a_batch_have_the_gradient_of_the_whole() -> None:
    """Two shares of four samples are the batch of eight."""
    state, store = initial_state(), MemoryStore()
    spec = spec_of(state, 0, 1, refresh=False)
    whole = work(workload(bits=32, inner_steps=1), state, spec, store.keep)
    shares = workload(bits=32, inner_steps=1, share_samples=4)
    parts = work(shares, state, replace(spec, steps=2), store.keep)
    assert (whole.samples, parts.samples, parts.steps) == (8, 8, 2)
    ours, theirs = (b"".join(chunks_of(item, store)) for item in (parts, whole))
    torch.testing.assert_close(
        torch.frombuffer(bytearray(ours), dtype=torch.float32), torch.frombuffer(bytearray(theirs), dtype=torch.float32)
    )
    alone = work(shares, state, replace(spec, indices=spec.indices[:4]), store.keep)
    assert (alone.samples, alone.steps) == (4, 1), "a slow worker's share of it"


@pytest.mark.parametrize(
    "changes",
    [{"inner_steps": 1}, {"optimizer": "sgd"}, {"optimizer": "adamw-fresh"}, {"optimizer": "muon"}],
    ids=str,
)
def test_every_mode_can_be_replayed_from_the_state_alone(changes: dict[str, object]) -> None:
    task, state = workload(**changes), one_round(workload(**changes), initial_state(), 2)
    spec = spec_of(state, 1, refresh=False)
    result = work(task, state, spec, MemoryStore().keep)
    assert replay(task, state, spec, claim(result)).accepted
    other = replay(workload(**changes, weight_decay=0.5, clip_norm=0.1), state, spec, claim(result))
    assert other.accepted == ("inner_steps" in changes), "in gradient mode the step belongs to the round"


def test_a_round_repeated_gives_the_same_root() -> None:
    task = workload()
    states = [one_round(task, one_round(task, initial_state(), 2), 2) for _ in range(2)]
    assert states[0].params.equal(states[1].params) and states[0].v.equal(states[1].v)


def test_the_rate_follows_the_step_count_of_the_state() -> None:
    state = replace(initial_state(), step=30)
    settings = workload().settings
    assert done(state).leaves[0].rates[0] == learning_rate(settings, 30).hex()


def test_an_update_names_its_place_and_carries_moments_on_refresh_rounds_only() -> None:
    state, store = initial_state(), MemoryStore()
    for refresh, chunks in ((True, 2), (False, 1)):
        result = work(workload(), state, spec_of(state, 2, refresh=refresh), store.keep)
        manifest = Manifest.from_bytes(store.blobs[result.update_root], root=result.update_root, kind="update")
        assert len(manifest.chunks) == chunks
        assert manifest.meta["slot"] == 2 and manifest.meta["steps"] == STEPS
        assert all(isinstance(value, (int, str, bool)) for value in manifest.meta.values())


def test_a_time_limit_commits_a_prefix() -> None:
    clock = iter(range(1_000))
    state = initial_state()
    seen: list[Progress] = []
    result = work(
        workload(),
        state,
        spec_of(state, 0),
        MemoryStore().keep,
        report=seen.append,
        time_limit_s=5.0,
        now_s=lambda: float(next(clock)),
    )
    assert result.steps == 5 and result.samples == 40
    assert [leaf.steps for leaf in result.leaves] == [4, 1]
    assert [progress.done for progress in seen] == [1, 2, 3, 4, 5]
    spec = spec_of(state, 0)
    prefix = replace(spec, steps=5, indices=spec.indices[:40])
    assert replay(workload(), state, prefix, claim(result)).accepted


def test_replay_accepts_equal_bits() -> None:
    state = initial_state()
    result = done()
    verdict = replay(workload(), state, spec_of(state, 0), claim(result))
    assert verdict.accepted and verdict.reason == "10 steps in 3 segments replayed with equal bits"
    without = replay(workload(), state, spec_of(state, 0), Claim(result.update_root, result.trace_root))
    assert without.accepted


def test_replay_says_what_differs_and_where() -> None:
    state, spec, result = initial_state(), spec_of(initial_state(), 0), done()
    other_rate = done(learning_rate=0.03)
    leaves = list(result.leaves)
    leaves[2] = replace(leaves[2], after="00" * 32)
    shifted = tuple(leaves)
    cases = [
        (claim(other_rate), 0, "segment 0 (steps 0 to 3) differs in the learning rates"),
        (Claim(result.update_root, trace_root(shifted), shifted), 2, "segment 2 (steps 8 to 9) differs in"),
        (Claim(result.update_root, result.trace_root, shifted), None, "not the one committed to"),
        (
            Claim(result.update_root, trace_root(leaves[:2]), tuple(leaves[:2])),
            2,
            "2 segments are claimed, the work has 3",
        ),
        (Claim("11" * 32, result.trace_root, result.leaves), None, "but the update sent is another"),
        (Claim("11" * 32, result.trace_root), None, "but the update sent is another"),
        (Claim(result.update_root, "11" * 32), None, "the trace of 3 segments differs"),
    ]
    for case, segment, words in cases:
        verdict = replay(workload(), state, spec, case)
        assert not verdict.accepted and words in verdict.reason, verdict
        assert verdict.first_differing_segment == segment, verdict
    longer = (*result.leaves, replace(result.leaves[2], segment=3))
    verdict = replay(workload(), state, spec, Claim(result.update_root, trace_root(longer), longer))
    assert verdict.first_differing_segment == 3 and "4 segments are claimed" in verdict.reason


def test_training_that_diverges_says_so_and_is_no_valid_claim() -> None:
    def broken(params: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        return loss(params, batch) * (math.inf if float(batch["x"][0, 0]) == float(batch_of([148])["x"]) else 1.0)

    state = initial_state()
    spec = spec_of(state, 0)
    indices = (*spec.indices[:48], 148, *spec.indices[49:])  # step 6
    bad = replace(workload(), loss=broken)
    with pytest.raises(DivergedError, match="inner step 6"):
        work(bad, state, replace(spec, indices=indices), MemoryStore().keep)
    verdict = replay(bad, state, replace(spec, indices=indices), Claim("11" * 32, "22" * 32))
    assert not verdict.accepted and "cannot be done as claimed" in verdict.reason


def test_a_fault_of_the_auditor_is_not_held_against_the_worker() -> None:
    def unreadable(_: object) -> dict[str, Tensor]:
        raise RefusedError("the shard is damaged; fetch it again")

    state = initial_state()
    with pytest.raises(RefusedError, match="damaged"):
        replay(replace(workload(), batch_of=unreadable), state, spec_of(state, 0), claim(done()))


def test_work_that_does_not_fit_the_state_is_refused() -> None:
    state = initial_state()
    for spec, words in (
        (replace(spec_of(state, 0), job_id="cd" * 32), "of another"),
        (replace(spec_of(state, 0), round=1), "opens round 0"),
        (replace(spec_of(state, 0), steps=9), "80 samples for 9 steps"),
    ):
        with pytest.raises(RefusedError, match=words):
            work(workload(), state, spec, MemoryStore().keep)


def test_the_trace_root_commits_to_every_leaf_and_their_order() -> None:
    leaves = list(done(segment_steps=1).leaves)
    roots = {trace_root(leaves[:count]) for count in range(len(leaves) + 1)}
    assert len(roots) == len(leaves) + 1 and EMPTY_ROOT in roots
    assert trace_root([leaves[1], leaves[0]]) != trace_root(leaves[:2])
    for field, value in (("inputs", "00" * 32), ("rates", ((1.0).hex(),)), ("first_step", 9)):
        changed = [*leaves[:3], replace(leaves[3], **{field: value}), *leaves[4:]]
        assert trace_root(changed) != trace_root(leaves), field
