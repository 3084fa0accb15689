"""Dealing samples: a permutation that loses nothing, and a pool in which each position is exactly once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.rounds.deal import deal, merge, permuted, sample_indices, take, undone, work_seed
from anynode.rounds.ids import Range
from anynode_contracts.errors import InvariantError

JOB = "a" * 64


def positions(ranges: tuple[Range, ...]) -> list[int]:
    return [position for start, end in ranges for position in range(start, end)]


@st.composite
def pools(draw: st.DrawFn) -> tuple[Range, ...]:
    """Ranges that do not overlap, in order, each with a gap before it."""
    ranges, at = [], 0
    for gap, length in draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), max_size=6)):
        ranges.append((at + gap, at + gap + length))
        at += gap + length
    return tuple(ranges)


# --- the permutation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [*range(1, 34), 63, 64, 65, 100, 255, 256, 257, 1000])
def test_the_keyed_permutation_is_a_bijection(size: int) -> None:
    assert sorted(permuted(JOB, 0, element, size) for element in range(size)) == list(range(size))


@given(st.integers(1, 300), st.integers(0, 50))
def test_it_is_one_for_every_size_and_pass(size: int, pass_: int) -> None:
    assert {permuted(JOB, pass_, element, size) for element in range(size)} == set(range(size))


@given(st.integers(10**11, 10**12))
def test_it_stays_inside_a_data_set_of_the_largest_size(size: int) -> None:
    assert 0 <= permuted(JOB, 3, size - 1, size) < size


def test_it_depends_on_the_job_and_the_pass_and_is_no_order_of_the_owner() -> None:
    def order(job: str, pass_: int) -> list[int]:
        return [permuted(job, pass_, element, 200) for element in range(200)]

    orders = [order(JOB, 0), order(JOB, 1), order("b" * 64, 0), list(range(200))]
    for number, one in enumerate(orders):
        for other in orders[number + 1 :]:
            assert sum(a == b for a, b in zip(one, other, strict=True)) < 20, "two orders are alike"


def test_the_permutation_is_pinned() -> None:
    """A change of these numbers is a change of the protocol: old rounds could not be replayed."""
    assert [permuted(JOB, 0, element, 10) for element in range(10)] == [8, 6, 0, 2, 1, 4, 9, 3, 7, 5]


def test_sample_indices_go_through_the_passes() -> None:
    indices = sample_indices(JOB, ((0, 3), (8, 14)), 7)
    assert indices[:3] == [permuted(JOB, 0, element, 7) for element in range(3)]
    assert indices[3:] == [permuted(JOB, 1, element, 7) for element in range(1, 7)]
    assert sorted(sample_indices(JOB, ((7, 14),), 7)) == list(range(7)), "each sample once per pass"


# --- the pool -------------------------------------------------------------------------------------------------------


@given(pools(), st.integers(0, 60), st.integers(100, 200))
def test_taking_is_returned_first_then_new_and_loses_nothing(
    returned: tuple[Range, ...], samples: int, cursor: int
) -> None:
    taken, after, left = take(cursor, returned, samples)
    fresh = list(range(cursor, after))
    assert len(positions(taken)) == samples
    assert positions(taken) == positions(returned)[: samples - len(fresh)] + fresh
    assert positions(left) == positions(returned)[samples - len(fresh) :]
    assert not (left and fresh), "new samples are taken only when nothing is left over"


@given(pools(), st.data())
def test_dealing_gives_every_position_to_exactly_one_slot(pool: tuple[Range, ...], data: st.DataObject) -> None:
    size = len(positions(pool))
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=4)))
    samples = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
    dealt = deal(pool, samples, work_seed(JOB, 1, "0x"))
    assert [len(positions(ranges)) for ranges in dealt] == samples
    assert sorted(p for ranges in dealt for p in positions(ranges)) == positions(pool)


def test_who_gets_what_depends_on_the_seed() -> None:
    hands = {deal(((0, 40),), [10] * 4, work_seed(JOB, round_, "0x")) for round_ in range(30)}
    assert len(hands) > 5
    assert work_seed(JOB, 1, "0x") not in {
        work_seed(JOB, 2, "0x"),
        work_seed(JOB, 1, "0y"),
        work_seed("b" * 64, 1, "0x"),
    }


def test_dealing_more_or_less_than_the_pool_is_a_fault() -> None:
    for samples in ([4], [6], [3, 3], []):
        with pytest.raises(InvariantError):
            deal(((0, 5),), samples, "seed")


@given(pools(), st.integers(0, 70))
def test_what_is_undone_is_the_rest_of_the_prefix(ranges: tuple[Range, ...], done: int) -> None:
    assert positions(undone(ranges, done)) == positions(ranges)[done:]


@given(pools(), st.randoms(use_true_random=False))
def test_merging_joins_neighbours_and_keeps_every_position(ranges: tuple[Range, ...], dice: object) -> None:
    pieces = [(position, position + 1) for position in positions(ranges)]
    dice.shuffle(pieces)  # type: ignore[attr-defined]
    merged = merge(pieces)
    assert merged == ranges, "equal pools have equal bytes, however they were cut"
    assert merge(merged) == merged
