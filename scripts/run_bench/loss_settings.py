"""What the bench `loss` compares: methods, rounds' lengths, and the grids that their rates are tuned on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Method = Literal["anynode", "large-batch", "diloco"]

PEERS = 4
BATCH_SIZE = 48
"""Samples of one worker in one step; large-batch AdamW takes the union of all workers' batches. Far smaller ones would
compare noise: then four times the batch is worth more than anything that local steps can do.
"""
CONTEXT = 32
STEPS = 1_000
"""Steps of every worker in every setting: all see the same number of tokens."""
WARMUP_STEPS = 50
POINTS = 10
"""How often the validation loss is taken on the way."""
SEEDS = (0, 1, 2, 3, 4)
TUNING_SEED = 0


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the comparison. ``quotas``: steps of each worker in a round, ``inner_steps`` each where empty;
    ``optimizer``: AnyNode's inner one.
    """

    name: str
    method: Method
    inner_steps: int
    refresh_rounds: int = 4
    quotas: tuple[int, ...] = ()
    optimizer: Literal["adamw", "muon"] = "adamw"

    @property
    def steps_by_slot(self) -> tuple[int, ...]:
        return self.quotas or (self.inner_steps,) * PEERS

    @property
    def rounds(self) -> int:
        """As many as use up the samples that all settings have in common."""
        return math.ceil(STEPS * PEERS / sum(self.steps_by_slot))


@dataclass(frozen=True, slots=True)
class Rates:
    """What is tuned. ``outer`` is Nesterov's learning rate and momentum, of no meaning where every step is averaged."""

    learning_rate: float
    outer: tuple[float, float] = (1.0, 0.5)


LARGE_BATCH = Setting("large-batch", "large-batch", 1)
ADAMW = {steps: Setting(f"anynode-{steps}", "anynode", steps) for steps in (20, 10, 50, 100, 1)}
MUON = {steps: Setting(f"anynode-muon-{steps}", "anynode", steps, optimizer="muon") for steps in (20, 10, 50, 100)}
ANYNODE = MUON | {1: ADAMW[1]}
"""By the length of a round: what AnyNode is judged by. Gradient mode has AdamW in its exact step."""
DILOCO = Setting("diloco-20", "diloco", 20)
JUDGED = (LARGE_BATCH, ANYNODE[20])
COMPARED = (*JUDGED, ANYNODE[1], DILOCO, ADAMW[20], *(MUON[steps] for steps in (10, 50, 100)))

MUON_RATES = Rates(16e-3, (1.0, 0.5))
"""Of all settings with Muon: found at 20 inner steps on the tuning seed, with `MUON`'s other settings."""
MUON_BETA2 = 0.95
MUON_EXCEPT = ("embedding.weight", "head.weight", "position.weight")

TUNED_FOR_VARIANTS = ADAMW[20]
VARIANTS = (
    Setting("anynode-20-refresh-8", "anynode", 20, refresh_rounds=8),
    Setting("anynode-20-one-slow", "anynode", 20, quotas=(20, 20, 20, 2)),
    Setting("anynode-20-mixed", "anynode", 20, quotas=(40, 18, 18, 4)),
)
"""Run at the rates of `anynode-20`, on the tuning seed only: moments renewed less often; one worker ten times slower
than the others; a worker twice as fast as most and one ten times slower than that.
"""

LEARNING_RATE_FIRST = 16e-3
"""Doubled and halved as long as that helps, with the outer step that a `Rates` has by itself."""
OUTER_PUBLISHED = (0.7, 0.9)
"""DiLoCo's outer step, tried then at the best learning rate and at half of it, and climbed from where it is better."""
GIVEN_UP_RATIO = 1.05
"""A tuning run whose loss is so far above the best run's half-way is ended there."""
