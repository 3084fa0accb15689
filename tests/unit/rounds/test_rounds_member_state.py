"""The state that a member holds: fetched, brought up to date, and anew where it differs from the signed records."""

from __future__ import annotations

from dataclasses import replace

from round_actors import BODIES, NEXT, START, chain_of
from round_member import ASSIGN, CHAIN, CLOSE, OPEN, RESULT, SEAL, WORK, Member
from world import RULES, World
from world_cast import JOB as WORLD_JOB
from world_cast import START_ROOT, Role, Weather

from anynode.rounds import member
from anynode.rounds.effects import (
    Apply,
    Fault,
    FetchState,
    StartWork,
)
from anynode.rounds.events import Applied, Failed, StateFetched, Tick
from anynode.rounds.membership import CATCH_UP_ROUNDS
from anynode.rounds.messages import (
    StateReport,
)
from anynode.rounds.records import Body, Record


def test_a_state_that_differs_from_the_record_is_a_fault_and_fetched_anew(alice: Member) -> None:
    alice.feed(WORK)
    alice.records(*CHAIN[2:5])
    assert [effect.result for effect in alice.pick(Apply)] == [RESULT]
    alice.feed(Applied(0, "d" * 64))
    assert [report.state_root for report in alice.sent(StateReport)] == ["d" * 64], "it says what it has"
    alice.records(CHAIN[5])
    (fault,) = alice.pick(Fault)
    assert "the state of round 1 is dddddddddddddddd… here and 2222222222222222… in the signed record" in fault.sentence
    assert alice.pick(FetchState) == [FetchState(1, NEXT)]
    assert (alice.state.held_round, alice.state.held_root) == (-1, "")
    alice.feed(Failed("state 1"))
    assert alice.pick(FetchState) == []
    alice.after(2.0)
    assert alice.pick(FetchState) == [FetchState(1, NEXT)], "a fetch that failed is tried again"
    alice.feed(StateFetched(1, NEXT))
    assert (alice.state.held_round, alice.state.held_root) == (1, NEXT)
    assert alice.sent(StateReport) == [] or alice.sent(StateReport)[0].state_root == NEXT


def after_round(number: int) -> str:
    """The state root that round ``number`` ends with."""
    return f"{number + 5:x}" * 64


def missed_round(number: int) -> list[Body]:
    """The records of a whole round in which this member did nothing."""
    return [
        replace(OPEN, round=number, state_root=NEXT if number == 1 else after_round(number - 1)),
        replace(SEAL, round=number),
        replace(ASSIGN, round=number),
        replace(RESULT, round=number),
        replace(CLOSE, round=number, state_root=after_round(number)),
    ]


def missed_rounds(first: int, last: int) -> list[Record]:
    bodies = [body for number in range(1, last + 1) for body in missed_round(number)]
    return chain_of(*BODIES[:6], *bodies)[6 + 5 * (first - 1) :]


def test_who_has_missed_rounds_catches_up_by_their_averages(alice: Member) -> None:
    alice.records(*CHAIN[2:5])
    alice.feed(Applied(0, NEXT))
    alice.records(CHAIN[5], *missed_rounds(1, 2))
    assert (alice.state.held_round, alice.state.closed_round) == (1, 3)
    assert [effect.open.round for effect in alice.pick(Apply)] == [1]
    alice.feed(Applied(1, after_round(1)))
    assert [effect.open.round for effect in alice.pick(Apply)] == [2]
    alice.feed(Applied(2, after_round(2)))
    assert (alice.state.held_round, alice.state.held_root) == (3, after_round(2))
    assert not alice.pick(FetchState)
    assert not alice.pick(Fault)


def test_where_the_averages_are_gone_the_state_is_fetched_whole(alice: Member) -> None:
    alice.records(*CHAIN[2:5])
    alice.feed(Applied(0, NEXT))
    alice.records(CHAIN[5], *missed_rounds(1, 2)[:6])
    alice.feed(Failed("apply 1"))
    assert alice.pick(FetchState) == [FetchState(2, after_round(1))]


def test_who_is_far_behind_fetches_the_state_whole() -> None:
    alice = Member(held=1, root=NEXT)
    alice.records(*CHAIN[:6], *missed_rounds(1, CATCH_UP_ROUNDS + 1))
    assert alice.pick(FetchState) == [FetchState(CATCH_UP_ROUNDS + 2, after_round(CATCH_UP_ROUNDS + 1))]


def test_a_newcomers_download_goes_on_while_rounds_close_and_is_brought_up_to_date() -> None:
    alice = Member(held=-1, root="")
    alice.records(*CHAIN[:6])
    assert alice.pick(FetchState) == [FetchState(1, NEXT)]
    alice.records(*missed_rounds(1, 2))
    assert not alice.pick(FetchState), "the rounds since are applied to what is coming"
    alice.feed(StateFetched(1, NEXT))
    assert [effect.open.round for effect in alice.pick(Apply)] == [1]


def test_a_fetch_does_not_race_an_apply_that_is_under_way(alice: Member) -> None:
    alice.records(*CHAIN[2:6])
    assert [type(effect) for effect in alice.effects if isinstance(effect, (Apply, FetchState))] == [Apply]
    alice.after(100.0)
    assert not alice.pick(FetchState)
    alice.feed(Failed("apply 0"))
    alice.after(2.0)
    assert alice.pick(Apply), "it is tried again"


def test_a_wrong_start_state_is_found_with_the_first_record() -> None:
    alice = Member(root="d" * 64)
    alice.records(CHAIN[0])
    assert len(alice.pick(Fault)) == 1
    assert alice.pick(FetchState) == [FetchState(0, START)]


def test_a_newcomer_without_state_fetches_it_before_it_works() -> None:
    alice = Member(held=-1, root="")
    alice.records(*CHAIN[:2])
    assert alice.pick(FetchState) == [FetchState(0, START)]
    assert not alice.pick(StartWork)
    alice.feed(StateFetched(0, START))
    assert len(alice.pick(StartWork)) == 1


def test_an_older_state_never_replaces_a_newer_one(alice: Member) -> None:
    alice.records(*CHAIN[2:5])
    alice.feed(Applied(0, NEXT))
    alice.feed(StateFetched(0, START))
    assert (alice.state.held_round, alice.state.held_root) == (1, NEXT)


def test_a_member_that_died_between_a_result_and_its_state_applies_it_after_a_restart() -> None:
    """What an earlier run had asked its shell for is under way no more: it must be asked for again."""
    world = World(5, [Role()], Weather(), replace(RULES, rounds=1))
    world.run(600.0)
    kinds = [record.body.kind for record in world.records]
    until_result = world.records[: kinds.index("result") + 1]
    (name,) = (name for name in world.peers if name != "coordinator")
    me = member.Self(WORLD_JOB, name, "peer", "class", "1")
    state = member.restore(member.State(me, held_round=0, held_root=START_ROOT), until_result, 0.0)
    _, effects = member.apply(state, Tick(), 1.0)
    assert [effect.result.round for effect in effects if isinstance(effect, Apply)] == [0]
