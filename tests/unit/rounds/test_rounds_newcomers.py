"""Places for newcomers: few enough for the auditor, drawn by what nobody can foresee, first to who has a stake."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from anynode.rounds.newcomers import AUDIT_SHARE, PLACES_UNMEASURED, REPLAYS_MOST, draw_newcomers, newcomer_places

CROWD = [f"0x{number:040d}" for number in range(200)]


@given(st.floats(0.1, 1e4), st.floats(0.1, 1e4), st.integers(1, 1_000))
def test_newcomers_take_at_most_a_tenth_of_what_can_be_replayed(speed: float, round_s: float, steps: int) -> None:
    places = newcomer_places(speed, round_s, steps)
    assert places >= 1, "or nobody new could ever come"
    assert places == 1 or places * REPLAYS_MOST * steps <= AUDIT_SHARE * speed * round_s


def test_until_a_replay_was_timed_a_few_may_come() -> None:
    assert newcomer_places(0.0, 10.0, 5) == newcomer_places(10.0, 0.0, 5) == PLACES_UNMEASURED


def test_a_stake_goes_first_and_the_beacon_orders_the_rest() -> None:
    staked = CROWD[150:153]
    assert set(draw_newcomers(CROWD, staked, 3, "0xaa")) == set(staked)
    drawn = draw_newcomers(CROWD, staked, 10, "0xaa")
    assert set(drawn[:3]) == set(staked)
    assert len(drawn) == len(set(drawn)) == 10
    assert drawn == draw_newcomers(CROWD[::-1], staked, 10, "0xaa"), "when one joined does not matter"


def test_no_key_is_a_good_one_for_long() -> None:
    """An identity that was ground until it came first under one beacon is as likely as any other under the next."""
    rounds, places = 2_000, 10
    counts = Counter(name for n in range(rounds) for name in draw_newcomers(CROWD, (), places, f"0x{n:064x}"))
    expected = rounds * places / len(CROWD)
    assert set(counts) == set(CROWD)
    assert max(abs(count - expected) for count in counts.values()) <= 5 * math.sqrt(expected)
