"""The training process: real subprocesses that work, replay, reduce, apply, fail clearly and die with their
parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio
from small_job import SmallJob

from anynode.blobs.store import BlobStore
from anynode.exact.layout import chunk_specs
from anynode.exact.state import State, StateHeader
from anynode.jobs.weights import load_model
from anynode.training.messages import (
    ApplySpec,
    Claim,
    Limits,
    OuterStepSpec,
    Progress,
    ReduceInput,
    ReduceSpec,
    WorkResult,
    WorkSpec,
)
from anynode.training.process import Trainer, TrainerSettings
from anynode_contracts.errors import RefusedError, UserError

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Pair:
    """Two trainers of one job, each with a store of its own, and the root of the state that both made."""

    mine: Trainer
    theirs: Trainer
    store: BlobStore
    other_store: BlobStore
    root: str


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pair(small_job: SmallJob, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    stores = BlobStore(folder / "mine" / "blobs"), BlobStore(folder / "theirs" / "blobs")
    async with running(small_job, stores[0]) as mine, running(small_job, stores[1]) as theirs:
        root, other_root = await asyncio.gather(mine.initial_state(), theirs.initial_state())
        assert root == other_root
        yield Pair(mine, theirs, *stores, root)


@contextlib.asynccontextmanager
async def running(small_job: SmallJob, store: BlobStore, limits: Limits | None = None) -> AsyncIterator[Trainer]:
    """A trainer with its log beside the store."""
    settings = TrainerSettings(log_path=store.folder.parent / "trainer.log", limits=limits or Limits())
    trainer = await Trainer.start(store.folder, small_job.folder, settings)
    async with trainer:
        yield trainer


def claim(result: WorkResult) -> Claim:
    return Claim(result.update_root, result.trace_root, result.leaves)


def reduce_spec(job: SmallJob, store: BlobStore, chunk: int, results: list[WorkResult]) -> ReduceSpec:
    inputs = tuple(
        ReduceInput(slot, store.manifest(r.update_root, "update").chunks[chunk].hash, r.samples, r.steps)
        for slot, r in enumerate(results)
    )
    return ReduceSpec(job.job.job_id, 0, chunk, True, inputs)


async def long_work(trainer: Trainer, spec: WorkSpec) -> asyncio.Task[WorkResult]:
    """Start work and come back when its first progress is heard."""
    started = asyncio.Event()
    task = asyncio.create_task(trainer.work(spec, on_progress=lambda _: started.set()))
    hearing = asyncio.create_task(started.wait())
    await asyncio.wait({task, hearing}, return_when=asyncio.FIRST_COMPLETED)
    assert started.is_set(), task
    return task


async def test_a_round_gives_equal_roots_in_two_processes(small_job: SmallJob, pair: Pair, tmp_path: Path) -> None:
    mine, root = pair.mine, pair.root
    assert mine.hardware_class == pair.theirs.hardware_class
    assert mine.job_id == small_job.job.job_id
    seen: list[Progress] = []
    results = [await mine.work(small_job.spec(root, slot=slot), on_progress=seen.append) for slot in range(2)]
    again = await pair.theirs.work(small_job.spec(root, slot=1))
    assert (again.update_root, again.trace_root) == (results[1].update_root, results[1].trace_root)
    assert [leaf.steps for leaf in again.leaves] == [3, 3, 1]
    assert all(progress.per_s is not None and progress.per_s > 0 for progress in seen)
    assert seen and seen[0].total == 7

    chunks = range(len(chunk_specs(mine.parameters, True)))
    reduced = await mine.reduce([reduce_spec(small_job, pair.store, chunk, results) for chunk in chunks])
    step, nothing = OuterStepSpec(True, tuple(reduced), 7), OuterStepSpec(False, (), 0)
    spec = ApplySpec(root, (step,), 1, 56, ((3, 9),))
    after = await mine.apply(spec)
    for digest in reduced:
        pair.other_store.put(pair.store.get(digest))
    assert await pair.theirs.apply(spec) == after
    header = StateHeader.of(pair.store.manifest(after, "state"))
    assert (header.round, header.step, header.cursor, header.returned) == (1, 7, 56, ((3, 9),))
    assert header.has_moments

    void = await mine.apply(ApplySpec(after, (nothing,), 2, 56, ()))
    twice = await mine.apply(ApplySpec(void, (step,), 4, 90, ((1, 2),)))
    assert await mine.apply(ApplySpec(root, (step, nothing, step), 4, 90, ((1, 2),))) == twice, "several steps at once"

    before_loss, after_loss = await mine.evaluate(root), await mine.evaluate(after)
    assert math.isfinite(after_loss) and after_loss < before_loss
    await mine.export(after, tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_bytes((small_job.folder / "model.json").read_bytes())
    exported = load_model(tmp_path).parameters
    wanted = State.load(pair.store, after).parameters()
    assert all(exported[name].equal(wanted[name]) for name in wanted)


async def test_replay_accepts_honest_work_and_names_the_first_false_segment(small_job: SmallJob, pair: Pair) -> None:
    spec = small_job.spec(pair.root)
    honest = await pair.mine.work(spec)
    verdict = await pair.theirs.replay(spec, claim(honest))
    assert verdict.accepted and verdict.first_differing_segment is None, verdict.reason
    assert verdict.steps == 7

    swapped = list(spec.indices)
    swapped[4 * 4] = (swapped[4 * 4] + 1) % 30  # another sample in step 4, which is in segment 1
    cheat = await pair.mine.work(replace(spec, indices=tuple(swapped)))
    verdict = await pair.theirs.replay(spec, claim(cheat))
    assert not verdict.accepted and verdict.first_differing_segment == 1
    assert verdict.steps == 6  # it stopped after the segment
    assert "segment 1 (steps 3 to 5)" in verdict.reason

    blind = await pair.theirs.replay(spec, Claim(cheat.update_root, cheat.trace_root))
    assert not blind.accepted and blind.steps == 7


async def test_work_ends_early_with_a_prefix_that_replays(small_job: SmallJob, pair: Pair) -> None:
    spec = small_job.spec(pair.root, steps=5)
    prefix = await pair.mine.work(spec, time_limit_s=0.0)
    assert prefix.steps == 1 and prefix.samples == 4
    shorter = replace(spec, steps=1, indices=spec.indices[:4])
    assert (await pair.theirs.replay(shorter, claim(prefix))).accepted


async def test_cancelled_work_leaves_the_trainer_usable(small_job: SmallJob, pair: Pair) -> None:
    task = await long_work(pair.mine, small_job.spec(pair.root, steps=10_000))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await pair.mine.work(small_job.spec(pair.root, steps=1))).steps == 1


async def test_requests_that_do_not_fit_are_refused_in_words(small_job: SmallJob, pair: Pair) -> None:
    spec = small_job.spec(pair.root)
    with pytest.raises(RefusedError, match="samples for 7 steps"):
        await pair.mine.work(replace(spec, indices=spec.indices[1:]))
    with pytest.raises(RefusedError, match="opens round 0"):
        await pair.mine.work(replace(spec, round=3))
    with pytest.raises(RefusedError, match="is not here"):
        await pair.mine.evaluate("ab" * 32)
    with pytest.raises(UserError, match="sample outside"):
        await pair.mine.work(replace(spec, indices=(1 << 39, *spec.indices[1:])))
    assert pair.mine.alive


async def test_a_killed_trainer_is_a_clear_error(small_job: SmallJob, store: BlobStore) -> None:
    async with running(small_job, store) as trainer:
        root = await trainer.initial_state()
        task = await long_work(trainer, small_job.spec(root, steps=10_000))
        os.kill(trainer.pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r"was killed by SIGKILL while busy with 'work'"):
            await task
        assert not trainer.alive
        with pytest.raises(UserError, match="start it again"):
            await trainer.initial_state()


async def test_a_full_disk_leaves_the_old_state_valid(small_job: SmallJob, store: BlobStore) -> None:
    async with running(small_job, store) as trainer:
        root = await trainer.initial_state()
        result = await trainer.work(small_job.spec(root))
        chunks = range(len(chunk_specs(trainer.parameters, True)))
        reduced = await trainer.reduce([reduce_spec(small_job, store, chunk, [result]) for chunk in chunks])
        resource.prlimit(trainer.pid, resource.RLIMIT_FSIZE, (1_000, 1_000))
        with pytest.raises(UserError, match=r"cannot write .* free some space"):
            await trainer.apply(ApplySpec(root, (OuterStepSpec(True, tuple(reduced), 7),), 1, 28, ()))
        assert math.isfinite(await trainer.evaluate(root))
    State.load(store, root)


async def test_a_small_memory_limit_is_a_sentence(small_job: SmallJob, store: BlobStore) -> None:
    with pytest.raises(UserError, match=r"memory limit|training process"):
        async with running(small_job, store, Limits(memory_limit_bytes=48 << 20)) as trainer:
            await trainer.initial_state()


async def test_a_job_folder_without_a_job_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*job\.json"):
        await Trainer.start(tmp_path / "blobs", tmp_path, TrainerSettings(log_path=tmp_path / "log"))


async def test_the_trainer_has_no_network_and_no_secrets(
    small_job: SmallJob, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYNODE_PASSWORD", "swordfish")
    async with running(small_job, store) as trainer:
        check_confined(trainer.pid, store.folder.parent / "trainer.log")


def check_confined(pid: int, log_path: Path) -> None:
    process = Path(f"/proc/{pid}")
    environment = (process / "environ").read_bytes()
    assert b"swordfish" not in environment
    assert b"OMP_NUM_THREADS=1" in environment
    if "no network" in log_path.read_text(encoding="utf-8"):
        interfaces = (process / "net" / "dev").read_text(encoding="utf-8").splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] in ([], ["lo"])


PARENT = """
import asyncio, sys
from pathlib import Path
from anynode.training.process import Trainer, TrainerSettings

async def main():
    store, job, log = map(Path, sys.argv[1:])
    trainer = await Trainer.start(store, job, TrainerSettings(log_path=log))
    print(trainer.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_trainer_dies_with_its_parent(small_job: SmallJob, store: BlobStore, tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(store.folder), str(small_job.folder), str(tmp_path / "log")),
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    watch = os.pidfd_open(child)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(watch, gone.set)
    try:
        parent.kill()
        await parent.wait()
        await asyncio.wait_for(gone.wait(), 60)
    finally:
        asyncio.get_running_loop().remove_reader(watch)
        os.close(watch)
