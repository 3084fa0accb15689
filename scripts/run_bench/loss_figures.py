"""What the runs of the bench `loss` say: means, 95 % intervals, gaps to large-batch AdamW, bytes, modelled seconds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from loss_runs import Run
from loss_settings import (
    BATCH_SIZE,
    COMPARED,
    CONTEXT,
    LARGE_BATCH,
    PEERS,
    SEEDS,
    STEPS,
    TUNED_FOR_VARIANTS,
    TUNING_SEED,
    VARIANTS,
    Rates,
    Setting,
)

UP_BITS_PER_S = 20e6
"""A home's uplink. Its downlink, 100 Mbit/s, never decides: in an all-reduce a peer gets as much as it sends."""
_T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t, 97.5 % quantile by degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with the half width of its 95 % interval (infinite for one value)."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        if len(values) < 2:
            return cls(values[0], math.inf)
        half_width = _T_95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
        return cls(statistics.mean(values), half_width)

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.half_width:.4f}" if math.isfinite(self.half_width) else f"{self.mean:.4f}"


@dataclass(frozen=True, slots=True)
class Line:
    """One setting at its best rates: its runs by seed, the loss, and the gap to large-batch AdamW seed by seed."""

    setting: Setting
    rates: Rates
    runs: tuple[Run, ...]
    loss: Estimate
    gap: Estimate

    @property
    def sent_bytes(self) -> int:
        """What one peer sends in the whole run."""
        return self.runs[0].points[-1][1]

    def curve(self) -> list[tuple[int, int, Estimate]]:
        """(tokens, bytes sent, loss over the seeds) at each point."""
        columns = zip(*(run.points for run in self.runs), strict=True)
        return [(column[0][0], column[0][1], Estimate.of([point[2] for point in column])) for column in columns]


def best_rates(runs: Sequence[Run], setting: Setting) -> Rates | None:
    """The rates with which the tuning seed ended lowest."""
    ended = [run for run in runs if run.setting == setting.name and run.seed == TUNING_SEED and not run.given_up]
    return min(ended, key=lambda run: run.loss).rates if ended else None


def lines(runs: Sequence[Run]) -> list[Line]:
    """The compared settings and variants that were run, each on the seeds that large-batch AdamW was run on too."""
    base = {run.seed: run for run in _at_best(runs, LARGE_BATCH)}
    found = []
    for setting in (*COMPARED, *VARIANTS):
        chosen = tuple(run for run in _at_best(runs, setting) if run.seed in base)
        if chosen:
            gap = Estimate.of([run.loss / base[run.seed].loss - 1.0 for run in chosen])
            found.append(Line(setting, chosen[0].rates, chosen, Estimate.of([run.loss for run in chosen]), gap))
    return found


def step_s(runs: Sequence[Run]) -> float:
    """Processor seconds of one worker's step, everything around it included: the least of the runs at 20 steps."""
    return min(
        run.cpu_s / (STEPS * PEERS) for run in runs if run.setting == TUNED_FOR_VARIANTS.name and not run.given_up
    )


def modelled_s(tokens: int, sent_bytes: int, worker_step_s: float) -> float:
    """Seconds of training so far behind a home's line: steps one after the other, and what is sent at the rate of the
    uplink. Neither latency nor other messages are counted.
    """
    return tokens / (PEERS * BATCH_SIZE * CONTEXT) * worker_step_s + 8 * sent_bytes / UP_BITS_PER_S


def _at_best(runs: Sequence[Run], setting: Setting) -> list[Run]:
    rates = best_rates(runs, TUNED_FOR_VARIANTS if setting in VARIANTS else setting)
    chosen = [run for run in runs if run.setting == setting.name and run.rates == rates and not run.given_up]
    return sorted((run for run in chosen if run.seed in SEEDS), key=lambda run: run.seed)
