"""What an audit within a tolerance costs: work of one class, opened from kept states and by doing it again, and the
replay of its drawn segments in another.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from false_flags_models import Tested, sums
from false_flags_runs import Pair, pairs
from report import Say

from anynode.blobs.store import BlobStore
from anynode.jobs.templates import gpt
from anynode.rounds.audit_secrets import draw_segments
from anynode.training.kept import KeptStates
from anynode.training.messages import Limits, WorkSpec
from anynode.training.opened import open_kept, save_vectors
from anynode.training.process import Trainer, TrainerSettings
from anynode.training.trace import TraceLeaf
from anynode_contracts.errors import UserError
from anynode_verifier.gathering import Course, Gathering

SEED, ROUNDS, FIRST_SLOTS = 2_000, 6, 3
MODEL = Tested("GPT of the bench `overhead`", lambda: gpt.build(batch_size=8, context=64), sums, 0.001)


@dataclass(frozen=True)
class Costs:
    """Parts of the seconds that the work itself takes in the same class: of keeping its states, which is done in every
    round; and in an audit, of opening them from the disk, of doing the work again for it instead, and of the auditor's
    replay.
    """

    keeping: float
    opening: float
    regeneration: float
    replay: float

    def kept(self, rate: float) -> float:
        """Of a worker's own work, what audits at this rate cost where states are kept."""
        return self.keeping + rate * (self.opening + self.replay)

    def done_again(self, rate: float) -> float:
        """The same where they are not."""
        return rate * (self.regeneration + self.replay)


def tolerant_costs(say: Say) -> Costs:
    """Medians over a course in one pair of classes, every audit of which is made both ways, one after the other."""
    there = [pair for pair in pairs() if pair.worker.precision == "float32"]
    if not there:
        raise UserError("this machine makes one hardware class only; measure audits between classes on another")
    found = asyncio.run(_of_model(there[0], MODEL, say))
    return Costs(
        keeping=median(costs.keeping for costs in found),
        opening=median(costs.opening for costs in found),
        regeneration=median(costs.regeneration for costs in found),
        replay=median(costs.replay for costs in found),
    )


async def _of_model(pair: Pair, tested: Tested, say: Say) -> list[Costs]:
    found = []
    with tempfile.TemporaryDirectory(prefix="anynode-audit-") as name:
        folder = Path(name)
        job = tested.make(folder / "job")
        store, kept = BlobStore(folder / "blobs"), folder / "kept"
        async with await _trainer(folder, pair.worker) as worker, await _trainer(folder, pair.auditor) as auditor:
            gathering = Gathering(worker, auditor, job, store, folder / "opened")
            async for audit in gathering.audits(Course(SEED, ROUNDS, 1, FIRST_SLOTS), _drawn):
                await worker.work(audit.spec, kept=kept)
                there = await auditor.work(audit.spec)
                vectors = len(job.training.inner_vectors)
                keeping_s, opening_s = _seconds(kept, audit.spec, audit.result.leaves, vectors)
                keeping, opening, again = (part / audit.work_s for part in (keeping_s, opening_s, audit.opening_s))
                found.append(Costs(keeping, opening, again, audit.replay_s / there.seconds))
                say(f"{pair.name}, {tested.name}: audit {len(found)}: {found[-1]}")
    return found


def _seconds(folder: Path, spec: WorkSpec, leaves: tuple[TraceLeaf, ...], vectors: int) -> tuple[float, float]:
    """Of keeping the states of a round, as its worker does, in the place of those of another; and of opening some."""
    kept, count = KeptStates(folder), len(leaves)
    recall, store = kept.recall(spec.round, vectors), BlobStore(folder.parent / "from-disk")
    began_s = time.perf_counter()
    opened = open_kept(leaves, _drawn(spec, count), lambda state: save_vectors(store, state), recall)
    opening_s = time.perf_counter() - began_s
    states = [recall(leaf.segment + 1, leaf.after) for leaf in leaves]
    if opened is None or any(state is None for state in states):
        raise UserError(f"the states of a round were not kept below {folder}; is the disk full?")
    began_s = time.perf_counter()
    kept.forget(spec.round)
    keep = kept.keeper(spec.round, count)
    for boundary, state in enumerate(states, 1):
        keep(boundary, state or ())
    return time.perf_counter() - began_s, opening_s


def _drawn(spec: WorkSpec, count: int) -> tuple[int, ...]:
    return draw_segments(f"{SEED} {spec.round}", spec.slot, count)


async def _trainer(folder: Path, limits: Limits) -> Trainer:
    settings = TrainerSettings(folder / f"{limits.instructions}.log", limits=replace(limits, nice=0))
    return await Trainer.start(folder / "blobs", folder / "job", settings)
