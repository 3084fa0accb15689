"""Hardware classes of one machine: each gives its own bits again, two differ, and one can judge another's segments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_job import SmallJob

from anynode.blobs.store import BlobStore
from anynode.device.hardware import (
    available_instructions,
    pinned_environment,
    precision_of,
    processors,
    with_precision,
)
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Claim, Limits, Opened, OpenedClaim, SegmentsReplay, WorkResult, WorkSpec
from anynode.training.process import Trainer, TrainerSettings
from anynode_contracts.errors import UserError
from anynode_verifier.drift import FLOORS, drift_of, excess

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLASSES = {
    "plain": Limits(),
    "bfloat16": Limits(precision="bfloat16"),
    **({"two threads": Limits(threads=2)} if processors() > 1 else {}),
    **({"avx512": Limits(instructions="avx512")} if "avx512" in available_instructions() else {}),
}


async def started(job: SmallJob, folder: Path, limits: Limits) -> Trainer:
    return await Trainer.start(folder / "blobs", job.folder, TrainerSettings(folder / "trainer.log", limits=limits))


async def test_every_class_replays_itself_bit_for_bit_and_no_two_are_alike(small_job: SmallJob, tmp_path: Path) -> None:
    roots, lines = {}, {}
    for name, limits in CLASSES.items():
        async with await started(small_job, tmp_path / name / "a", limits) as worker:
            root = await worker.initial_state()
            assert await worker.replays_itself(root)
            spec = small_job.spec(root)
            done = await worker.work(spec)
            lines[name] = worker.hardware_class
        async with await started(small_job, tmp_path / name / "b", limits) as auditor:
            assert await auditor.initial_state() == root
            claimed = Claim(done.update_root, done.trace_root, done.leaves)
            verdict = await auditor.replay(replace(spec, micro_batch=done.micro_batch), claimed)
            assert verdict.accepted, f"{lines[name]}: {verdict.reason}"
        roots[name] = done.trace_root
    assert len(set(roots.values())) == len(set(lines.values())) == len(CLASSES), lines


async def test_whose_process_says_that_it_does_not_replay_itself_is_refused(
    small_job: SmallJob, tmp_path: Path
) -> None:
    """No machine here gives other bits the second time, so the process is made to say so."""

    async def does_not(_: Trainer, __: str) -> bool:
        return False

    keeper = TrainerKeeper(tmp_path / "blobs", small_job.folder, TrainerSettings(tmp_path / "trainer.log"))
    try:
        trainer = await keeper.get()
        root = await trainer.initial_state()
        assert await keeper.proven_class(root) == trainer.hardware_class
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "replays_itself", does_not)
            with pytest.raises(UserError, match="does not give the same bits twice"):
                await keeper.proven_class(root)
    finally:
        await keeper.close()


async def test_the_class_line_says_threads_type_and_instructions(small_job: SmallJob, tmp_path: Path) -> None:
    limits = Limits(threads=processors(), precision="bfloat16")
    async with await started(small_job, tmp_path, limits) as trainer:
        line = trainer.hardware_class
    assert f"threads-{processors()}" in line.split() and precision_of(line) == "bfloat16"
    assert f"aten-{pinned_environment()['ATEN_CPU_CAPABILITY']}" in line
    assert precision_of(with_precision(line, "float32")) == "float32"


async def test_what_a_machine_has_not_is_refused_in_words() -> None:
    with pytest.raises(UserError, match="processors; ask for fewer"):
        pinned_environment(threads=processors() + 1)
    if "avx512" not in available_instructions():
        with pytest.raises(UserError, match="no avx512"):
            pinned_environment(instructions="avx512")


class Opening:
    """Work done in one class and opened, and a trainer of another."""

    def __init__(self, spec: WorkSpec, result: WorkResult, opened: Opened, auditor: Trainer, folder: Path) -> None:
        self.spec, self.result, self.opened, self._auditor, self.folder = spec, result, opened, auditor, folder
        self.claim = OpenedClaim(result.update_root, result.trace_root, opened, (0, 1))

    async def judged(self, claim: OpenedClaim | None = None, spec: WorkSpec | None = None) -> SegmentsReplay:
        return await self._auditor.replay_segments(spec or self.spec, claim or self.claim, self.folder)


async def test_another_class_judges_opened_segments(small_job: SmallJob, tmp_path: Path) -> None:
    if len(CLASSES) < 3:
        pytest.skip("this machine makes one class only")
    other = next(limits for name, limits in CLASSES.items() if name not in ("plain", "bfloat16"))
    async with (
        await started(small_job, tmp_path, other) as worker,
        await started(small_job, tmp_path, Limits()) as auditor,
    ):
        spec = small_job.spec(await worker.initial_state())
        kept = tmp_path / "kept"
        result = await worker.work(spec, kept=kept)
        spec = replace(spec, micro_batch=result.micro_batch)
        opened = await worker.open_segments(spec, result.leaves, (0, 1), tmp_path / "opened", kept=kept)
        assert opened == await worker.open_segments(spec, result.leaves, (0, 1), tmp_path / "opened")
        assert [item.boundary for item in opened.states] == [1, 2, 3] and opened.leaves == result.leaves
        opening = Opening(spec, result, opened, auditor, tmp_path / "opened")

        honest = await opening.judged()
        assert not honest.fault and honest.phase == "fresh" and honest.steps == 6
        limits = dict.fromkeys(("params", "m", "v", "direction"), FLOORS["float32"])
        for sums in honest.segments:
            drift = drift_of(sums)
            assert drift["params"].whole > 0 and not excess(sums.segment, drift, limits)

        await _check_false_work(opening)
        await _check_false_openings(opening)
        with pytest.raises(UserError, match="does not give the same bits again"):
            false = (replace(result.leaves[0], after="ab" * 32), *result.leaves[1:])
            await worker.open_segments(spec, false, (0,), tmp_path / "other")


async def _check_false_work(opening: Opening) -> None:
    """What is wrong on any machine is found exactly, and said."""
    from anynode.training.trace import trace_root

    leaves = opening.opened.leaves
    changes = {
        "the learning rates": replace(leaves[1], rates=(leaves[1].rates[0], *leaves[1].rates[:2])),
        "the samples fed in": replace(leaves[1], inputs="cd" * 32),
        "where the segment before it ended": replace(leaves[1], before="cd" * 32),
    }
    for words, leaf in changes.items():
        false = (leaves[0], leaf, leaves[2])
        claim = replace(opening.claim, trace_root=trace_root(false), opened=replace(opening.opened, leaves=false))
        found = await opening.judged(claim)
        assert found.exact and words in found.fault, found.fault
    short = replace(opening.claim, trace_root=trace_root(leaves[:2]), opened=replace(opening.opened, leaves=leaves[:2]))
    assert "2 segments are claimed, the work has 3" in (await opening.judged(short)).fault
    other = await opening.judged(replace(opening.claim, update_root="ef" * 32))
    assert other.exact and "is not the one that the last opened state gives" in other.fault


async def _check_false_openings(opening: Opening) -> None:
    """What is wrong with an opening alone accuses nobody of false work."""
    import torch

    from anynode.training.opened import save_vectors

    states = opening.opened.states
    swapped = replace(opening.opened, states=(replace(states[0], root=states[1].root), *states[1:]))
    missing = replace(opening.opened, states=states[1:])
    store = BlobStore(opening.folder)
    manifest = store.manifest(states[0].root, "inner-state")
    short = store.put_manifest(replace(manifest, chunks=manifest.chunks[:1]))
    cut = replace(opening.opened, states=(replace(states[0], root=short), *states[1:]))
    first, *rest = manifest.chunks
    small, large = (
        store.put_manifest(replace(manifest, chunks=(replace(first, hash=store.put(data)), *rest)))
        for data in (b"little", bytes(1 << 21))
    )
    endless = save_vectors(store, (torch.full((int(manifest.meta["values"]),), torch.nan),) * 3)
    for words, opened in {
        "is not the one committed to": swapped,
        "was not opened": missing,
        "is not of 3 vectors": cut,
        "fewer bytes than": replace(opening.opened, states=(replace(states[0], root=small), *states[1:])),
        "more bytes than": replace(opening.opened, states=(replace(states[0], root=large), *states[1:])),
        "not finite": replace(opening.opened, states=(replace(states[0], root=endless), *states[1:])),
    }.items():
        found = await opening.judged(replace(opening.claim, opened=opened))
        assert not found.exact and words in found.fault, found.fault
    found = await opening.judged(replace(opening.claim, trace_root="ab" * 32))
    assert not found.exact and "the trace shown is not the one committed to" in found.fault
