"""Real replay of what cheats commit to: two training processes of one class, one to work in and one that audits.

The auditor gets what a verifier gets: the commitment, and the leaves of the trace if the worker shows them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from attack import Finding
from purse import Purse
from small_job import SmallJob, make_small_job
from workshop import STEPS, Lie, Place, Workshop, run_cheat

from anynode.blobs.store import BlobStore
from anynode.device.hardware import pinned_environment
from anynode.exact.layout import chunk_specs
from anynode.rounds.judgements import Redone
from anynode.training.messages import (
    ApplySpec,
    Claim,
    Limits,
    Opened,
    OpenedClaim,
    OuterStepSpec,
    ReduceInput,
    ReduceSpec,
    ReplayVerdict,
    SegmentsReplay,
    WorkSpec,
)
from anynode.training.process import Trainer, TrainerSettings
from anynode.training.trace import trace_root

Cheat = Callable[[Workshop], Lie]


@dataclass
class Court:
    """``auditor`` replays; ``cheats`` is the process in which cheats work, with a store of its own."""

    job: SmallJob
    place: Place
    folder: Path
    runner: asyncio.Runner
    auditor: Trainer
    worker: Trainer
    cheats: ProcessPoolExecutor

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Court]:
        """A tiny job after its first round, so that the state has moments and a past."""
        job = make_small_job(folder / "job")
        store = BlobStore(folder / "cheat" / "blobs")
        with asyncio.Runner() as runner:
            auditor = runner.run(_trainer(job, folder / "auditor"))
            worker = runner.run(_trainer(job, folder / "cheat"))
            try:
                roots = runner.run(_first_round(job, worker, auditor, store, folder))
                place = Place(str(job.folder), str(store.folder), roots)
                with _process() as cheats:
                    yield cls(job, place, folder, runner, auditor, worker, cheats)
            finally:
                runner.run(worker.close())
                runner.run(auditor.close())

    def lie(self, cheat: Cheat) -> Lie:
        """What the cheat commits to."""
        return self.cheats.submit(run_cheat, cheat, self.place).result()

    def replay(self, lie: Lie, *, shown: bool = True) -> ReplayVerdict:
        """The auditor's verdict; not ``shown``: the worker keeps the leaves of its trace to itself."""
        spec = replace(lie.spec, micro_batch=lie.result.micro_batch)
        claim = Claim(lie.result.update_root, lie.result.trace_root, lie.result.leaves if shown else None)
        return self.runner.run(self.auditor.replay(spec, claim, self.folder / "disputes"))

    def recompute(self, lie: Lie, key: str) -> Redone:
        """What doing the work of ``lie`` again gives."""
        spec = replace(lie.spec, micro_batch=lie.result.micro_batch)
        found = self.runner.run(self.auditor.recompute(spec, key))
        return Redone(found.update_root, trace_root(found.leaves), found.proof)

    def opened(self, spec: WorkSpec, segments: Sequence[int], folder: Path) -> Opened:
        """What an honest worker of ``spec`` opens into ``folder``."""
        return self.runner.run(self.worker.open_segments(spec, (), segments, folder))

    def replay_segments(self, spec: WorkSpec, claim: OpenedClaim, folder: Path) -> SegmentsReplay:
        """What an auditor finds in the states opened in ``folder``."""
        return self.runner.run(self.auditor.replay_segments(spec, claim, folder))

    def confirmed(self, lie: Lie, verdict: ReplayVerdict) -> ReplayVerdict:
        """What a second process says, which replays the disputed segment alone from the state kept before it."""
        dispute = verdict.dispute
        assert dispute is not None
        claim = Claim(lie.result.update_root, lie.result.trace_root, lie.result.leaves)
        spec = replace(lie.spec, micro_batch=lie.result.micro_batch)
        folder = self.folder / "disputes"
        return self.runner.run(self.worker.replay_disputed(spec, claim, dispute.segment, dispute.agreed, folder))

    def judged(self, cheat: Cheat, purse: Purse) -> tuple[Finding, Lie, ReplayVerdict]:
        """Both replays that a rejection needs, the second of one segment, and once more without the leaves; and what
        the ledger then pays.
        """
        lie = self.lie(cheat)
        verdict, blind = self.replay(lie), self.replay(lie, shown=False)
        assert verdict.accepted == blind.accepted, (verdict.reason, blind.reason)
        second = blind
        if verdict.dispute is not None:
            second = self.confirmed(lie, verdict)
            assert not second.accepted and second.reason == verdict.reason, second
        paid_wei, slashed_wei = purse.after_replays(verdict, second)
        outcome = "unprofitable" if verdict.accepted else "caught"
        return Finding(outcome, verdict.reason, paid_wei, slashed_wei), lie, verdict


async def _trainer(job: SmallJob, folder: Path, limits: Limits | None = None) -> Trainer:
    settings = TrainerSettings(log_path=folder / "trainer.log", limits=limits or Limits())
    return await Trainer.start(folder / "blobs", job.folder, settings)


async def _first_round(
    job: SmallJob, worker: Trainer, auditor: Trainer, store: BlobStore, folder: Path
) -> tuple[str, str]:
    """One honest worker's round, applied on both sides: the states that rounds 0 and 1 open from."""
    start = await worker.initial_state()
    assert await auditor.initial_state() == start
    count = STEPS * job.job.training.batch_size
    spec = WorkSpec(job.job.job_id, 0, 0, start, STEPS, tuple(range(count)), refresh=True)
    done = await worker.work(spec)
    chunks = store.manifest(done.update_root, "update").chunks
    specs = [
        ReduceSpec(job.job.job_id, 0, index, True, (ReduceInput(0, chunks[index].hash, done.samples, done.steps),))
        for index in range(len(chunk_specs(worker.parameters, True)))
    ]
    results = [str(item) for item in await worker.reduce(specs)]
    other = BlobStore(folder / "auditor" / "blobs")
    for digest in results:
        other.put(store.get(digest))
    order = ApplySpec(start, (OuterStepSpec(True, tuple(results), STEPS),), 1, count, ())
    after = await worker.apply(order)
    assert await auditor.apply(order) == after
    return start, after


@contextmanager
def _process() -> Iterator[ProcessPoolExecutor]:
    """A process in the class of the auditor: what pins a class must stand in the environment before torch comes."""
    before = dict(os.environ)
    os.environ.update(pinned_environment())
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(os.getpid).result()
            os.environ.clear()
            os.environ.update(before)
            yield pool
    finally:
        os.environ.clear()
        os.environ.update(before)
