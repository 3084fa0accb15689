"""How often a reducer's chunks are averaged again, and what a wrong average costs it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from round_actors import ALICE, BOB
from round_centre import CAROL, RULES, Centre

from anynode.rounds.coordinator import Phase
from anynode.rounds.course import Open, Result, Seal
from anynode.rounds.effects import AverageAgain
from anynode.rounds.events import AveragedAgain, Drawn, Tick
from anynode.rounds.giving import ASK_PAUSE_S, ASKED_ROUNDS, GIVE_S, LOOKS_MIN
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


def test_a_void_chunk_counts_like_void_work_and_excludes_nobody() -> None:
    centre, opened, _, result = whole_round()
    centre.close(ALICE, BOB, CAROL)
    entry = result.chunks[0]
    node = opened.members[entry.reducer].node
    gone = ReductionJudged(entry.chunk, entry.reducer, node, "void", "five tries have failed")
    centre.feed(Drawn(0, "7" * 64, "0x", (), (entry.chunk,)))
    centre.feed_until_still(AveragedAgain(0, (gone,)))
    assert centre.newest(Verdict).reductions == (gone,)
    assert not any(item.banned for item in centre.state.nodes.values())
    voids = {name: item.standing.voids for name, item in centre.state.nodes.items()}
    assert voids == {name: int(name == node) for name in voids}


# --- what nobody gives ----------------------------------------------------------------------------------------------


class Asked:
    """A round of which one chunk is given by nobody, and what the coordinator does in the rounds that follow."""

    def __init__(self) -> None:
        self.centre, opened, _, result = whole_round()
        self.centre.close(ALICE, BOB, CAROL)
        entry = result.chunks[0]
        self.reducer = opened.members[entry.reducer].node
        self.others = tuple(name for name in (ALICE, BOB, CAROL) if name != self.reducer)
        self.missing = ReductionJudged(entry.chunk, entry.reducer, self.reducer, "withheld", "nobody gives it")
        self.centre.feed(Drawn(0, "7" * 64, "0x", (), (entry.chunk,)))
        assert [asked.look for asked in self.centre.pick(AverageAgain)] == [0]
        self.looks = 0
        self.end_look(self.missing)

    def look(self, *found: ReductionJudged) -> None:
        """A pause has passed: the chunk is asked for once more."""
        self.begin_look()
        self.end_look(*found)

    def begin_look(self) -> None:
        self.centre.now += ASK_PAUSE_S
        self.centre.hear(ALICE, BOB, CAROL)
        self.centre.feed(Tick())
        assert f"average 0 {self.looks}" in self.centre.state.asked

    def end_look(self, *found: ReductionJudged) -> None:
        self.centre.feed_until_still(AveragedAgain(0, found))
        self.looks += 1

    def round(self, *names: str, asked: bool | None = True) -> None:
        """A round in which these work, and all are asked while they do, or only between their work and that of the next
        round; None: one look lasts.
        """
        self.centre.hear(ALICE, BOB, CAROL)
        assert self.centre.state.phase is Phase.WORKING
        if asked:
            self.look(self.missing)
        places = {place.node: place for place in self.centre.newest(Open).members}
        for name in (name for name in names if name in places):
            steps = places[name].quota_steps
            self.centre.feed_until_still(self.centre.commitment(name, steps=steps, samples=steps * RULES.batch_size))
        if set(names) != {ALICE, BOB, CAROL}:
            self.centre.now = self.centre.state.since + RULES.work_s
            self.centre.hear(ALICE, BOB, CAROL)
        if self.centre.state.phase is Phase.ADMITTING:
            self.centre.replay()
        if asked is False:
            assert self.centre.state.phase is Phase.EXCHANGING
            self.look(self.missing)
        self.centre.exchange()
        self.centre.close(ALICE, BOB, CAROL)
        self.centre.judge(self.centre.state.round - 1)

    @property
    def outcomes(self) -> list[str]:
        verdict = next((r.body for r in self.centre.records if isinstance(r.body, Verdict) and r.body.round == 0), None)
        return [item.outcome for item in verdict.reductions] if verdict else ["none yet"]

    def wait(self) -> None:
        self.centre.now += GIVE_S
        self.centre.hear(ALICE, BOB, CAROL)
        self.centre.feed_until_still(Tick())


def test_who_works_on_and_gives_nothing_while_it_is_asked_withholds() -> None:
    asked = Asked()
    for _ in range(ASKED_ROUNDS):
        assert asked.outcomes == ["none yet"]
        asked.round(ALICE, BOB, CAROL)
    asked.wait()
    assert asked.outcomes == ["withheld"]
    assert asked.centre.state.nodes[asked.reducer].banned == "nobody gives it"


def test_a_look_counts_for_every_round_that_is_worked_in_while_it_lasts() -> None:
    """A reducer that takes the question and never answers makes each look as long as it can."""
    asked = Asked()
    for _ in range(2):
        asked.begin_look()
        asked.round(ALICE, BOB, CAROL, asked=None)
        asked.round(ALICE, BOB, CAROL, asked=None)
        assert asked.outcomes == ["none yet"]
        asked.end_look(asked.missing)
    asked.wait()
    assert asked.outcomes == ["withheld"]


def test_one_look_however_long_condemns_nobody() -> None:
    """It may have found a reducer dead at its one moment, and have waited for others since."""
    asked = Asked()
    asked.begin_look()
    for _ in range(ASKED_ROUNDS):
        asked.round(ALICE, BOB, CAROL, asked=None)
    asked.wait()
    asked.end_look(asked.missing)
    assert asked.outcomes == ["none yet"], "it is asked once more"
    asked.look()
    assert asked.outcomes == []


def test_what_is_given_late_is_averaged_and_nobody_is_blamed() -> None:
    asked = Asked()
    asked.round(ALICE, BOB, CAROL)
    asked.round(ALICE, BOB, CAROL)
    asked.centre.hear(ALICE, BOB, CAROL)
    asked.look()
    asked.wait()
    assert asked.outcomes == []
    assert not any(node.banned for node in asked.centre.state.nodes.values())


@pytest.mark.parametrize("asked_in", [0, 2])
def test_who_was_not_asked_in_enough_rounds_of_work_withholds_nothing(asked_in: int) -> None:
    asked = Asked()
    for number in range(ASKED_ROUNDS):
        asked.round(ALICE, BOB, CAROL, asked=number < asked_in)
    asked.wait()
    assert asked.outcomes == ["void"]


@pytest.mark.parametrize("worked", [(), (0,), (0, 1), (1, 3), (0, 1, 2)])
def test_who_has_gone_meanwhile_withholds_nothing(worked: tuple[int, ...]) -> None:
    """It has worked in too few of the rounds, or is no more there at their end."""
    asked = Asked()
    for number in range(ASKED_ROUNDS):
        asked.round(*(asked.others if number not in worked else (ALICE, BOB, CAROL)))
    asked.wait()
    assert asked.outcomes == ["void"]
    assert not any(node.banned for node in asked.centre.state.nodes.values())


def test_where_no_round_follows_it_is_settled_in_time() -> None:
    asked = Asked()
    asked.centre.now += 2 * ASKED_ROUNDS * (RULES.work_s + RULES.exchange_s)
    while asked.looks < LOOKS_MIN:
        assert asked.outcomes == ["none yet"]
        asked.look(asked.missing)
    assert asked.outcomes == ["void"]


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
