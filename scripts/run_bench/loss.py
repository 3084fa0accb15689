"""Validation loss against tokens: AnyNode at several lengths of a round, large-batch AdamW and DiLoCo."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from loss_figures import Line, best_rates, lines, step_s
from loss_runs import RUNS, Book, Run, ground, read, run, run_all
from loss_settings import (
    ANYNODE,
    BATCH_SIZE,
    COMPARED,
    CONTEXT,
    JUDGED,
    LARGE_BATCH,
    PEERS,
    SEEDS,
    STEPS,
    TUNING_SEED,
)
from loss_world import World
from plots import draw
from report import EVIDENCE, Goal, Report, Say

from anynode_contracts.errors import UserError

GAP_MAX = 0.02
CHECKED_SHARE = 0.4
"""The share of the tokens up to which the short form trains again."""
CHECK_DIFFERENCE_MAX = 0.01


def measure(deep: bool, say: Say) -> Report:
    """With ``deep`` every run that the file lacks is made; else the file is read and the beginning of two runs, one of
    each side, is made again and compared with it.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        if deep:
            book = Book(RUNS, ground(world))
            run_all(world, book, say)
            runs = book.runs
        elif RUNS.exists():
            _, runs = read(RUNS)
        else:
            raise UserError(f"there are no runs in {RUNS}; make them with `scripts/bench loss --deep`")
        found = lines(runs)
        require_judged(found)
        difference = check(world, runs, say)
    if deep:
        draw(found, step_s(runs), EVIDENCE, say)
    return report(found, difference, step_s(runs))


def check(world: World, runs: Sequence[Run], say: Say) -> float:
    """Train the first part of two stored runs again, of large-batch AdamW and of AnyNode at 20 steps. Gives the largest
    relative difference between the ratios of their losses, now and then: another text (another Python has another
    library) moves both sides alike.
    """
    again, stored = [], []
    for setting in (LARGE_BATCH, ANYNODE[20]):
        rates = best_rates(runs, setting)
        kept = [item for item in runs if (item.setting, item.seed, item.rates) == (setting.name, TUNING_SEED, rates)]
        again.append(run(world, setting, kept[0].rates, TUNING_SEED, until=CHECKED_SHARE))
        stored.append(kept[0])
        same = again[-1].points == kept[0].points[: len(again[-1].points)]
        say(f"{setting.name}: the first {CHECKED_SHARE:.0%} again, {'with' if same else 'without'} equal bits")
    ratios = [
        [other[2] / base[2] for base, other in zip(pair[0].points, pair[1].points, strict=False)]
        for pair in (again, stored)
    ]
    return float(max(abs(now / then - 1.0) for now, then in zip(*ratios, strict=False)))


def report(found: Sequence[Line], difference: float, worker_step_s: float) -> Report:
    """The figures of all settings. A gap is the mean over seeds of loss / large-batch AdamW's loss - 1."""
    by_name = {line.setting.name: line for line in found}
    base = by_name[LARGE_BATCH.name]
    within = [line for steps in sorted(ANYNODE) if (line := by_name[ANYNODE[steps].name]).gap.mean <= GAP_MAX]
    at_20 = by_name[ANYNODE[20].name]
    keys: dict[str, Any] = {
        "loss_gap": at_20.gap.mean,
        "loss_gap_95": at_20.gap.half_width,
        "bytes_vs_ddp_at_20": base.sent_bytes / at_20.sent_bytes,
        "inner_steps_within_gap": within[-1].setting.inner_steps if within else 0,
        "bytes_vs_ddp": base.sent_bytes / within[-1].sent_bytes if within else 0.0,
        "check_difference": difference,
        "step_s": worker_step_s,
    }
    for line in found:
        keys[f"loss_{line.setting.name}"] = line.loss.mean
        if len(line.runs) > 1:  # one seed has no interval
            keys[f"loss_{line.setting.name}_95"] = line.loss.half_width
    rows = [
        (
            line.setting.name,
            f"{line.rates.learning_rate:g}",
            "-" if line.setting.inner_steps == 1 else f"{line.rates.outer[0]:g}, {line.rates.outer[1]:g}",
            len(line.runs),
            str(line.loss),
            f"{line.gap.mean:+.1%}" + (f" ± {line.gap.half_width:.1%}" if len(line.runs) > 1 else ""),
            f"{line.sent_bytes / 1e6:.1f}",
            f"{base.sent_bytes / line.sent_bytes:.1f}",
        )
        for line in found
    ]
    tokens = STEPS * PEERS * BATCH_SIZE * CONTEXT
    return Report(
        keys=keys,
        goals=(Goal("loss_gap", "<=", GAP_MAX), Goal("check_difference", "<=", CHECK_DIFFERENCE_MAX)),
        columns=("setting", "rate", "outer", "seeds", "loss", "gap", "MB sent a peer", "bytes vs DDP"),
        rows=rows,
        notes=(
            f"{PEERS} peers, {STEPS} steps of {BATCH_SIZE} x {CONTEXT} bytes each, {tokens:,} tokens in every setting; "
            "4 bits everywhere.",
            f"Rates were tuned on seed {TUNING_SEED}; the runs of the tuning are in {RUNS.name} beside this evidence, "
            "but for Muon's, which loss.md lists.",
            *on_fewer_seeds(found),
        ),
    )


def require_judged(found: Sequence[Line]) -> None:
    """Raise ``UserError`` unless what is judged was run on all seeds and all that it stands beside on one at least."""
    wanted = {setting.name: 1 for setting in COMPARED} | {setting.name: len(SEEDS) for setting in JUDGED}
    there = {line.setting.name: len(line.runs) for line in found}
    lacking = [name for name, seeds in wanted.items() if there.get(name, 0) < seeds]
    if lacking:
        raise UserError(f"runs of {', '.join(lacking)} are missing; make them with `scripts/bench loss --deep`")


def on_fewer_seeds(found: Sequence[Line]) -> tuple[str, ...]:
    """A note that names the settings whose figures stand on fewer seeds, if there are any."""
    fewer = [line.setting.name for line in found if len(line.runs) < len(SEEDS)]
    return (f"On fewer than {len(SEEDS)} seeds: {', '.join(fewer)}.",) if fewer else ()
