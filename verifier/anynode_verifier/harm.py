"""What a bias inside the tolerance can do: how far workers that are never beyond it can push the model. Pure.

A push is counted in tolerances: the part of the tolerance by which a segment's change is off, times the tolerance,
times the length of that change. In one audited segment it is one at most, since what was accepted is within the
tolerance. Over many, the length of the sum of all pushes, s, grows only as the residual ``again`` lets it. With
r = push · s / |s|,

    |s'|² = |s|² + 2 r |s| + |push|²,   so beyond a length h   |s'| <= |s| + r + 1 / (2 h).

While no line is crossed, each bet b that was begun at any segment j has won less than CAPITALS / FALSE_RATE / stake(j),
and ln(1 + b x) >= b x - b² x² for |b x| <= 0.51, so the sum of r from there on is at most

    n LEAN + L / b + 1.05 b n,   L = ln(CAPITALS / FALSE_RATE · (n + 1) (n + 2)).

Together: |s| after n segments is at most n, and at most n LEAN + L / b + 1.05 b n + sqrt(2 n) + 3 for the best bet.
Nothing is assumed of the workers: they know everything but which rounds will be audited, and may turn as they like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from anynode.rounds.lean import BETS_64THS, CAPITALS, FALSE_RATE, LEAN, UNIT

SQUARE_MAX = 1.05
"""The largest square of a residual less LEAN."""


def audited_push_max(segments: int) -> float:
    """The longest sum of pushes, in tolerances, that so many audited segments of a worker may hold before it is
    suspected.
    """
    if segments < 1:
        return 0.0
    line = math.log(CAPITALS / FALSE_RATE * (segments + 1) * (segments + 2))
    bets = (bet / 64 for bet in BETS_64THS if bet <= 32)
    residuals = min(line / bet + SQUARE_MAX * bet * segments for bet in bets)
    return min(float(segments), segments * LEAN / UNIT + residuals + math.sqrt(2 * segments) + 3)


@dataclass(frozen=True, slots=True)
class Swarm:
    """The setting of a bias: colluding workers with so much ``share`` of the average, the ``tolerance`` (a relative L2
    distance), the rate of audits and the segments that one draws, and the job's outer step.
    """

    share: float
    tolerance: float
    audit_rate: float
    drawn: int
    outer_lr: float
    outer_momentum: float

    @property
    def gain(self) -> float:
        """How far one push moves the model in the end, by the outer step and its momentum."""
        return self.outer_lr / (1.0 - self.outer_momentum)


def push_of_a_round(swarm: Swarm) -> float:
    """The most by which a round's average is off, over the length of an honest worker's path in that round (the sum of
    its segments' changes). No clip helps or hurts here: what is within the tolerance is as long as others' updates are.
    """
    return swarm.share * swarm.tolerance


def push_until_suspected(swarm: Swarm, rounds: int) -> float:
    """The most by which the model is off after ``rounds`` rounds in which none of them is suspected, in lengths of a
    worker's path in one round. Audits are drawn after the work is committed to, so what is not audited is pushed no
    further, on average, than what is.
    """
    audited = swarm.audit_rate * swarm.drawn * rounds
    whole = math.floor(audited)
    pushed = audited_push_max(whole) + (audited - whole)
    return swarm.gain * push_of_a_round(swarm) * rounds * (pushed / audited if audited else 1.0)
