"""The audit draw: the same for everybody who repeats it, as often as its rate says, and falling with trust."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signed_world import SignedWorld

from anynode.rounds.records import Judged, Record, Verdict
from anynode_verifier.sampling import accepted_audits, audit_rate, audit_seed, draw

SLOTS = range(50)
NODE, OTHER = f"0x{1:040d}", f"0x{2:040d}"


def seed(number: int) -> bytes:
    return audit_seed(f"{number:064x}", "0x" + "b" * 64)


def test_a_draw_can_be_repeated_and_nobody_else_draws_the_same() -> None:
    rates = dict.fromkeys(SLOTS, 0.5)
    assert draw(seed(1), SLOTS, rates) == draw(seed(1), reversed(SLOTS), rates)
    others = {draw(seed(number), SLOTS, rates) for number in range(20)}
    assert len(others) == 20
    assert audit_seed("1" * 64, "0xaa") != audit_seed("1" * 64, "0xab"), "the block hash must decide, too"
    assert audit_seed("1" * 64, "0xaa") != audit_seed("2" * 64, "0xaa"), "the secret must decide, too"


def test_the_draw_is_pinned() -> None:
    """A change of these slots is a change of the protocol: auditors could no longer repeat old draws."""
    assert draw(seed(0), range(20), dict.fromkeys(range(20), 0.3)) == (4, 6, 7, 9, 10, 11, 16, 17, 19)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
def test_a_slot_is_drawn_as_often_as_its_rate_says(rate: float) -> None:
    """10,000 draws with fixed seeds: within five standard deviations."""
    rounds = 200
    drawn = sum(len(draw(seed(number), SLOTS, dict.fromkeys(SLOTS, rate))) for number in range(rounds))
    expected, count = rounds * len(SLOTS) * rate, rounds * len(SLOTS)
    assert abs(drawn - expected) <= 5 * math.sqrt(count * rate * (1 - rate))


def test_slots_are_drawn_each_by_itself() -> None:
    """Whether one slot is drawn says nothing about its neighbour, and a changed rate of one changes no other."""
    rates = dict.fromkeys(SLOTS, 0.5)
    both = sum({3, 4} <= set(draw(seed(number), SLOTS, rates)) for number in range(400))
    assert abs(both - 100) <= 5 * math.sqrt(400 * 0.25 * 0.75)
    before, after = draw(seed(7), SLOTS, rates), draw(seed(7), SLOTS, rates | {3: 1.0})
    assert {slot for slot in before if slot != 3} == {slot for slot in after if slot != 3}


@given(st.integers(0, 2**64), st.sets(st.integers(0, 100_000), max_size=20))
def test_rate_one_takes_all_and_rate_zero_none(number: int, slots: set[int]) -> None:
    assert draw(seed(number), slots, dict.fromkeys(slots, 1.0)) == tuple(sorted(slots))
    assert draw(seed(number), slots, dict.fromkeys(slots, 0.0)) == ()


@given(st.integers(0, 1_000), st.floats(0.0, 1.0))
def test_the_rate_falls_with_accepted_audits_to_its_floor(accepted: int, floor: float) -> None:
    assert audit_rate(0, floor) == 1.0, "a newcomer is always audited"
    assert floor <= audit_rate(accepted + 1, floor) <= audit_rate(accepted, floor) <= 1.0


def test_the_rate_reaches_its_floor() -> None:
    assert [audit_rate(n, 0.1) for n in (0, 1, 3, 9, 99)] == [1.0, 0.5, 0.25, 0.1, 0.1]


def verdict(round_: int, *judged: tuple[str, bool, bool]) -> Record:
    items = tuple(Judged(slot, node, audited, accepted, "") for slot, (node, audited, accepted) in enumerate(judged))
    return Record("a" * 64, round_, "0" * 64, Verdict("verdict", round_, "1" * 64, "0x", items))


def test_only_accepted_audits_count_and_a_failure_resets_them() -> None:
    records = [verdict(0, (NODE, True, True), (OTHER, False, True)), verdict(1, (NODE, True, True))]
    assert accepted_audits(records) == {NODE: 2}, "passed by in the draw is not an audit"
    records.append(verdict(2, (NODE, True, False), (OTHER, True, True)))
    assert accepted_audits(records) == {NODE: 0, OTHER: 1}
    records.append(verdict(3, (NODE, True, True)))
    assert accepted_audits(records) == {NODE: 1, OTHER: 1}


def test_counts_of_a_whole_job(grown: SignedWorld) -> None:
    cheats = {name for name, peer in grown.peers.items() if peer.cheats}
    counts = accepted_audits(grown.records)
    assert {name for name, count in counts.items() if count == 0} == cheats
    assert counts.keys() == grown.accounts.keys()
