"""The models and data of the bench ``false-flags``: other than those that thresholds are calibrated with."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anynode.jobs.export import Exportable
from anynode.jobs.job import Job
from anynode.jobs.templates import gpt
from anynode_verifier.template_job import make_job


@dataclass(frozen=True)
class Tested:
    """A model with text of its own, which it learns in a job of its own settings."""

    name: str
    model: Callable[[], Exportable]
    text: Callable[[random.Random], str]
    learning_rate: float

    def make(self, folder: Path) -> Job:
        """The job's files in ``folder``; the job."""
        text = self.text(random.Random(self.name))  # noqa: S311 (text that is to be repeatable)
        return make_job(self.model(), text, folder, learning_rate=self.learning_rate)


def sums(draws: random.Random) -> str:
    """Sums and products of small numbers."""
    lines = []
    for _ in range(4_000):
        a, b = draws.randrange(1_000), draws.randrange(1_000)
        lines.append(f"{a} + {b} = {a + b}; {a} * {b} = {a * b}\n")
    return "".join(lines)


def _brackets(draws: random.Random) -> str:
    """Nested brackets that close in order, with letters between."""
    pieces, open_ = [], list[str]()
    for _ in range(60_000):
        if open_ and draws.random() < 0.45:
            pieces.append(open_.pop())
        elif len(open_) < 12 and draws.random() < 0.6:
            kind = draws.choice(["()", "[]", "{}"])
            pieces.append(kind[0])
            open_.append(kind[1])
        else:
            pieces.append(draws.choice("abcdefgh \n"))
    return "".join(pieces)


MODELS = (
    Tested(
        "wide GPT of one layer, sums",
        lambda: gpt.build(width=48, layers=1, heads=3, context=24, batch_size=8, seed=7),
        sums,
        0.004,
    ),
    Tested(
        "narrow GPT of four layers, brackets",
        lambda: gpt.build(width=24, layers=4, heads=2, context=20, batch_size=4, seed=8),
        _brackets,
        0.002,
    ),
)
