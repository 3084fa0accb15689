"""Audit work that fails is tried a few times, and then it is given up: no endless waiting, and no accusation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_verifier_chunk_audits import round_of
from test_verifier_disputes import Bench, bench, job  # noqa: F401 (fixtures)

from anynode.blobs.store import BlobStore
from anynode.rounds.effects import Recompute
from anynode.rounds.events import Plan
from anynode.training.keeper import TrainerKeeper
from anynode.training.process import Trainer
from anynode_contracts.errors import InvariantError, StorageError, UnreachableError
from anynode_verifier.tries import TRIES_MAX, Tries


@pytest.mark.deep
async def test_work_whose_start_state_is_gone_becomes_void(bench: Bench) -> None:  # noqa: F811
    seal = bench.claims(bench.honest.update_root, bench.honest.leaves)
    store = BlobStore(bench.folder.parent / "blobs")
    manifest = store.path(bench.opened.state_root)
    kept = manifest.read_bytes()
    manifest.unlink()
    for _ in range(TRIES_MAX - 1):
        with pytest.raises(UnreachableError, match="not done yet"):
            await bench.judged(seal, again=True)
    found = await bench.judged(seal, again=True)
    assert (found.outcome, found.evidence) == ("void", "none")
    assert f"{TRIES_MAX} tries have failed here, which accuses nobody" in found.reason
    manifest.write_bytes(kept)
    assert (await bench.judged(seal, again=True)).outcome == "accepted", "what was void once is no verdict for ever"


@contextmanager
def no_process() -> Iterator[None]:
    """No training process can be had."""

    async def get(_: TrainerKeeper) -> Trainer:
        raise UnreachableError("the training process has ended")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainerKeeper, "get", get)
        yield


async def test_a_task_that_cannot_be_done_here_ends_without_a_replay(bench: Bench) -> None:  # noqa: F811
    """The auditor's word is then taken where it confirms the work; else the work itself is replayed."""
    seal = bench.claims(bench.honest.update_root, bench.honest.leaves)
    effect = Recompute(bench.opened, seal, Plan(0, 0, 15, "8" * 64, known=True), again=True)
    with no_process():
        for _ in range(TRIES_MAX - 1):
            with pytest.raises(UnreachableError, match=r"not done yet .the training process has ended."):
                await bench.replayer.recompute(effect)
        assert (await bench.replayer.recompute(effect)).redone is None
    redone = (await bench.replayer.recompute(effect)).redone
    assert redone is not None and redone.update_root == bench.honest.update_root


async def test_chunks_that_cannot_be_averaged_here_are_void(tmp_path: Path) -> None:
    async with round_of(tmp_path) as (auditor, honest, _):
        with no_process():
            for _ in range(TRIES_MAX - 1):
                with pytest.raises(UnreachableError, match="not done yet"):
                    await auditor.average_again(honest)
            found = (await auditor.average_again(honest)).found
        assert [item.chunk for item in found] == list(honest.chunks)
        assert all(item.outcome == "void" and "accuses nobody" in item.reason for item in found)
        assert (await auditor.average_again(honest)).found == ()


async def fails(error: Exception) -> str:
    raise error


async def ends(found: str) -> str:
    return found


async def tried(tries: Tries, name: str, error: Exception) -> bool:
    """Whether this failure was the last one."""
    try:
        return await tries.outcome(name, fails(error), lambda _: "given up") == "given up"
    except UnreachableError:
        return False


@pytest.mark.parametrize("error", [UnreachableError("gone"), OSError("no file"), MemoryError()])
async def test_each_piece_of_work_has_its_own_tries(error: Exception) -> None:
    tries, often = Tries(), TRIES_MAX - 1
    assert [await tried(tries, name, error) for name in ("one", "other") * often] == [False] * 2 * often
    assert await tries.outcome("other", ends("right"), lambda _: "given up") == "right"
    assert await tried(tries, "one", error)
    assert not await tried(tries, "other", error), "what came to an end begins anew"


@pytest.mark.parametrize("error", [StorageError("the disk is full"), InvariantError("a fault")])
async def test_a_full_disk_and_a_fault_are_not_tried_again(error: Exception) -> None:
    tries = Tries()
    for _ in range(TRIES_MAX + 1):
        with pytest.raises(type(error)):
            await tries.outcome("one", fails(error), lambda _: "given up")
