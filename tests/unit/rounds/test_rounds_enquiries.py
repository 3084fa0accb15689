"""What follows from an auditor's answer, case by case, and who is drawn as one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from round_actors import PEER_ID

from anynode.rounds.course import Assign, Committed, Member, Open, Reason, Seal
from anynode.rounds.enquiries import Enquiry, auditors_of, drawn_auditor, task_key, task_seed
from anynode.rounds.events import Answered, Plan, Recomputed
from anynode.rounds.judgements import Redone

STEPS = 6
CLAIM = Redone("1" * 64, "2" * 64, "3" * 64)
OTHER, THIRD = replace(CLAIM, trace_root="4" * 64), replace(CLAIM, trace_root="5" * 64)
COPIED = replace(CLAIM, proof="6" * 64)


def node(number: int) -> str:
    return f"0x{number:040d}"


def committed(slot: int) -> Committed:
    return Committed(
        slot, node(slot), STEPS, 12, 2, CLAIM.update_root, CLAIM.trace_root, "class", "1", 0, "0x" + "7" * 130
    )


def enquiry(*events: Redone | None, known: bool = True, steps: int = STEPS) -> Enquiry:
    """After an answer and replays here, in this order, as far as they are asked for."""
    state = Enquiry(Plan(0, 1, steps, "8" * 64, known), committed(0))
    for number, event in enumerate(events):
        assert state.awaits == ("answer", "own", "again")[number], number
        if number == 0:
            state = state.answered(Answered(3, 0, event))
        else:
            state = state.recomputed(Recomputed(3, 0, number == 2, event))
    assert not state.awaits, state.awaits
    return state


@pytest.mark.parametrize(
    ("case", "outcome", "work"),
    [
        (enquiry(None), "void", None),
        (enquiry(CLAIM, known=False), "accepted", "accepted"),
        (enquiry(CLAIM, CLAIM), "accepted", "accepted"),
        (enquiry(CLAIM, None), "void", None),
        (enquiry(COPIED, None), "void", None),
        (enquiry(OTHER, OTHER, known=False), "accepted", "rejected"),
        (enquiry(OTHER, None, known=False), "void", None),
        (enquiry(OTHER, CLAIM, CLAIM, known=False), "rejected", "accepted"),
        (enquiry(OTHER, CLAIM, OTHER, known=False), "accepted", "rejected"),
        (enquiry(OTHER, CLAIM, None, known=False), "void", None),
        (enquiry(OTHER, CLAIM, THIRD, known=False), "void", None),
        (enquiry(CLAIM, OTHER, OTHER), "rejected", "rejected"),
        (enquiry(CLAIM, OTHER, CLAIM), "accepted", "accepted"),
        (enquiry(COPIED, CLAIM, CLAIM), "rejected", "accepted"),
        (enquiry(OTHER, OTHER, steps=4), "accepted", None),
        (enquiry(CLAIM, OTHER, OTHER, steps=4), "rejected", None),
    ],
    ids=[
        "silence is void and the verifier looks itself",
        "a confirmation is taken",
        "a known task that was done",
        "a known task that cannot be done here",
        "public roots under any proof, where that cannot be looked at",
        "a difference that the verifier finds too",
        "a difference that nobody here can look into",
        "a false accusation",
        "a machine here that failed once",
        "no second look",
        "three that differ",
        "a friend vouches for bad work",
        "a machine here that failed, and an honest confirmation",
        "a trace without the states behind it",
        "a decoy that was done",
        "a decoy answered with the worker's own trace",
    ],
)
def test_what_follows_from_an_answer(case: Enquiry, outcome: str, work: str | None) -> None:
    assert case.outcome == outcome
    assert (case.finding.outcome if case.finding else None) == work


def test_a_first_finding_against_the_work_is_not_the_last_word() -> None:
    """It comes as a first replay, so the work is suspended until another one has looked at it."""
    found = enquiry(OTHER, OTHER, known=False).finding
    assert found is not None and (found.outcome, found.again) == ("rejected", False)


def test_an_answer_out_of_turn_changes_nothing() -> None:
    waiting = Enquiry(Plan(0, 1, STEPS, "8" * 64, known=True), committed(0))
    assert waiting.recomputed(Recomputed(3, 0, False, CLAIM)) == waiting
    answered = waiting.answered(Answered(3, 0, OTHER))
    assert answered.answered(Answered(3, 0, CLAIM)) == answered
    assert answered.recomputed(Recomputed(3, 0, True, CLAIM)) == answered


def a_round(*members: Member, rejected: tuple[int, ...] = ()) -> tuple[Open, Seal, Assign]:
    count = len(members)
    opened = Open("open", 3, "9" * 64, "0x", False, members, ((),) * count, 0, (), 6, 20, 10)
    seal = Seal("seal", 3, tuple(committed(item.slot) for item in members), (), "a" * 64, 7, (1,) * count, "", ())
    out = tuple(Reason(slot, "differs") for slot in rejected)
    return opened, seal, Assign("assign", 3, 0, tuple(range(count)), out, (), (), (), ())


def member(slot: int, *, hardware: str = "class", proven: bool = True, audits: bool = True, owner: str = "") -> Member:
    return Member(slot, node(slot), PEER_ID, hardware, STEPS, proven, True, audits, owner)


def test_only_proven_members_of_the_class_and_of_another_owner_audit() -> None:
    opened, seal, assign = a_round(
        member(0, owner=node(50)),
        member(1),
        member(2, owner=node(50)),
        member(3, hardware="another"),
        member(4, proven=False),
        member(5, audits=False),
        member(6, owner=node(0)),
        member(7),
        rejected=(7,),
    )
    assert auditors_of(opened, seal, assign, 0) == (1, 6)


def test_a_worker_and_who_owns_it_by_its_own_key_are_one_owner() -> None:
    opened, seal, assign = a_round(member(0), member(1, owner=node(0)), member(2))
    assert auditors_of(opened, seal, assign, 0) == (2,)


def test_owners_are_drawn_alike_however_many_nodes_they_have() -> None:
    """One owner of six nodes, and two of one each."""
    owner = node(50)
    opened, seal, assign = a_round(
        member(0), member(1), member(2), *(member(slot, owner=owner) for slot in range(3, 9))
    )
    able = auditors_of(opened, seal, assign, 0)
    drawn = [drawn_auditor(opened, able, 0, task_seed("b" * 64, f"0x{number}")) for number in range(600)]
    of_many = sum(slot is not None and slot >= 3 for slot in drawn)
    assert 150 <= of_many <= 250
    assert set(drawn) == set(range(1, 9))


def test_of_nobody_nobody_is_drawn() -> None:
    opened, _, _ = a_round(member(0))
    assert drawn_auditor(opened, (), 0, "c" * 64) is None


def test_each_auditor_has_a_key_of_its_own() -> None:
    seed = task_seed("b" * 64, "0x1")
    assert len({task_key(seed, slot, node(place)) for slot in range(3) for place in range(3)}) == 9
    assert task_key(seed, 0, node(1)) != task_key(task_seed("b" * 64, "0x2"), 0, node(1))
