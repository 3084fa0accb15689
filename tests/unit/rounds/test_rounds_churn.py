"""Members and coordinators that die at a bad moment and come back: no round is wasted, and nobody waits in vain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from round_actors import ALICE as FIRST
from round_actors import BOB as SECOND
from round_actors import BODIES, NEXT, PEER_ID, START, chain_of
from round_centre import ALICE, BOB, CAROL, RULES, Centre
from round_member import ASSIGN, SEAL, Member

from anynode.rounds import member
from anynode.rounds.coordination import RETURN_S
from anynode.rounds.coordinator import Phase, restore
from anynode.rounds.course import Assign, Close, Open, Result, Seal
from anynode.rounds.deciding import ABSENT_S
from anynode.rounds.effects import Answer, Reduce, StartWork
from anynode.rounds.events import Answering, Applied, Ended, Gone, StateFetched, Tick, WorkDone
from anynode.rounds.membership import TOLD_S, WORK_SHARE
from anynode.rounds.messages import Commitment, Delivery, Join, Leave, Sync, WorkLeft
from anynode.rounds.records import Record


def die(centre: Centre, *names: str) -> None:
    centre.feed_until_still(*(Gone(name) for name in names))


def restarted(records: list[Record], now: float) -> Centre:
    """Another coordinator that reads these records back at this time."""
    again = Centre()
    again.records, again.now = list(records), now
    again.state = restore(RULES, records, now)
    again.feed_until_still(Tick())
    return again


# --- everybody dies -------------------------------------------------------------------------------------------------


def test_a_round_whose_members_all_die_is_saved_by_the_first_that_comes_back(centre: Centre) -> None:
    die(centre, ALICE, BOB)
    centre.now = 15.0
    centre.feed_until_still(Tick())
    assert centre.count(Seal) == 0, "sealed now it would be void"
    centre.hear(ALICE)
    centre.commit(ALICE)
    assert [item.slot for item in centre.newest(Seal).commitments] == [0]


def test_a_round_is_not_sealed_while_nobody_could_exchange_what_was_committed(centre: Centre) -> None:
    centre.commit(ALICE)
    die(centre, ALICE, BOB)
    assert centre.count(Seal) == 0
    centre.hear(ALICE)
    assert [item.slot for item in centre.newest(Seal).commitments] == [0]


def test_others_who_stand_ready_wait_a_moment_for_the_dead_and_then_go_on_without(centre: Centre) -> None:
    centre.join(CAROL)
    centre.now = 1.0
    die(centre, ALICE, BOB)
    centre.now = 1.0 + RETURN_S - 0.1
    centre.hear(CAROL)
    assert centre.count(Seal) == 0
    centre.now = 1.0 + RETURN_S
    centre.feed_until_still(Tick())
    assert centre.newest(Result).chunks == ()
    centre.close(CAROL)
    centre.hear(CAROL)
    assert [place.node for place in centre.newest(Open).members] == [CAROL]
    assert centre.newest(Open).round == 1


def test_who_has_left_is_not_waited_for(centre: Centre) -> None:
    centre.feed_until_still(Leave("leave", ALICE), Leave("leave", BOB))
    assert centre.newest(Result).chunks == ()


def test_an_exchange_waits_for_somebody_who_can_reduce(centre: Centre) -> None:
    centre.commit(ALICE, BOB)
    die(centre, ALICE, BOB)
    centre.replay()
    assert centre.count(Assign) == 0, "without reducers the round would be void"
    centre.hear(BOB)
    assign = centre.newest(Assign)
    assert (assign.accepted, assign.absent) == ((0, 1), (0,))
    assert {item.slot for item in assign.reducers} == {1}
    die(centre, BOB)
    centre.now = 5.0
    centre.feed_until_still(Tick())
    assert (centre.count(Assign), centre.count(Result)) == (1, 0), "Bob's chunks may be found yet"
    centre.hear(ALICE)
    assert {item.slot for item in centre.newest(Assign).reducers} == {0}
    assert centre.newest(Assign).absent == (1,)


def test_an_exchange_that_nobody_comes_back_to_is_void_at_its_end(centre: Centre) -> None:
    centre.commit(ALICE, BOB)
    centre.replay()
    die(centre, ALICE, BOB)
    centre.now = RULES.exchange_s - 0.1
    centre.feed_until_still(Tick())
    assert centre.count(Result) == 0
    centre.now = RULES.exchange_s
    centre.feed_until_still(Tick())
    assert centre.newest(Result).chunks == ()


def test_a_job_that_is_over_on_the_chain_waits_for_none_of_the_dead(centre: Centre) -> None:
    """Neither before the seal nor after it."""
    before, after, reassigned = Centre(), centre, Centre()
    for one in (before, reassigned):
        one.join(ALICE, BOB)
    after.commit(ALICE, BOB)
    for one in (before, after):
        one.feed_until_still(Ended())
        die(one, ALICE, BOB)
    after.replay()
    reassigned.commit(ALICE, BOB)
    reassigned.replay()
    reassigned.feed_until_still(Ended())
    die(reassigned, ALICE, BOB)
    for one in (before, after, reassigned):
        one.feed_until_still(Tick())
        assert one.newest(Result).chunks == ()
        one.close()
        assert one.state.phase is Phase.FINISHED


# --- a sender dies inside the exchange ------------------------------------------------------------------------------


@pytest.fixture
def sending() -> Centre:
    """Alice reduces, Bob only sends; both are accepted."""
    centre = Centre()
    centre.feed_until_still(Tick(), Join("join", BOB, PEER_ID, "class", "1", reduces=False, audits=False))
    centre.join(ALICE)
    centre.hear(BOB)
    centre.commit(ALICE, BOB)
    centre.replay()
    return centre


def test_a_sender_that_dies_is_soon_declared_absent(sending: Centre) -> None:
    first = sending.newest(Assign)
    assert first.absent == ()
    die(sending, BOB)
    sending.now = ABSENT_S / 2
    sending.feed_until_still(Tick())
    assert sending.count(Assign) == 1, "its connection may be back in a moment"
    sending.now = ABSENT_S
    sending.hear(ALICE)
    second = sending.newest(Assign)
    assert (second.attempt, second.absent) == (1, (1,))
    assert (second.reducers, second.accepted) == (first.reducers, first.accepted)
    assert sending.count(Assign) == 2
    for item in second.reducers:
        sending.feed_until_still(sending.done(item.chunk, (0,)))
    assert set(sending.state.done) == {0, 1, 2, 3}, "what holds all that are there is taken"


def test_a_sender_that_is_back_in_a_moment_is_waited_for(sending: Centre) -> None:
    die(sending, BOB)
    sending.hear(BOB)
    sending.now = 3.0
    sending.hear(ALICE, BOB)
    assert sending.count(Assign) == 1
    sending.feed_until_still(sending.done(0, (0,)))
    assert sending.state.done == {}, "it still has time to deliver"


def test_dead_senders_never_use_up_the_attempts_that_dead_reducers_may_need(sending: Centre) -> None:
    sending.state = replace(sending.state, rules=replace(RULES, attempts_max=2))
    die(sending, BOB)
    sending.now = 4.0
    sending.hear(ALICE)
    assert sending.count(Assign) == 1


def test_a_reducer_does_not_wait_for_the_absent_but_takes_what_they_delivered() -> None:
    second = replace(SEAL.commitments[0], slot=1, node=SECOND, update_root="8" * 64)
    seal = replace(SEAL, commitments=(*SEAL.commitments, second), missing=())
    assign = replace(ASSIGN, accepted=(0, 1), absent=(1,))
    chain = chain_of(*BODIES[:2], seal, assign)
    for delivered, averaged in (((0,), (0,)), ((1, 0), (0, 1))):
        alice = Member()
        alice.records(*chain)
        for slot in delivered:
            header = Delivery("delivery", (FIRST, SECOND)[slot], 0, 0, slot, 0, (0,), ("7" * 64,))
            alice.feed(header)
        assert [effect.senders for effect in alice.pick(Reduce)] == [averaged]


# --- the coordinator restarts ---------------------------------------------------------------------------------------


def between_rounds(centre: Centre) -> list[Record]:
    """The records up to the close of round 0, which Alice and Bob took part in."""
    centre.whole_round(ALICE, BOB)
    place = next(i for i, record in enumerate(centre.records) if isinstance(record.body, Close))
    return centre.records[: place + 1]


def test_the_first_member_back_does_not_open_a_round_alone(centre: Centre) -> None:
    again = restarted(between_rounds(centre), 500.0)
    again.now = 501.0
    again.hear(ALICE, held=1)
    assert again.count(Open) == 1
    again.now = 501.5
    again.hear(BOB, held=1)
    assert [place.node for place in again.newest(Open).members] == [ALICE, BOB]


def test_former_members_are_waited_for_only_a_moment(centre: Centre) -> None:
    again = restarted(between_rounds(centre), 500.0)
    again.now = 500.0 + RETURN_S
    again.feed_until_still(Tick())
    assert again.count(Open) == 1, "nobody is there"
    again.hear(BOB, held=1)
    assert [place.node for place in again.newest(Open).members] == [BOB], "and nobody gets a place unheard"


def test_a_restarted_coordinator_closes_without_the_reports_of_who_does_not_come_back(centre: Centre) -> None:
    centre.commit(ALICE, BOB)
    centre.replay()
    centre.exchange()
    again = restarted(centre.records, 500.0)
    again.feed_until_still(Applied(0, NEXT))
    again.now = 500.0 + RETURN_S - 0.1
    again.feed_until_still(Tick())
    assert again.count(Close) == 0
    again.now = 500.0 + RETURN_S
    again.feed_until_still(Tick())
    assert again.count(Close) == 1


def test_a_member_says_everything_again_when_the_coordinator_answers_again() -> None:
    alice = Member()
    alice.records(*chain_of(*BODIES[:2]))
    alice.feed(WorkDone(0, START, 4, 8, 2, "3" * 64, "4" * 64))
    assert len(alice.sent(Commitment)) == 1
    alice.after(0.5)
    assert not alice.sent(Commitment)
    alice.feed(Answering())
    assert len(alice.sent(Commitment)) == 1
    assert len(alice.sent(Sync)) == 1


# --- a member restarts ----------------------------------------------------------------------------------------------


def back(records: int = 2) -> Member:
    """Alice, restarted with so many records on her disk."""
    alice = Member()
    alice.now = 100.0
    alice.state = member.restore(alice.state, chain_of(*BODIES)[:records], alice.now)
    alice.feed(Tick())
    return alice


def test_a_member_that_restarts_inside_a_round_asks_what_is_left_of_it() -> None:
    alice = back()
    assert len(alice.sent(Join)) == 1
    assert not alice.pick(StartWork)
    alice.feed(WorkLeft("work_left", FIRST, 0, 2500))
    assert [effect.time_limit_s for effect in alice.pick(StartWork)] == [pytest.approx(2.5)]
    alice.after(5.0)
    assert not alice.sent(Join)


def test_without_an_answer_it_works_as_if_the_round_had_just_begun() -> None:
    alice = back()
    alice.after(TOLD_S - 0.1)
    assert not alice.pick(StartWork)
    alice.after(0.1)
    assert [effect.time_limit_s for effect in alice.pick(StartWork)] == [pytest.approx(WORK_SHARE * 20 - TOLD_S)]


def test_a_round_that_is_sealed_is_no_reason_to_ask() -> None:
    assert not back(records=3).sent(Join)


def test_who_comes_back_is_told_to_end_with_the_others(centre: Centre) -> None:
    """Before anybody's speed is known that is the round's time for work, then what the others take."""
    centre.now = 5.0
    centre.feed(Join("join", BOB, PEER_ID, "class", "1", reduces=True, audits=False))
    left_ms = int(1000 * (WORK_SHARE * RULES.work_s - 5.0))
    assert centre.pick(Answer) == [Answer(BOB, WorkLeft("work_left", BOB, 0, left_ms))]
    centre.now = 2.0
    centre.hear(ALICE, BOB)
    centre.whole_round(ALICE, BOB)
    assert centre.newest(Open).round == 1
    centre.now = 3.5
    centre.feed(Join("join", BOB, PEER_ID, "class", "1", reduces=True, audits=False))
    assert centre.pick(Answer) == [Answer(BOB, WorkLeft("work_left", BOB, 1, 500))], "four steps take them two seconds"
    centre.now = 7.0
    centre.feed(Join("join", BOB, PEER_ID, "class", "1", reduces=True, audits=False))
    assert centre.pick(Answer) == [Answer(BOB, WorkLeft("work_left", BOB, 1, 0))]
    centre.commit(BOB)
    centre.feed(Join("join", BOB, PEER_ID, "class", "1", reduces=True, audits=False))
    assert centre.pick(Answer) == [], "its work is here"
    assert centre.state.phase is Phase.WORKING


def test_a_state_that_was_fetched_is_told_at_once() -> None:
    alice = Member(held=-1, root="")
    alice.records(*chain_of(*BODIES[:1]))
    alice.feed(StateFetched(0, START))
    assert alice.sent(Sync) == [Sync("sync", FIRST, 1, 0)]


# --- how fast somebody is that was away -----------------------------------------------------------------------------


def speed_shown(centre: Centre, name: str) -> float:
    return centre.state.nodes[name].pace.steps_per_s


@pytest.fixture
def measured(centre: Centre) -> Centre:
    """Both have shown a step a second in round 0, and round 1 is open."""
    centre.now = 4.0
    centre.commit(ALICE, BOB)
    centre.replay()
    centre.exchange()
    centre.close(ALICE, BOB)
    centre.hear(ALICE, BOB)
    assert (speed_shown(centre, ALICE), speed_shown(centre, BOB)) == (1.0, 1.0)
    return centre


def test_who_died_is_no_slower_for_it(measured: Centre) -> None:
    """It is given as much as before when it comes back; who is there and does not commit is given less."""
    die(measured, BOB)
    measured.now = 8.0
    measured.commit(ALICE)
    assert [item.slot for item in measured.newest(Seal).missing] == [1]
    assert speed_shown(measured, BOB) == 1.0


def test_who_is_there_and_gives_nothing_is_slower_than_it_seemed(measured: Centre) -> None:
    measured.commit(ALICE)
    measured.now += measured.newest(Open).work_s
    measured.hear(ALICE, BOB)
    assert [item.slot for item in measured.newest(Seal).missing] == [1]
    assert speed_shown(measured, BOB) == 0.5


def test_what_is_done_in_the_rest_of_a_round_is_no_measure_of_speed(measured: Centre) -> None:
    die(measured, BOB)
    measured.now = 7.0
    measured.feed_until_still(Join("join", BOB, PEER_ID, "class", "1", True, False))
    measured.now = 8.0
    measured.feed_until_still(measured.commitment(ALICE), measured.commitment(BOB, steps=1, samples=2))
    assert [item.steps for item in measured.newest(Seal).commitments] == [4, 1]
    assert (speed_shown(measured, ALICE), speed_shown(measured, BOB)) == (1.0, 1.0)
