"""A lean inside the tolerance: workers that do not lean are not suspected, whatever their noise; who leans is."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from round_actors import ALICE

from anynode.rounds.judgements import Judged
from anynode.rounds.lean import BETS_64THS, CAPITALS, FALSE_RATE, LEAN, UNIT, Lean, after_residuals
from anynode.rounds.standing import EVERY_TIME_PPM, Standing, after_judgement, least_rate_ppm

RUNS, SEGMENTS = 200, 60
Law = Callable[[random.Random], float]
#: Residuals as parts of the tolerance, each with a mean of nothing or of as much as classes may have to each other.
HONEST: dict[str, Law] = {
    "as measured between classes": lambda dice: dice.gauss(0.0, 0.005),
    "a quarter of the tolerance": lambda dice: dice.gauss(0.0, 0.12),
    "with all the lean that classes may have": lambda dice: dice.gauss(LEAN / UNIT, 0.12),
    "all of the tolerance, to either side": lambda dice: dice.choice((-1.0, 1.0)),
    "seldom far to one side, often little to the other": lambda dice: 1.0 if dice.random() < 0.1 else -1.0 / 9.0,
}


def thousandths(part: float) -> int:
    return round(UNIT * min(1.0, max(-1.0, part)))


def watched(residuals: list[int]) -> Lean:
    return after_residuals(Lean(), residuals)


def highest(lean: Lean) -> float:
    """The mean capital, as it is now."""
    return sum(lean.capitals) / (CAPITALS << 64)


@pytest.mark.parametrize("name", HONEST)
def test_who_does_not_lean_is_not_suspected(name: str) -> None:
    """The line is crossed by one in ten thousand at most (so by none of a few hundred); and where chance shows, a mean
    capital of twenty by no more than one in twenty.
    """
    dice = random.Random(name)
    leans = [watched([thousandths(HONEST[name](dice)) for _ in range(2 * SEGMENTS)]) for _ in range(RUNS)]
    assert not any(lean.crossed for lean in leans)
    assert sum(highest(lean) >= 20 for lean in leans) <= RUNS / 20
    mean = sum(map(highest, leans)) / len(leans)
    assert mean <= 1.3, "a fair bet gains nothing on average"


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(("part", "segments_max"), [(0.9, 24), (0.5, 40), (0.25, 90), (0.1, 400)])
def test_who_leans_is(part: float, side: int, segments_max: int) -> None:
    """A bias of nine tenths, of half and less of the tolerance, in the length of the change or anywhere else, among
    honest drift as `scripts/bench false-flags` measured it, and ten times that.
    """
    for spread in (0.005, 0.05):
        dice = random.Random(f"{part} {spread}")
        for kind in (0, 1) if side > 0 else (0,):
            lean = Lean()
            while not lean.crossed:
                found = [thousandths(dice.gauss(0, spread)), thousandths(dice.gauss(0, spread))]
                found[kind] = thousandths(side * part + dice.gauss(0, spread))
                lean = after_residuals(lean, found)
                assert lean.segments <= segments_max, f"{part} is not seen after {segments_max} segments"


def test_who_has_lost_all_stakes_first_is_found_as_well() -> None:
    """A worker cannot gamble its capital away at no harm, to lean unseen for as long afterwards."""
    lean = watched([-UNIT, -UNIT] * 200)
    fresh, before = Lean(), Lean(lean.segments, capitals=lean.capitals)
    while not fresh.crossed:
        fresh = after_residuals(fresh, (0, 900))
    while not before.crossed:
        before = after_residuals(before, (0, 900))
    assert before.segments - 200 <= fresh.segments + 30


def test_a_crossed_line_stays_crossed_and_is_audited_every_time() -> None:
    standing = Standing(proven=True, audits=500)
    assert least_rate_ppm(standing) < EVERY_TIME_PPM // 400
    leaning = Judged(0, ALICE, "accepted", "tolerant", "", residuals=(900, 900) * 2)
    for _ in range(12):
        standing = after_judgement(standing, leaning)
    assert standing.lean.crossed and standing.proven and not standing.banned, "it accuses nobody"
    assert least_rate_ppm(standing) == EVERY_TIME_PPM
    for _ in range(12):
        standing = after_judgement(standing, Judged(0, ALICE, "accepted", "tolerant", "", residuals=(-900, -900) * 2))
    assert least_rate_ppm(standing) == EVERY_TIME_PPM


def test_the_bets_are_fair_to_who_leans_as_classes_do() -> None:
    """At a residual of LEAN every bet on that side stays as it is, so it is the most that is never suspected."""
    lean = watched([LEAN, LEAN] * 20)
    assert highest(lean) <= 1.0 and not lean.crossed
    assert FALSE_RATE == 1e-4 and max(BETS_64THS) == 64
