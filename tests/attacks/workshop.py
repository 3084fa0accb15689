"""Where a cheating worker works: a process that has a job, its data and the state of a round.

It runs in the hardware class of an honest worker, so that everything a cheat does honestly has the right bits. In a
real swarm (`programs/cheating_worker.py`) the work is what the round deals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from anynode.blobs.store import BlobStore
from anynode.data.dataset import DataSet
from anynode.exact.layout import chunk_specs
from anynode.exact.quantise import Codec
from anynode.exact.state import State
from anynode.jobs.job import Job
from anynode.jobs.weights import load_model
from anynode.training.engine import prepare_torch
from anynode.training.fingerprint import state_fingerprint
from anynode.training.inner import InnerRun, Workload, work
from anynode.training.messages import WorkResult, WorkSpec
from anynode.training.trace import TraceLeaf, trace_root

STEPS = 8
"""Inner steps of a round: with four samples each, 32 micro-batches of one sample."""


@dataclass(frozen=True)
class Place:
    """What is where: the job's folder, the cheat's blobs, and the states that two rounds open from."""

    job_folder: str
    store_folder: str
    roots: tuple[str, str]


@dataclass(frozen=True)
class Lie:
    """What a cheat commits to: for ``spec`` as it was dealt, ``result`` as if it were the work of it."""

    spec: WorkSpec
    result: WorkResult


Change = Callable[[int, dict[str, Tensor]], dict[str, Tensor]]
"""Number of the batch in the round, and the batch as dealt -> what is trained on."""


@dataclass
class Workshop:
    """The tools of a cheat. Everything that costs it nothing to get right, it gets right."""

    job: Job
    workload: Workload
    store: BlobStore
    data: DataSet
    roots: tuple[str, str]
    states: Mapping[str, State] = field(default_factory=dict)
    dealt: Mapping[tuple[int, int], WorkSpec] = field(default_factory=dict)

    @classmethod
    def at(cls, place: Place, dealt: Mapping[tuple[int, int], WorkSpec] | None = None) -> Workshop:
        """Open a workshop. ``dealt``: see `spec`."""
        prepare_torch()
        folder = Path(place.job_folder)
        job = Job.from_bytes((folder / "job.json").read_bytes())
        graph, data, store = load_model(folder).graph, DataSet.open(folder), BlobStore(Path(place.store_folder))
        workload = Workload(
            graph.loss, lambda indices: data.batch(list(indices)), job.training, sizes=graph.batch_sizes
        )
        states = {root: State.load(store, root) for root in set(place.roots)}
        return cls(job, workload, store, data, place.roots, states, dealt or {})

    def spec(self, *, round_: int = 1, slot: int = 0, steps: int | None = None) -> WorkSpec:
        """What is dealt to a slot, or the first ``steps`` of it, in round 0 or in this one, which is 1; slot 0 is the
        cheat's own, and 1 a peer's. In a real swarm ``dealt`` has it, by round and slot; there 0 is the round before.
        """
        size = self.job.training.batch_size
        if self.dealt:
            whole = self.dealt[round_, slot]
            kept = steps or whole.steps
            return replace(whole, steps=kept, indices=whole.indices[: kept * size])
        steps = steps or STEPS
        count = steps * size
        indices = tuple((round_ * 101 + slot * count + i) % self.job.data.samples for i in range(count))
        return WorkSpec(self.job.job_id, round_, slot, self.roots[round_], steps, indices, refresh=True)

    def work(self, spec: WorkSpec, workload: Workload | None = None, state: State | None = None) -> WorkResult:
        """Train, honestly unless ``workload`` or ``state`` are others."""
        return work(workload or self.workload, state or self.states[spec.state_root], spec, self.store.put)

    def trained_on(self, spec: WorkSpec, change: Change) -> WorkResult:
        """The work with batches changed on their way into the model, under a trace that names the batches dealt."""
        number = iter(range(spec.steps))

        def batch_of(indices: Sequence[int]) -> Mapping[str, Tensor]:
            return change(next(number), dict(self.data.batch(list(indices))))

        return self.with_true_inputs(spec, self.work(spec, replace(self.workload, batch_of=batch_of)))

    def with_true_inputs(self, spec: WorkSpec, result: WorkResult) -> WorkResult:
        """``result`` with a trace that claims start state, samples and rates of ``spec``: all are public."""
        run = InnerRun(self.workload, self.states[spec.state_root], spec)
        rates = [rate.hex() for rate in run.planned_rates()]
        length = self.job.training.segment_steps
        leaves: list[TraceLeaf] = []
        for segment, first in enumerate(range(0, spec.steps, length)):
            steps = min(length, spec.steps - first)
            known = result.leaves[segment].after if segment < len(result.leaves) else ""
            before = leaves[-1].after if leaves else state_fingerprint(*run.vectors)
            after = known or f"{segment:064x}"
            told = tuple(rates[first : first + steps])
            leaves.append(TraceLeaf(segment, first, steps, before, after, run.inputs_of(first, steps), told))
        root = trace_root(leaves)
        samples = len(spec.indices)
        return replace(result, leaves=tuple(leaves), trace_root=root, steps=spec.steps, samples=samples)

    def with_update(self, spec: WorkSpec, result: WorkResult, change: Callable[[str, Tensor], Tensor]) -> WorkResult:
        """``result`` with every chunk of its update changed by ``change(section, values)``, well-formed again."""
        manifest = self.store.manifest(result.update_root, "update")
        values = self.states[spec.state_root].layout.values
        bits, block = int(manifest.meta["bits"]), int(manifest.meta["block"])
        chunks = []
        for place, chunk in zip(chunk_specs(values, spec.refresh), manifest.chunks, strict=True):
            codec = Codec(bits, block, unsigned=place.section == "v")
            told = codec.parse(self.store.get(chunk.hash), place.count).values().clone()
            payload = codec.encode(change(place.section, told))
            chunks.append(replace(chunk, hash=self.store.put(payload), size_bytes=len(payload)))
        meta = manifest.meta | {
            "round": spec.round,
            "slot": spec.slot,
            "steps": spec.steps,
            "samples": len(spec.indices),
        }
        root = self.store.put_manifest(replace(manifest, meta=meta, chunks=tuple(chunks)))
        return replace(result, update_root=root)


def noise_like(values: Tensor, seed: int) -> Tensor:
    """Noise [values] of the same norm."""
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed))
    return noise * (values.norm() / noise.norm())


@cache
def _workshop(place: Place) -> Workshop:
    """Each process opens one once."""
    return Workshop.at(place)


def run_cheat(cheat: Callable[[Workshop], Lie], place: Place) -> Lie:
    """The entry point of the cheat's process."""
    return cheat(_workshop(place))
