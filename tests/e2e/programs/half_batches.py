"""A worker that trains on half of every batch, twice, and claims all of it. Takes the arguments of ``anynode join``.

Its trace names the samples that it was dealt, and it opens the very states that it came through: only their drift from
honest ones can tell.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anynode.cli.main import run
from anynode.training.messages import Opened, WorkResult, WorkSpec
from anynode.training.process import Trainer
from anynode.training.trace import TraceLeaf, trace_root

honest_work, honest_opening = Trainer.work, Trainer.open_segments


def halved(spec: WorkSpec) -> WorkSpec:
    size = len(spec.indices) // spec.steps
    indices: list[int] = []
    for start in range(0, len(spec.indices), size):
        half = spec.indices[start : start + size // 2]
        indices += [*half, *half]
    return replace(spec, indices=tuple(indices))


def dressed(false: Sequence[TraceLeaf], honest: Sequence[TraceLeaf]) -> tuple[TraceLeaf, ...]:
    return tuple(replace(leaf, inputs=other.inputs) for leaf, other in zip(false, honest, strict=True))


async def work(self: Trainer, spec: WorkSpec, **_: Any) -> WorkResult:
    honest, false = await honest_work(self, spec), await honest_work(self, halved(spec))
    leaves = dressed(false.leaves, honest.leaves)
    return replace(false, leaves=leaves, trace_root=trace_root(leaves))


async def open_segments(
    self: Trainer, spec: WorkSpec, leaves: Sequence[TraceLeaf], segments: Sequence[int], folder: Path, **_: Any
) -> Opened:
    opened = await honest_opening(self, halved(spec), (), segments, folder)
    return replace(opened, leaves=dressed(opened.leaves, leaves))


if __name__ == "__main__":
    setattr(Trainer, "work", work)  # noqa: B010 (the product offers no way to put a cheat in)
    setattr(Trainer, "open_segments", open_segments)  # noqa: B010
    sys.exit(run(["join", *sys.argv[1:]]))
