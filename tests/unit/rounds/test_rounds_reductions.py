"""How often a reducer's chunks are averaged again, and what a wrong average costs it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from round_actors import ALICE, BOB
from round_centre import CAROL, RULES, Centre

from anynode.rounds.course import Open, Result, Seal
from anynode.rounds.effects import AverageAgain
from anynode.rounds.events import AveragedAgain, Drawn
from anynode.rounds.judgements import ReductionJudged, Verdict
from anynode.rounds.reductions import (
    FLOOR_PPM,
    SMALL_CHUNKS_MAX,
    SMALL_FLOOR_PPM,
    SMALL_MEMBERS_MAX,
    chunk_rates_ppm,
    faults_of,
    reducer_rate_ppm,
)
from anynode_verifier.rates import break_even_ppm

EVERY_TIME = 1_000_000


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 10**6))
def test_the_rate_is_the_one_that_the_inequality_asks_for_with_the_same_stake(
    work_pay: int, stake: int, reducing_pay: int
) -> None:
    work_ppm = break_even_ppm(work_pay, stake)
    asked = break_even_ppm(reducing_pay, stake)
    rate = reducer_rate_ppm(work_ppm, reducing_pay, work_pay)
    assert rate >= min(asked, EVERY_TIME) - 1 or rate == FLOOR_PPM >= asked
    assert FLOOR_PPM <= rate <= EVERY_TIME


def test_a_newcomers_chunks_are_all_averaged_again() -> None:
    assert reducer_rate_ppm(EVERY_TIME, 1, 10**6) == EVERY_TIME


def whole_round() -> tuple[Centre, Open, Seal, Result]:
    centre = Centre(replace(RULES, members_min=3))
    centre.join(ALICE, BOB, CAROL)
    centre.commit(ALICE, BOB, CAROL)
    centre.replay()
    centre.exchange()
    return centre, centre.newest(Open), centre.newest(Seal), centre.newest(Result)


def test_a_small_swarm_has_at_least_a_quarter_averaged_again() -> None:
    """And all of it where its reducers are newcomers, and no less of it than of their work."""
    _, opened, seal, result = whole_round()
    assert set(chunk_rates_ppm(opened, seal, result).values()) == {EVERY_TIME}
    proven = replace(seal, rates_ppm=(FLOOR_PPM,) * 3)
    assert set(chunk_rates_ppm(opened, proven, result).values()) == {SMALL_FLOOR_PPM}
    known = replace(seal, rates_ppm=(500_000,) * 3)
    assert set(chunk_rates_ppm(opened, known, result).values()) == {500_000}
    large = replace(opened, members=opened.members * SMALL_MEMBERS_MAX)
    assert set(chunk_rates_ppm(large, proven, result).values()) == {FLOOR_PPM}
    much = replace(result, chunks=result.chunks * SMALL_CHUNKS_MAX)
    assert set(chunk_rates_ppm(opened, proven, much).values()) == {FLOOR_PPM}


def test_who_reduces_much_for_little_work_is_looked_at_more_often() -> None:
    _, opened, seal, result = whole_round()
    large = replace(opened, members=opened.members * SMALL_MEMBERS_MAX)
    usual = replace(seal, rates_ppm=(100_000,) * 3)
    alone = replace(result, chunks=tuple(replace(entry, reducer=0) for entry in result.chunks))
    idle = (replace(seal.commitments[0], samples=1), *seal.commitments[1:])
    rates = [
        max(chunk_rates_ppm(large, some, part).values())
        for some, part in ((usual, result), (usual, alone), (replace(usual, commitments=idle), alone))
    ]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_drawn_chunks_are_averaged_again_before_the_verdict() -> None:
    """And a reducer of whom one was wrong is out, whatever its own work is worth."""
    centre, opened, _, result = whole_round()
    centre.close(ALICE, BOB, CAROL)
    centre.feed(Drawn(0, "7" * 64, "0x", (), tuple(entry.chunk for entry in result.chunks)))
    (asked,) = centre.pick(AverageAgain)
    assert asked.result == result and asked.chunks == tuple(entry.chunk for entry in result.chunks)
    assert not centre.count(Verdict)
    entry = result.chunks[1]
    false = ReductionJudged(entry.chunk, entry.reducer, opened.members[entry.reducer].node, "rejected", "another")
    centre.feed_until_still(AveragedAgain(0, (false,)))
    assert centre.newest(Verdict).reductions == (false,)
    assert centre.state.nodes[false.node].banned == "another"
    assert [name for name, node in centre.state.nodes.items() if node.banned] == [false.node]


def test_a_void_chunk_changes_nobodys_standing() -> None:
    centre, opened, _, result = whole_round()
    centre.close(ALICE, BOB, CAROL)
    entry = result.chunks[0]
    gone = ReductionJudged(entry.chunk, entry.reducer, opened.members[entry.reducer].node, "void", "nobody gives it")
    centre.feed(Drawn(0, "7" * 64, "0x", (), (entry.chunk,)))
    centre.feed_until_still(AveragedAgain(0, (gone,)))
    assert centre.newest(Verdict).reductions == (gone,)
    assert not any(node.banned for node in centre.state.nodes.values())


def test_a_verdict_names_a_chunk_once_and_its_own_reducer() -> None:
    _, opened, _, result = whole_round()
    entry = result.chunks[0]
    node = opened.members[entry.reducer].node
    right = ReductionJudged(entry.chunk, entry.reducer, node, "void", "")
    assert faults_of((right,), opened, result) == ""
    other = (entry.reducer + 1) % 3
    for wrong in (
        (right, right),
        (replace(right, chunk=99),),
        (replace(right, slot=other),),
        (replace(right, node=opened.members[other].node),),
    ):
        assert faults_of(wrong, opened, result)
