"""Honest drift, measured: one class works and opens its states, another replays them. Nothing here decides anything."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from anynode.blobs.store import BlobStore
from anynode.exact.layout import chunk_specs, refresh_due
from anynode.jobs.job import Job
from anynode.training.messages import (
    ApplySpec,
    OpenedClaim,
    OuterStepSpec,
    Phase,
    ReduceInput,
    ReduceSpec,
    SegmentSums,
    WorkResult,
    WorkSpec,
)
from anynode.training.process import Trainer
from anynode_contracts.errors import RefusedError

STEPS_MAX = 40


@dataclass(frozen=True, slots=True)
class Course:
    """``rounds`` rounds of ``slots`` workers each, on samples drawn with ``seed``; in round 0 ``first_slots`` of them,
    since only there workers start without second moments. States after every round are early and late training.
    """

    seed: int
    rounds: int
    slots: int
    first_slots: int


@dataclass(frozen=True, slots=True)
class Sample:
    """An honest segment, replayed in the other class."""

    seed: int
    round: int
    phase: Phase
    sums: SegmentSums


@dataclass(frozen=True, slots=True)
class HonestAudit:
    """A slot's honest work, opened and some segments of it replayed in the other class. Seconds: of the work itself, of
    its regeneration by the worker, and of the replay.
    """

    spec: WorkSpec
    result: WorkResult
    phase: Phase
    segments: tuple[SegmentSums, ...]
    work_s: float
    opening_s: float
    replay_s: float


Draw = Callable[[WorkSpec, int], tuple[int, ...]]
"""The work and the number of its segments -> those to replay."""


@dataclass(frozen=True, slots=True)
class Round:
    """Where a course stands."""

    number: int
    root: str
    refresh: bool
    has_moments: bool = False
    cursor: int = 0


class Gathering:
    """``worker`` and ``auditor`` are trainers of one job in two classes, both on ``store``. Opened states lie below
    ``folder`` while they are needed.
    """

    def __init__(self, worker: Trainer, auditor: Trainer, job: Job, store: BlobStore, folder: Path) -> None:
        self._worker, self._auditor, self._job = worker, auditor, job
        self._store, self._folder = store, folder

    async def samples(self, course: Course) -> AsyncIterator[Sample]:
        """Train a course and replay every segment of it. Raises as ``audits`` does."""
        async for audit in self.audits(course, lambda _, count: tuple(range(count))):
            for sums in audit.segments:
                yield Sample(course.seed, audit.spec.round, audit.phase, sums)

    async def audits(self, course: Course, draw: Draw) -> AsyncIterator[HonestAudit]:
        """Train a course and replay the segments of each work that ``draw`` names.

        Raises ``RefusedError`` where an exact check fails: then the two classes do not even agree on what must be the
        same everywhere.
        """
        draws = random.Random(course.seed)  # noqa: S311 (a choice of samples that is to be repeatable)
        at = Round(0, await self._worker.initial_state(), self._job.training.publishes_moments)
        for _ in range(course.rounds):
            done: list[WorkResult] = []
            for slot in range(course.slots if at.number else course.first_slots):
                spec = self._spec(at, slot, draws)
                done.append(await self._worker.work(spec))
                yield await self._audited(spec, done[-1], draw(spec, len(done[-1].leaves)))
            at = await self._next(at, done[: course.slots], sum(result.samples for result in done))

    async def _audited(self, spec: WorkSpec, result: WorkResult, segments: tuple[int, ...]) -> HonestAudit:
        began_s = time.monotonic()
        try:
            opened = await self._worker.open_segments(spec, result.leaves, segments, self._folder)
            opening_s = time.monotonic() - began_s
            claim = OpenedClaim(result.update_root, result.trace_root, opened, segments)
            replay = await self._auditor.replay_segments(spec, claim, self._folder, sketch_seed="honest")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        if replay.fault:
            raise RefusedError(f"the two classes do not agree on what must be equal everywhere: {replay.fault}")
        seconds = (result.seconds, opening_s, replay.seconds)
        return HonestAudit(spec, result, replay.phase, replay.segments, *seconds)

    def _spec(self, at: Round, slot: int, draws: random.Random) -> WorkSpec:
        training = self._job.training
        steps = min(training.inner_steps_most, STEPS_MAX)
        indices = tuple(draws.randrange(self._job.data.samples) for _ in range(steps * training.share_samples))
        return WorkSpec(self._job.job_id, at.number, slot, at.root, steps, indices, at.refresh)

    async def _next(self, at: Round, done: list[WorkResult], samples: int) -> Round:
        """Average what was done and take the outer step."""
        updates = [self._store.manifest(result.update_root, "update") for result in done]
        specs = []
        for chunk in chunk_specs(self._job.model.parameters, at.refresh):
            inputs = tuple(
                ReduceInput(slot, update.chunks[chunk.index].hash, result.samples, result.steps)
                for slot, (update, result) in enumerate(zip(updates, done, strict=True))
            )
            specs.append(ReduceSpec(self._job.job_id, at.number, chunk.index, at.refresh, inputs))
        averaged = []
        for outcome in await self._worker.reduce(specs):
            if isinstance(outcome, RefusedError):
                raise outcome
            averaged.append(outcome)
        number, cursor, steps = at.number + 1, at.cursor + samples, min(result.steps for result in done)
        spec = ApplySpec(at.root, (OuterStepSpec(at.refresh, tuple(averaged), steps),), number, cursor, ())
        has_moments, training = at.has_moments or at.refresh, self._job.training
        refresh = training.publishes_moments and refresh_due(number, training.refresh_rounds, has_moments)
        return replace(
            at,
            number=number,
            root=await self._worker.apply(spec),
            refresh=refresh,
            has_moments=has_moments,
            cursor=cursor,
        )
