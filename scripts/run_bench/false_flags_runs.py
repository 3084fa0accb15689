"""What the bench ``false-flags`` measures, pair of classes by pair, kept on disk: who is stopped goes on from there."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from false_flags_cheats import SHARES, Cheating
from false_flags_models import MODELS, Tested
from pydantic import TypeAdapter
from report import Say

from anynode.blobs.store import BlobStore
from anynode.device.hardware import Instructions, Precision, available_instructions, processors
from anynode.rounds.audit_secrets import draw_segments
from anynode.training.messages import Limits, Phase, SegmentSums, WorkSpec
from anynode.training.process import Trainer, TrainerSettings
from anynode_contracts.errors import RefusedError
from anynode_contracts.files import write_aside
from anynode_verifier.calibrate_command import measure as calibrated
from anynode_verifier.calibration import Entry, Thresholds
from anynode_verifier.drift import Distance, Drift, drift_of
from anynode_verifier.gathering import Course, Gathering, HonestAudit
from anynode_verifier.residual import Residuals

CALIBRATION_SEEDS = 3
FIRST_TEST_SEED = 1_000
CHEAT_SEED = 900
ROUNDS, FIRST_SLOTS = 8, 3
AUDITS_OF_A_COURSE = ROUNDS - 1 + FIRST_SLOTS
_entries: TypeAdapter[tuple[Entry, ...]] = TypeAdapter(tuple[Entry, ...])


@dataclass(frozen=True)
class Pair:
    """A worker's class beside the auditor's, which is the plain one of the same data type."""

    name: str
    worker: Limits

    @property
    def folder(self) -> str:
        """Where its results are kept."""
        return self.name.replace(", ", "-").replace(" ", "-")

    @property
    def auditor(self) -> Limits:
        return Limits(device="cpu", precision=self.worker.precision)


def pairs() -> list[Pair]:
    """All classes that this machine can make, but for the plain ones, beside which they stand."""
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    threads = (1, 2) if processors() > 1 else (1,)
    sets: tuple[Instructions, ...] = ("auto", "avx512") if "avx512" in available_instructions() else ("auto",)
    found = []
    for precision, count, instructions in itertools.product(precisions, threads, sets):
        if (count, instructions) != (1, "auto"):
            words = "AVX-512" if instructions == "avx512" else "AVX2"
            name = f"{precision}, {count} thread{'s' if count > 1 else ''}, {words}"
            limits = Limits(device="cpu", precision=precision, threads=count, instructions=instructions)
            found.append(Pair(name, limits))
    return found


@dataclass(frozen=True)
class Segment:
    """What a replay of one segment has shown: distances by vector."""

    number: int
    drift: Drift


@dataclass(frozen=True)
class Audit:
    """An honest slot's work, or with a ``share`` one that leaves out so much of its micro-batches. ``residuals``: of
    honest work, as a verdict has them.
    """

    model: str
    phase: Phase
    segments: tuple[Segment, ...]
    residuals: tuple[int, ...] = ()
    share: float = 0.0
    work_s: float = 0.0
    opening_s: float = 0.0
    replay_s: float = 0.0


@dataclass
class Findings:
    """All of one pair."""

    pair: Pair
    entries: tuple[Entry, ...]
    honest: list[Audit] = field(default_factory=list)
    cheats: list[Audit] = field(default_factory=list)

    def limits(self, phase: Phase) -> Drift:
        """The frozen thresholds."""
        return limits_of(self.entries, phase)


def limits_of(entries: tuple[Entry, ...], phase: Phase) -> Drift:
    """The thresholds of the one pair of classes that ``entries`` are of."""
    entry = next(entry for entry in entries if entry.phase == phase)
    return Thresholds((entry,)).between(entry.worker, entry.auditor, entry.phase)


def _segments(found: Iterable[SegmentSums]) -> tuple[Segment, ...]:
    return tuple(Segment(sums.segment, drift_of(sums)) for sums in found)


async def findings(pair: Pair, goal: int, folder: Path, say: Say) -> Findings:
    """Calibrate a pair, then audit honest work and cheats of it until there is enough, with what ``folder`` has."""
    found = Findings(pair, await _calibrated(pair, folder / "entries.json", say))
    for number, tested in enumerate(MODELS):
        seeds = range(FIRST_TEST_SEED * (1 + number), FIRST_TEST_SEED * (2 + number))
        wanted = [*seeds[: -(-goal // (AUDITS_OF_A_COURSE * len(MODELS)))], CHEAT_SEED]
        paths = {seed: folder / f"{number}-{seed}.json" for seed in wanted}
        missing = [seed for seed, path in paths.items() if not path.exists()]
        if missing:
            async with _place(pair, tested, found.entries) as place:
                for seed in missing:
                    done = await (place.cheats() if seed == CHEAT_SEED else place.honest(seed))
                    _keep(paths[seed], done)
                    say(f"{pair.name}, {tested.name}: seed {seed}, {len(done)} audits")
        for seed, path in paths.items():
            (found.cheats if seed == CHEAT_SEED else found.honest).extend(_read(path))
    return found


async def _calibrated(pair: Pair, path: Path, say: Say) -> tuple[Entry, ...]:
    if not await asyncio.to_thread(path.exists):
        say(f"{pair.name}: calibrating")
        made = await calibrated(None, pair.worker, pair.auditor, CALIBRATION_SEEDS, lambda _: None)
        _keep(path, made)
    return _entries.validate_json(await asyncio.to_thread(path.read_bytes))


def _keep(path: Path, found: Iterable[Entry | Audit]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, json.dumps([asdict(item) for item in found]).encode())


@dataclass
class _Place:
    """Two trainers of one pair with one model, and the pair's thresholds."""

    pair: Pair
    tested: Tested
    entries: tuple[Entry, ...]
    gathering: Gathering
    auditor: Trainer
    folder: Path

    async def honest(self, seed: int) -> list[Audit]:
        def draw(spec: WorkSpec, count: int) -> tuple[int, ...]:
            return draw_segments(f"{seed} {spec.round}", spec.slot, count)

        course = Course(seed, ROUNDS, 1, FIRST_SLOTS)
        residuals = Residuals(self.folder / f"residuals-{seed}.json")
        return [self._audit(item, residuals) async for item in self.gathering.audits(course, draw)]

    def _audit(self, item: HonestAudit, residuals: Residuals) -> Audit:
        tolerance = limits_of(self.entries, item.phase)["params"].whole
        return Audit(
            self.tested.name,
            item.phase,
            _segments(item.segments),
            residuals.take("worker", item.segments, tolerance),
            work_s=item.work_s,
            opening_s=item.opening_s,
            replay_s=item.replay_s,
        )

    async def cheats(self) -> list[Audit]:
        """Every size of cheat, at each work of one course; all segments are replayed."""
        found = []
        course = Course(CHEAT_SEED, ROUNDS, 1, FIRST_SLOTS)
        specs = [item.spec async for item in self.gathering.audits(course, lambda *_: (0,))]
        with Cheating.open(self.pair.worker, self.folder) as cheating:
            for share, spec in itertools.product(SHARES, specs[::2]):
                told, claim, opened = cheating.claim(spec, share)
                replay = await self.auditor.replay_segments(told, claim, opened)
                if replay.fault:
                    raise RefusedError(f"a cheat was made badly: {replay.fault}")
                found.append(Audit(self.tested.name, replay.phase, _segments(replay.segments), share=share))
        return found


@asynccontextmanager
async def _place(pair: Pair, tested: Tested, entries: tuple[Entry, ...]) -> AsyncIterator[_Place]:
    with tempfile.TemporaryDirectory(prefix="anynode-false-flags-") as name:
        folder = Path(name)
        job = tested.make(folder / "job")
        store = BlobStore(folder / "blobs")
        worker_settings, auditor_settings = (
            TrainerSettings(folder / f"{role}.log", limits=limits)
            for role, limits in (("worker", pair.worker), ("auditor", pair.auditor))
        )
        async with (
            await Trainer.start(store.folder, folder / "job", worker_settings) as worker,
            await Trainer.start(store.folder, folder / "job", auditor_settings) as auditor,
        ):
            gathering = Gathering(worker, auditor, job, store, folder / "opened")
            yield _Place(pair, tested, entries, gathering, auditor, folder)


def _read(path: Path) -> Iterator[Audit]:
    for item in json.loads(path.read_bytes()):
        segments = tuple(_segment(segment) for segment in item.pop("segments"))
        yield Audit(segments=segments, residuals=tuple(item.pop("residuals")), **item)


def _segment(told: dict[str, Any]) -> Segment:
    drift = {vector: Distance(**distance) for vector, distance in told.pop("drift").items()}
    return Segment(told["number"], drift)
