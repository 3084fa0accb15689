"""How long a round is where the job leaves it open (``inner_steps = "auto"``). Pure.

Between the last inner step of one round and the first of the next, a worker's processor has nothing to do. The longer
the round, the smaller that share of it; the shorter, the closer the workers stay together.
"""

from __future__ import annotations

import math

IDLE_SHARE_MAX = 0.05
"""The share of a round that may be spent on anything but computing."""


def inner_steps(idle_s: float, steps_per_s: float, least: int, most: int) -> int:
    """The fewest inner steps for which ``idle_s`` seconds are at most 5 % of the round, within the job's limits.

    Without measurements (0) it is the least.
    """
    if idle_s <= 0 or steps_per_s <= 0:
        return least
    wanted = idle_s * (1 / IDLE_SHARE_MAX - 1) * steps_per_s
    return max(least, min(most, math.ceil(wanted - 1e-9)))
