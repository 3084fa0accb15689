"""The audit draw: the same for everybody who repeats it, as often as its rate says, and falling with trust."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode_verifier.sampling import audit_seed, draw

SLOTS = range(50)


def seed(number: int) -> bytes:
    return audit_seed(f"{number:064x}", "0x" + "b" * 64)


def test_a_draw_can_be_repeated_and_nobody_else_draws_the_same() -> None:
    rates = dict.fromkeys(SLOTS, 500_000)
    assert draw(seed(1), rates) == draw(seed(1), dict.fromkeys(reversed(SLOTS), 500_000))
    others = {draw(seed(number), rates) for number in range(20)}
    assert len(others) == 20
    assert audit_seed("1" * 64, "0xaa") != audit_seed("1" * 64, "0xab"), "the block hash must decide, too"
    assert audit_seed("1" * 64, "0xaa") != audit_seed("2" * 64, "0xaa"), "the secret must decide, too"


def test_the_draw_is_pinned() -> None:
    """A change of these slots is a change of the protocol: auditors could no longer repeat old draws."""
    assert draw(seed(0), dict.fromkeys(range(20), 300_000)) == (4, 6, 7, 9, 10, 11, 16, 17, 19)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
def test_a_slot_is_drawn_as_often_as_its_rate_says(rate: float) -> None:
    """10,000 draws with fixed seeds: within five standard deviations."""
    rounds = 200
    drawn = sum(len(draw(seed(number), dict.fromkeys(SLOTS, round(rate * 1_000_000)))) for number in range(rounds))
    expected, count = rounds * len(SLOTS) * rate, rounds * len(SLOTS)
    assert abs(drawn - expected) <= 5 * math.sqrt(count * rate * (1 - rate))


def test_slots_are_drawn_each_by_itself() -> None:
    """Whether one slot is drawn says nothing about its neighbour, and a changed rate of one changes no other."""
    rates = dict.fromkeys(SLOTS, 500_000)
    both = sum({3, 4} <= set(draw(seed(number), rates)) for number in range(400))
    assert abs(both - 100) <= 5 * math.sqrt(400 * 0.25 * 0.75)
    before, after = draw(seed(7), rates), draw(seed(7), rates | {3: 1_000_000})
    assert {slot for slot in before if slot != 3} == {slot for slot in after if slot != 3}


@given(st.integers(0, 2**64), st.sets(st.integers(0, 100_000), max_size=20))
def test_rate_one_takes_all_and_rate_zero_none(number: int, slots: set[int]) -> None:
    assert draw(seed(number), dict.fromkeys(slots, 1_000_000)) == tuple(sorted(slots))
    assert draw(seed(number), dict.fromkeys(slots, 0)) == ()
