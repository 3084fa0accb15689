"""The runs behind the bench `loss`, one after the other: each is kept in a file as it ends, and none is made twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import loss_anynode
import loss_peers
from loss_settings import (
    BATCH_SIZE,
    COMPARED,
    CONTEXT,
    GIVEN_UP_RATIO,
    JUDGED,
    LEARNING_RATE_FIRST,
    MUON_RATES,
    OUTER_PUBLISHED,
    PEERS,
    POINTS,
    SEEDS,
    STEPS,
    TUNED_FOR_VARIANTS,
    TUNING_SEED,
    VARIANTS,
    WARMUP_STEPS,
    Rates,
    Setting,
)
from loss_world import World
from report import EVIDENCE, Say

from anynode_contracts.errors import UserError
from anynode_contracts.files import write_aside

RUNS = EVIDENCE / "loss-runs.json"
TRAIN: dict[str, Callable[[World, Setting, Rates, int], Iterator[loss_peers.Progress]]] = {
    "anynode": loss_anynode.train,
    "large-batch": loss_peers.large_batch,
    "diloco": loss_peers.diloco,
}


@dataclass(frozen=True, slots=True)
class Run:
    """``points``: (tokens, bytes that one peer has sent, validation loss) on the way; given-up runs end early."""

    setting: str
    learning_rate: float
    outer: tuple[float, float]
    seed: int
    points: tuple[tuple[int, int, float], ...]
    given_up: bool
    cpu_s: float

    @property
    def loss(self) -> float:
        return self.points[-1][2]

    @property
    def rates(self) -> Rates:
        return Rates(self.learning_rate, self.outer)


class Book:
    """The runs made so far, in the file ``path``. ``ground`` is what must be equal for them to be comparable."""

    def __init__(self, path: Path, ground: dict[str, Any]) -> None:
        self._path, self._ground = path, ground
        self.runs: list[Run] = []
        if path.exists():
            there, self.runs = read(path)
            if there != ground:
                raise UserError(
                    f"the runs in {path} were made on other text or settings; move the file away to begin anew"
                )

    def find(self, setting: Setting, rates: Rates, seed: int) -> Run | None:
        wanted = (setting.name, rates, seed)
        return next((run for run in self.runs if (run.setting, run.rates, run.seed) == wanted), None)

    def add(self, run: Run) -> None:
        self.runs.append(run)
        fields = [
            {name: getattr(run, name) for name in Run.__slots__}  # one run a line
            for run in self.runs
        ]
        lines = ",\n".join(json.dumps(value) for value in fields)
        write_aside(self._path, f'{{"ground": {json.dumps(self._ground)},\n"runs": [\n{lines}\n]}}\n'.encode())


def read(path: Path) -> tuple[dict[str, Any], list[Run]]:
    """The ground and the runs of a file that ``Book`` wrote."""
    value = json.loads(path.read_text(encoding="utf-8"))
    runs = [
        Run(**{**run, "outer": tuple(run["outer"]), "points": tuple(tuple(point) for point in run["points"])})
        for run in value["runs"]
    ]
    return value["ground"], runs


def ground(world: World) -> dict[str, Any]:
    """What every run of a file has in common."""
    return {
        "data": world.data.hash,
        "model": world.model_shape,
        "parameters": world.parameters,
        "peers": PEERS,
        "batch_size": BATCH_SIZE,
        "context": CONTEXT,
        "steps": STEPS,
        "warmup_steps": WARMUP_STEPS,
    }


def run(world: World, setting: Setting, rates: Rates, seed: int, *, until: float = 1.0, best: Run | None = None) -> Run:
    """One run, or its first part up to the share ``until`` of the tokens. With ``best`` it may be given up half-way."""
    began_s = time.process_time()
    points: list[tuple[int, int, float]] = []
    total = STEPS * PEERS * BATCH_SIZE
    given_up = False
    for progress in TRAIN[setting.method](world, setting, rates, seed):
        last = progress.samples >= until * total
        due = progress.samples * POINTS >= (len(points) + 1) * total
        if due or last:
            points.append((progress.samples * CONTEXT, progress.sent_bytes, world.validation_loss(progress.weights)))
        if (
            best is not None
            and len(points) == POINTS // 2
            and points[-1][2] > GIVEN_UP_RATIO * best.points[len(points) - 1][2]
        ):
            given_up = True
        if given_up or last:
            break
    return Run(
        setting.name, rates.learning_rate, rates.outer, seed, tuple(points), given_up, time.process_time() - began_s
    )


def run_all(world: World, book: Book, say: Say) -> None:
    """Tune every setting on one seed, then run all seeds at its best rates, first of the judged ones, then seed by seed
    of all; at last the variants of one of them.
    """

    def one(setting: Setting, seed: int, rates: Rates, best: Run | None = None) -> Run:
        found = book.find(setting, rates, seed)
        if found is None:
            found = run(world, setting, rates, seed, best=best)
            book.add(found)
            say(
                f"{setting.name}, learning rate {rates.learning_rate:g}, outer {rates.outer}, seed {seed}: "
                f"loss {found.loss:.4f}{' (given up)' if found.given_up else ''}, {found.cpu_s:.0f} s"
            )
        return found

    best = {
        setting: MUON_RATES if setting.optimizer == "muon" else tune(partial(one, setting, TUNING_SEED), setting)
        for setting in COMPARED
    }
    for setting in JUDGED:
        for seed in SEEDS:
            one(setting, seed, best[setting])
    for seed in SEEDS:
        for setting in COMPARED:
            one(setting, seed, best[setting])
    for setting in VARIANTS:
        one(setting, TUNING_SEED, best[TUNED_FOR_VARIANTS])


def tune(attempt: Callable[[Rates, Run | None], Run], setting: Setting) -> Rates:
    """The best rates for ``setting``: double or halve the learning rate as long as that helps, with either outer step.

    ``attempt`` makes a run, which it may give up when it falls far behind the best so far.
    """
    best = attempt(Rates(LEARNING_RATE_FIRST), None)

    def better(rates: Rates) -> bool:
        nonlocal best
        made = attempt(rates, best)
        won = not made.given_up and made.loss < best.loss
        best = made if won else best
        return won

    def climb() -> None:
        start = best.learning_rate
        for factor in (2.0, 0.5):
            while better(Rates(best.learning_rate * factor, best.outer)):
                pass
            if best.learning_rate != start:
                return

    climb()
    if setting.inner_steps > 1 and any(
        better(Rates(best.learning_rate * part, OUTER_PUBLISHED)) for part in (1.0, 0.5)
    ):
        climb()
    return best.rates
