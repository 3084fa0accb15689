"""A coordinator in the exchange: whose averages it takes, who reduces in the place of whom, and what witnesses say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from round_actors import NEXT, START
from round_centre import ALICE, BOB, CAROL, DAVE, RULES, Centre, root_of

from anynode.rounds.coordinator import Phase, apply
from anynode.rounds.course import Assign, Open, Result, Seal
from anynode.rounds.effects import (
    Append,
    Apply,
    FetchResult,
)
from anynode.rounds.events import ResultFetched, Tick
from anynode.rounds.judgements import Verdict
from anynode.rounds.messages import Average, DeliveryReceipt
from anynode.rounds.shares import MEASURE_AGAIN_ROUNDS

# --- reducers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"averages": (Average(0, (), START),)},
        {"averages": (Average(0, (1, 0), START),)},
        {"averages": (Average(0, (0, 0, 1), START),)},
        {"averages": (Average(0, (0, 1, 2), START),)},
        {"averages": (Average(4, (0, 1), START),)},
        {"averages": (Average(0, (0, 1), START), Average(0, (0, 1), NEXT))},
        {"node": CAROL},
        {"slot": 100_000},
        {"attempt": 1},
        {"round": 1},
    ],
    ids=str,
)
def test_a_reduction_that_does_not_fit_is_ignored(exchanging: Centre, changes: dict[str, object]) -> None:
    before = exchanging.state
    assert exchanging.feed(replace(exchanging.done(0), **changes)) == []  # type: ignore[arg-type]
    assert exchanging.state == before


def test_a_reduction_by_another_than_its_reducer_is_ignored(exchanging: Centre) -> None:
    done = exchanging.done(0)
    other = 1 - done.slot
    node = exchanging.newest(Open).members[other].node
    assert exchanging.feed(replace(done, slot=other, node=node)) == []
    assert exchanging.feed(replace(done, slot=other)) == []
    assert exchanging.feed(replace(done, node=node)) == []


def test_the_round_goes_on_when_every_chunk_is_fetched(exchanging: Centre) -> None:
    for chunk in range(4):
        done = exchanging.done(chunk)
        exchanging.feed(done)
        assert [effect.done for effect in exchanging.pick(FetchResult)] == [done]
        other = (Average(chunk, (0,), root_of("something else")),)
        exchanging.feed(ResultFetched(replace(done, averages=other), readable=True))
        assert chunk not in exchanging.state.fetched, "it must be what the reducer has signed"
        exchanging.feed(ResultFetched(done, readable=True))
    result = exchanging.newest(Result)
    assert [entry.chunk for entry in result.chunks] == [0, 1, 2, 3]
    assert (result.steps, result.cursor, result.returned) == (4, 16, ())
    assert [effect.result for effect in exchanging.pick(Apply)] == [result]


def test_dead_reducers_are_replaced_and_what_was_fetched_is_kept(exchanging: Centre) -> None:
    first = exchanging.newest(Assign)
    of_bob = [item.chunk for item in first.reducers if item.slot == 1]
    of_alice = [item.chunk for item in first.reducers if item.slot == 0]
    assert of_bob
    assert of_alice
    for chunk in (of_bob[0], *of_alice):
        done = exchanging.done(chunk)
        exchanging.feed_until_still(done, ResultFetched(done, readable=True))
    exchanging.now = 5.9
    exchanging.hear(ALICE)
    assert exchanging.count(Assign) == 1
    exchanging.now = 6.0
    exchanging.feed_until_still(Tick())
    second = exchanging.newest(Assign)
    assert second.attempt == 1
    reducers = {item.chunk: item.slot for item in second.reducers}
    assert reducers == dict.fromkeys(of_alice, 0) | {of_bob[0]: 1} | dict.fromkeys(of_bob[1:], 0)
    assert (second.accepted, second.rejected, second.weightless) == (first.accepted, (), ())
    exchanging.now = 11.0  # half of the exchange has passed: Alice goes without Bob
    exchanging.hear(ALICE)
    for chunk in of_bob[1:]:
        done = exchanging.done(chunk, (0,))
        exchanging.feed_until_still(done, ResultFetched(done, readable=True))
    assert len(exchanging.newest(Result).chunks) == 4
    assert {entry.attempt for entry in exchanging.newest(Result).chunks} == {0, 1}


def test_a_reducer_that_gives_nothing_is_slow_although_it_was_never_measured(exchanging: Centre) -> None:
    """It must not hold up round after round with as many chunks as the others."""
    first = exchanging.newest(Assign)
    for chunk in [item.chunk for item in first.reducers if item.slot == 0]:
        done = exchanging.done(chunk)
        exchanging.now = 1.0
        exchanging.feed_until_still(done, ResultFetched(done, readable=True))
    exchanging.now = 10.0
    exchanging.hear(ALICE, BOB)
    assert {item.slot for item in exchanging.newest(Assign).reducers if item.chunk not in exchanging.state.fetched} == {
        0
    }
    alice, bob = (exchanging.state.nodes[name] for name in (ALICE, BOB))
    assert 0 < bob.chunks_per_s == alice.chunks_per_s / 2
    assert bob.measured_in == alice.measured_in == 0


def test_a_reducer_that_was_slow_long_ago_gets_a_chunk_again(exchanging: Centre) -> None:
    state = exchanging.state
    for measured_in, chunks_of_bob in ((0, 0), (-MEASURE_AGAIN_ROUNDS, 1)):
        alice = replace(state.nodes[ALICE], chunks_per_s=9.0)
        bob = replace(state.nodes[BOB], chunks_per_s=0.1, measured_in=measured_in)
        nodes = state.nodes.set(ALICE, alice).set(BOB, bob)
        before = replace(state, phase=Phase.ADMITTING, assign=None, assigns=(), nodes=nodes)
        _, effects = apply(before, Tick(), exchanging.now)
        bodies = [effect.record.body for effect in effects if isinstance(effect, Append)]
        assigned = [item.slot for body in bodies if isinstance(body, Assign) for item in body.reducers]
        assert assigned.count(1) == chunks_of_bob
        assert len(assigned) == 4


def test_a_round_whose_chunks_never_come_is_void_after_its_attempts(exchanging: Centre) -> None:
    for _ in range(RULES.attempts_max):
        assert exchanging.count(Result) == 0
        exchanging.now += 10.0
        exchanging.hear(ALICE, BOB)
    result = exchanging.newest(Result)
    assert (result.chunks, result.steps, result.returned) == ((), 0, ((0, 16),))
    assert exchanging.count(Assign) == RULES.attempts_max


def test_a_void_round_keeps_the_job_going(centre: Centre) -> None:
    """Nobody commits, or nobody is accepted: the number advances and the samples come again."""
    centre.now = 20.0
    centre.hear(ALICE, BOB)
    seal = centre.newest(Seal)
    assert seal.commitments == ()
    assert centre.newest(Assign).reducers == ()
    assert centre.newest(Result).chunks == ()
    centre.close(ALICE, BOB)
    centre.judge(0)
    assert centre.newest(Verdict).judged == ()
    centre.hear(ALICE, BOB)
    opened = centre.newest(Open)
    assert opened.round == 1
    assert sorted(r for ranges in opened.ranges for r in ranges) == [(0, 4), (4, 8)], "the same samples, fewer each"
    assert opened.cursor == 16
    assert opened.refresh, "there are no moments yet"


def test_a_round_in_which_all_are_rejected_is_void(centre: Centre) -> None:
    centre.commit(ALICE, BOB)
    centre.replay(ALICE, BOB)
    assert centre.newest(Result).chunks == ()
    assert centre.newest(Result).returned == ((0, 16),)


# --- what is no average ---------------------------------------------------------------------------------------------


def unread(centre: Centre, chunk: int) -> None:
    done = centre.done(chunk)
    centre.feed_until_still(done, ResultFetched(done, readable=False))


def test_who_signs_what_is_no_average_reduces_nothing_more_and_is_out(exchanging: Centre) -> None:
    """Its own signature stands in the record as the proof, and what it has left to reduce goes to others."""
    first = exchanging.newest(Assign)
    of_bob = [item.chunk for item in first.reducers if item.slot == 1]
    done = exchanging.done(of_bob[0])
    unread(exchanging, of_bob[0])
    second = exchanging.newest(Assign)
    assert second.attempt == 1 and {item.slot for item in second.reducers} == {0}
    (blame,) = second.unreadable
    assert [(item.chunk, item.reducer, item.result) for item in blame.entries] == [
        (of_bob[0], 1, done.averages[0].result)
    ]
    assert "no average" in exchanging.state.nodes[BOB].banned
    exchanging.exchange()
    result = exchanging.newest(Result)
    assert {entry.reducer for entry in result.chunks} == {0}
    assert exchanging.state.nodes[ALICE].banned == ""


def test_what_it_has_signed_before_does_not_count_either(exchanging: Centre) -> None:
    """A good average that is fetched first, and another one on its way, keep nobody among those that reduce."""
    first, second, *_ = [item.chunk for item in exchanging.newest(Assign).reducers if item.slot == 1]
    good, bad = exchanging.done(first), exchanging.done(second)
    exchanging.feed_until_still(good, ResultFetched(good, readable=True), bad, ResultFetched(bad, readable=False))
    assert {item.slot for item in exchanging.newest(Assign).reducers} == {0}
    assert exchanging.state.fetched == frozenset()
    exchanging.exchange()
    result = exchanging.newest(Result)
    assert len(result.chunks) == 4 and {entry.reducer for entry in result.chunks} == {0}


def test_where_nobody_is_left_to_reduce_the_round_is_void_and_all_are_blamed(exchanging: Centre) -> None:
    for slot in (1, 0):
        unread(exchanging, next(item.chunk for item in exchanging.newest(Assign).reducers if item.slot == slot))
    assert [item.reducer for item in exchanging.newest(Assign).unreadable] == [1, 0]
    assert exchanging.newest(Result).chunks == ()
    assert all(exchanging.state.nodes[name].banned for name in (ALICE, BOB))


def test_also_the_last_attempt_puts_blame_on_record(exchanging: Centre) -> None:
    for _ in range(RULES.attempts_max - 1):
        exchanging.now += 10.0
        exchanging.hear(ALICE, BOB)
    unread(exchanging, 0)
    assert len(exchanging.newest(Assign).unreadable) == 1
    assert exchanging.newest(Result).chunks == ()


# --- witnesses ------------------------------------------------------------------------------------------------------


@pytest.fixture
def witnessing() -> Centre:
    """Three members are accepted: one reduces chunk 0, a second is its first witness, the third only sends."""
    centre = Centre(replace(RULES, members_min=3))
    centre.feed_until_still(Tick())
    centre.join(ALICE, BOB, CAROL)
    centre.commit(ALICE, BOB, CAROL)
    centre.replay()
    assert centre.state.phase is Phase.EXCHANGING
    return centre


def third(centre: Centre) -> int:
    """Who neither reduces chunk 0 nor is its first witness."""
    item = centre.newest(Assign).reducers[0]
    return next(slot for slot in range(3) if slot not in (item.slot, item.witness))


def without_third(centre: Centre) -> tuple[int, ...]:
    return tuple(slot for slot in range(3) if slot != third(centre))


def witnessed(centre: Centre, sender: int, by: int | None = None, **changes: object) -> DeliveryReceipt:
    """What a witness of chunk 0, the first or another, says: it has the chunk of this sender."""
    item = centre.newest(Assign).reducers[0]
    node = centre.newest(Open).members[item.witness if by is None else by].node
    receipt = DeliveryReceipt("delivery_receipt", node, 0, 0, sender, item.slot, (0,), (root_of(0),), ())
    return replace(receipt, **changes)  # type: ignore[arg-type]


def test_who_leaves_out_a_sender_has_to_wait_until_it_could_deliver(exchanging: Centre) -> None:
    done = exchanging.done(0, (0,))
    assert exchanging.feed(done) == []
    assert exchanging.state.done == {}
    exchanging.now = 5.0
    exchanging.feed(done)
    assert [effect.done for effect in exchanging.pick(FetchResult)] == [done]


@pytest.mark.parametrize("first", [True, False])
def test_a_reducer_that_leaves_out_a_witnessed_sender_loses_the_chunk_to_the_witness(
    witnessing: Centre, first: bool
) -> None:
    """Also where the sender is the reducer's own witness, and a further one speaks for it."""
    before = {item.chunk: item for item in witnessing.newest(Assign).reducers}
    sender, by = (third(witnessing), before[0].witness) if first else (before[0].witness, third(witnessing))
    left = tuple(slot for slot in range(3) if slot != sender)
    witnessing.feed(witnessed(witnessing, sender, by))
    witnessing.now = 5.0
    witnessing.hear(ALICE, BOB, CAROL)
    witnessing.feed(witnessing.done(0, left))
    second = witnessing.newest(Assign)
    assert second.attempt == 1
    moved = {item.chunk: item.slot for item in second.reducers if item.slot != before[item.chunk].slot}
    assert moved == {0: by}, "the other chunks stay where they are"
    witnessing.now = 10.0
    witnessing.hear(ALICE, BOB, CAROL)
    witnessing.feed(witnessing.done(0, left))
    assert 0 not in witnessing.state.done, "the witness itself cannot leave it out either"
    witnessing.feed(witnessing.done(0, (0, 1, 2)))
    assert 0 in witnessing.state.done


@pytest.mark.parametrize(
    "changes",
    [{"node": DAVE}, {"slot": 77}, {"reducer": 77}, {"chunks": (0, 9), "payloads": (START, START)}, {"round": 1}],
    ids=str,
)
def test_a_witness_that_does_not_fit_is_ignored(witnessing: Centre, changes: dict[str, object]) -> None:
    before = witnessing.state
    witnessing.feed(witnessed(witnessing, third(witnessing), **changes))
    assert witnessing.state == before


def test_nobody_is_its_own_witness(witnessing: Centre) -> None:
    before, item = witnessing.state, witnessing.newest(Assign).reducers[0]
    for sender, by in ((item.witness, item.witness), (third(witnessing), item.slot), (item.slot, item.slot)):
        witnessing.feed(witnessed(witnessing, sender, by))
        assert witnessing.state == before


def test_a_witness_comes_too_late_when_the_reducer_has_spoken(witnessing: Centre) -> None:
    """Or it could take away the work of a reducer whenever it liked."""
    witnessing.now = 5.0
    witnessing.hear(ALICE, BOB, CAROL)
    witnessing.feed(witnessing.done(0, without_third(witnessing)))
    witnessing.feed(witnessed(witnessing, third(witnessing)))
    assert witnessing.state.witnessed == {}
    assert witnessing.count(Assign) == 1
