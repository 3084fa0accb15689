"""Whether a worker leans to one side inside the tolerance: a running test over its accepted tolerant audits. Pure.

Each audited segment gives two signed residuals, as parts of the tolerance (`residual.py` of the verifier): how much
longer its change is than it should be, and how far it is off in the direction in which this worker was off before.
Rounding on honest machines falls to both sides. Who adds the same to every update falls to one, whatever it adds.

The test bets against that. Stakes that add up to one are put in one after the other, and all that is there is
multiplied by 1 + bet · (residual - LEAN) for each residual, for several bets and both sides. While residuals are within
±LEAN on average, whatever their law, the chance that the mean over all bets ever reaches 1 / FALSE_RATE is at most
FALSE_RATE (Ville's inequality; Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
2024). So it may be looked at after every audit. New stakes keep a worker from losing all of them first, to lean
afterwards. It is computed in whole numbers, rounded down, so that everybody who reads the records finds the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

FALSE_RATE = 1e-4
"""The chance that a worker that does not lean is ever suspected, over its whole life in a job."""
LEAN = 20
"""In thousandths of the tolerance: a lean that honest classes may have to each other, which nothing here shows. What
they have, `scripts/bench false-flags` says (`lean_max`).
"""
BETS_64THS = (64, 32, 16, 8, 4, 2, 1)
"""What is at stake in one residual. High bets find a strong lean soon, low ones a weak one among much noise."""
KINDS = ("along", "again")
UNIT = 1_000
"""A residual of the whole tolerance."""
_SIDES = (("along", 1), ("along", -1), ("again", 1))
CAPITALS = len(_SIDES) * len(BETS_64THS)
_ONE = 1 << 64


@dataclass(frozen=True, slots=True)
class Lean:
    """What a worker's audits have shown: how many segments, the totals of both residuals, the capital of each bet, and
    whether the mean capital has ``crossed`` its line. Who has crossed it stays suspected.
    """

    segments: int = 0
    along: int = 0
    again: int = 0
    capitals: tuple[int, ...] = (0,) * CAPITALS
    crossed: bool = False

    @property
    def means(self) -> tuple[float, float]:
        """Both mean residuals as parts of the tolerance."""
        count = max(1, self.segments) * UNIT
        return self.along / count, self.again / count


def after_residuals(lean: Lean, residuals: Sequence[int]) -> Lean:
    """Take in the residuals of an audit, in thousandths: ``along`` and ``again`` of each segment in turn."""
    for along, again in zip(residuals[::2], residuals[1::2], strict=True):
        lean = _after_segment(lean, along, again)
    return lean


def _after_segment(lean: Lean, along: int, again: int) -> Lean:
    number = lean.segments + 1
    stake = _ONE // (number * (number + 1))
    found = {"along": along, "again": again}
    bets = ((kind, side, bet) for kind, side in _SIDES for bet in BETS_64THS)
    capitals = tuple(
        (capital + stake) * (64 * UNIT + bet * max(-UNIT, side * found[kind] - LEAN)) // (64 * UNIT)
        for capital, (kind, side, bet) in zip(lean.capitals, bets, strict=True)
    )
    crossed = lean.crossed or sum(capitals) * FALSE_RATE >= CAPITALS * _ONE
    return replace(
        lean,
        segments=number,
        along=lean.along + along,
        again=lean.again + again,
        capitals=capitals,
        crossed=crossed,
    )
