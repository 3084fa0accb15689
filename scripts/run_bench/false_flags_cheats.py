"""Cheats of another hardware class, as large as one likes: some of a round's micro-batches left out, all else in order.

They run in a process of their own, which is in the class that they claim.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from torch import Tensor

from anynode.blobs.store import BlobStore
from anynode.data.dataset import DataSet
from anynode.device.hardware import pinned_environment
from anynode.exact.state import State
from anynode.jobs.weights import load_model
from anynode.training.engine import prepare_torch, read_job
from anynode.training.gradients import Place
from anynode.training.inner import InnerRun, Workload
from anynode.training.messages import Limits, Opened, OpenedClaim, OpenedState, WorkSpec
from anynode.training.opened import save_vectors
from anynode.training.trace import trace_root

SHARES = (1 / 32, 1 / 8, 1 / 4, 1 / 2)
"""What is left out of a round's micro-batches, evenly."""


@dataclass(frozen=True)
class Cheating:
    """``folder`` holds the job and the blobs with the states that rounds open from."""

    pool: ProcessPoolExecutor
    limits: Limits
    folder: Path

    @classmethod
    @contextmanager
    def open(cls, limits: Limits, folder: Path) -> Iterator[Cheating]:
        """What pins a class must stand in the environment before torch is imported."""
        before = dict(os.environ)
        os.environ.update(pinned_environment(limits.threads, limits.instructions))
        try:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                pool.submit(os.getpid).result()
                yield cls(pool, limits, folder)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def claim(self, spec: WorkSpec, share: float) -> tuple[WorkSpec, OpenedClaim, Path]:
        """The work as claimed, with every segment to be replayed, and where its states lie."""
        told = replace(spec, micro_batch=1)
        claim = self.pool.submit(_cheat, self.folder, self.limits, told, round(1 / share)).result()
        return told, claim, _opened(self.folder)


def _opened(folder: Path) -> Path:
    return folder / "cheats"


@cache
def _workload(folder: Path, limits: Limits) -> Workload:
    prepare_torch(limits.threads)
    graph, data = load_model(folder / "job").graph, DataSet.open(folder / "job")
    place = Place("cpu", bfloat16=limits.precision == "bfloat16")
    settings = read_job(folder / "job").training
    return Workload(graph.loss, lambda indices: data.batch(list(indices)), settings, place, sizes=graph.batch_sizes)


def _cheat(folder: Path, limits: Limits, spec: WorkSpec, each: int) -> OpenedClaim:
    """Leave out one micro-batch of ``each``; the mean is taken over the rest of its batch."""
    honest = _workload(folder, limits)
    size = honest.settings.batch_size
    steps = iter(range(spec.steps))

    def batch_of(indices: Sequence[int]) -> Mapping[str, Tensor]:
        first = next(steps) * size
        kept = [place for place in range(size) if (first + place) % each != each - 1]
        return {name: column[kept] for name, column in honest.batch_of(indices).items()}

    state = State.load(BlobStore(folder / "blobs"), spec.state_root)
    store, true = BlobStore(_opened(folder)), InnerRun(honest, state, spec)
    run = InnerRun(replace(honest, batch_of=batch_of), state, spec)
    leaves, states = [], []
    for leaf in run.segments(lambda _: None, lambda: False):
        leaves.append(replace(leaf, inputs=true.inputs_of(leaf.first_step, leaf.steps)))
        states.append(OpenedState(leaf.segment + 1, save_vectors(store, run.vectors)))
    opened = Opened(tuple(leaves), tuple(states))
    segments = tuple(range(len(leaves)))
    return OpenedClaim(run.update_root(store.put), trace_root(leaves), opened, segments)
