"""How many steps each member is given, and how long a round waits for them. Pure.

A member's speed is what it has shown: committed steps over the seconds from the opening of a round to its commitment,
as the coordinator measures them, in a moving average. So a slow member is given less and is done with the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SMOOTHING = 0.5
"""Weight of the newest measurement in a moving average."""
SLACK = 1.5
GRACE_S = 3.0
WAIT_MAX = 3.0
"""A round is planned to last at most this many times as long as its median member takes."""
TRIED_AGAIN_ROUNDS = 64
"""Who was too slow for any share so many rounds ago may be faster now; until then its machine does no work in vain."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of a member's speed: steps per second, or only the last quota (after a restart), or neither (0)."""

    steps_per_s: float = 0.0
    last_quota: int = 0


def smooth(known: float, measured: float) -> float:
    """The moving average after one more measurement; 0 stands for nothing known."""
    return measured if known == 0 else (1 - SMOOTHING) * known + SMOOTHING * measured


def median_speed(paces: Iterable[Pace]) -> float:
    """The lower median of the known speeds, 0 when there are none."""
    speeds = sorted(pace.steps_per_s for pace in paces if pace.steps_per_s > 0)
    return speeds[(len(speeds) - 1) // 2] if speeds else 0.0


def quotas(paces: Sequence[Pace], inner_steps: int, newcomer_steps: int) -> tuple[int, ...]:
    """The steps of each member in a round of ``inner_steps``: in proportion to its speed, 1 to twice the round's."""
    middle = median_speed(paces)

    def quota(pace: Pace) -> int:
        if pace.steps_per_s > 0:
            wanted = round(inner_steps * pace.steps_per_s / middle)
        else:
            wanted = pace.last_quota or newcomer_steps
        return max(1, min(wanted, quota_max(inner_steps)))

    return tuple(quota(pace) for pace in paces)


def quota_max(inner_steps: int) -> int:
    """The most steps that any member may be given in a round of ``inner_steps``."""
    return 2 * inner_steps


def is_too_slow(pace: Pace, middle: float, inner_steps: int, idle_s: float) -> bool:
    """Whether a member's smallest share takes longer than a round waits for anybody: `WAIT_MAX` times what the median
    member takes, and ``idle_s``, what a round takes beside the work.
    """
    if pace.steps_per_s <= 0 or middle <= 0:
        return False
    return 1 / pace.steps_per_s > WAIT_MAX * inner_steps / middle + idle_s


def within_budget(steps: Sequence[int], steps_max: int) -> tuple[int, ...]:
    """The quotas cut to ``steps_max`` in all: the first keep theirs, the last one that has any gets the rest."""
    kept = []
    left = steps_max
    for wanted in steps:
        if left < 1:
            break
        kept.append(min(wanted, left))
        left -= kept[-1]
    return tuple(kept)


def deadline_s(paces: Sequence[Pace], steps: Sequence[int], inner_steps: int, limit_s: int) -> int:
    """Seconds that a round gives its members: the job's limit, or less when their speeds are known."""
    planned = planned_s(paces, steps, inner_steps)
    return min(limit_s, math.ceil(SLACK * planned + GRACE_S)) if planned else limit_s


def planned_s(paces: Sequence[Pace], steps: Sequence[int], inner_steps: int) -> float:
    """Seconds after which the members have done their steps, as far as their speeds are known; 0 if none is."""
    middle = median_speed(paces)
    if middle == 0:
        return 0.0
    longest_s = WAIT_MAX * inner_steps / middle
    known_s = [quota / pace.steps_per_s for pace, quota in zip(paces, steps, strict=True) if pace.steps_per_s > 0]
    return min(max(known_s), longest_s)
