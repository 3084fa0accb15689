"""The member's core: it follows signed records only, and what differs from them is a fault that it mends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from round_actors import ALICE, BOB, BODIES, NEXT, chain_of
from round_member import ASSIGN, CHAIN, OPEN, TRACE, UPDATE, WORK, Member

from anynode.rounds import member
from anynode.rounds.course import Reason
from anynode.rounds.effects import (
    Fault,
    Send,
    StartWork,
    StopWork,
)
from anynode.rounds.events import Failed
from anynode.rounds.judgements import Ruling, Task, Verdict
from anynode.rounds.membership import ASKS_S, STAY_S, VERDICT_S
from anynode.rounds.messages import (
    Commitment,
    Join,
    Receipt,
    Refused,
    Sync,
)

# --- presence -------------------------------------------------------------------------------------------------------


def test_it_joins_until_it_has_a_place_and_syncs_always() -> None:
    alice = Member()
    assert {type(effect.message) for effect in alice.after(0.0) if isinstance(effect, Send)} == {Join, Sync}
    alice.after(1.0)
    assert not alice.sent(Join)
    assert alice.sent(Sync) == [Sync("sync", ALICE, 0, 0)]
    alice.after(4.0)
    assert len(alice.sent(Join)) == 1
    alice.records(*CHAIN[:2])
    alice.after(60.0)
    assert not alice.sent(Join)
    assert alice.sent(Sync) == [Sync("sync", ALICE, 2, 0)]


def test_who_is_turned_away_joins_no_more() -> None:
    bob = Member(BOB)
    bob.feed(Refused("refused", BOB, "another version"))
    bob.after(60.0)
    assert bob.state.refused == "another version"
    assert not bob.sent(Join)


def test_a_rejection_in_the_records_is_a_refusal() -> None:
    bob = Member(BOB)
    rejected = replace(ASSIGN, rejected=(Reason(1, "differs in segment 0"),))
    bob.records(*chain_of(*BODIES[:3], rejected))
    assert bob.state.refused == "differs in segment 0"
    alice = Member()
    alice.records(*chain_of(*BODIES[:6], judged_wrong("9" * 64)))
    assert alice.state.refused == "differs"
    again = Member()
    again.records(*chain_of(*BODIES[:6], judged_wrong("")))
    assert not again.state.refused, "what follows from an exclusion is none by itself"


@pytest.mark.parametrize("granted", [True, False])
def test_a_granted_appeal_opens_the_door_again_also_to_a_process_of_before(granted: bool) -> None:
    mistaken = BOB if granted else ""
    ruling = Ruling("ruling", 0, 0, ALICE, "0x" + "ab" * 65, True, granted, "replayed again", mistaken)
    records = chain_of(*BODIES[:6], judged_wrong("9" * 64), ruling)
    alice = Member()
    alice.records(*records)
    assert alice.state.over is not granted
    restarted = Member()
    restarted.state = member.restore(restarted.state, records[:7], 0.0)
    assert restarted.after(1.0) and restarted.sent(Sync) and not restarted.state.over, "it asks what has come since"
    restarted.records(records[7])
    restarted.after(ASKS_S)
    assert restarted.state.over is not granted
    for each in (alice, restarted):
        assert each.state.refused == ("" if granted else "differs")
    bob = Member(BOB)
    bob.records(*records)
    assert not bob.state.refused


def test_an_auditor_that_lied_reads_it_in_the_records() -> None:
    task = Task(0, BOB, 4, "rejected", "accepts what is wrong", None, "0x" + "ab" * 65)
    bob, alice = Member(BOB), Member()
    for each in (bob, alice):
        each.records(*chain_of(*BODIES[:6], replace(judged_wrong(""), tasks=(task,))))
    assert "as an auditor: accepts what is wrong" in bob.state.refused and not alice.state.refused


def judged_wrong(proof: str) -> Verdict:
    """The verdict of the round, but for Alice's work, which it rejects."""
    verdict = BODIES[6]
    assert isinstance(verdict, Verdict)
    return replace(verdict, judged=(replace(verdict.judged[0], outcome="rejected", reason="differs", proof=proof),))


# --- the audit secret -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "words"), [("8" * 64, "reveals another audit secret than was sealed"), ("", "withholds")]
)
def test_a_secret_that_was_not_the_one_sealed_is_said_to_be_evidence(secret: str, words: str) -> None:
    verdict = BODIES[6]
    assert isinstance(verdict, Verdict)
    alice = Member()
    alice.records(*chain_of(*BODIES[:6], replace(verdict, secret=secret)))
    (fault,) = alice.pick(Fault)
    assert words in fault.sentence
    assert "round 0" in fault.sentence


def test_a_verdict_that_is_overdue_is_said_once() -> None:
    alice = Member()
    alice.records(*CHAIN[:6])
    assert not alice.pick(Fault)
    assert not [effect for effect in alice.after(VERDICT_S - 1) if isinstance(effect, Fault)]
    alice.after(1.0)
    (fault,) = alice.pick(Fault)
    assert "round 0 was sealed 900 s ago and has no verdict" in fault.sentence
    alice.after(60.0)
    assert not alice.pick(Fault)
    alice.records(CHAIN[6])
    assert not alice.pick(Fault), "late, and as it was sealed"
    assert alice.state.unjudged == {}


def test_a_member_stays_for_its_last_verdicts_but_not_for_ever() -> None:
    """Audits may need what it keeps; a chain that is silent holds nobody up for long."""
    *before, verdict, finish = BODIES
    alice, bob = Member(held=1, root=NEXT), Member(held=1, root=NEXT)
    for one in (alice, bob):
        one.records(*chain_of(*before, finish))
        assert one.state.finished
        one.after(STAY_S - 1)
        assert not one.state.over
    alice.after(1.0)
    assert alice.state.over
    bob.records(chain_of(*before, finish, verdict)[-1])
    assert bob.state.over, "it is in"


# --- records --------------------------------------------------------------------------------------------------------


def test_records_are_followed_in_order_and_repeats_change_nothing(alice: Member) -> None:
    assert (alice.state.height, alice.state.head) == (2, CHAIN[1].hash)
    before = alice.state
    assert not [effect for effect in alice.records(*CHAIN[:2]) if not isinstance(effect, Send)]
    assert (alice.state.height, alice.state.head, alice.state.open) == (before.height, before.head, before.open)
    alice.records(*CHAIN)
    assert (alice.state.height, alice.state.finished) == (len(CHAIN), True)


def test_a_gap_in_the_records_is_ignored_until_it_is_filled(alice: Member) -> None:
    alice.records(*CHAIN[3:])
    assert not alice.pick(Fault)
    assert (alice.state.height, alice.state.assign) == (2, None)
    alice.records(CHAIN[2], *CHAIN[4:])
    assert alice.state.height == 3, "what lies before the gap is taken"
    alice.records(*CHAIN[3:])
    assert alice.state.height == len(CHAIN)


@pytest.mark.parametrize("change", [{"previous": "9" * 64}, {"job": "b" * 64}], ids=str)
def test_a_record_that_breaks_the_chain_is_a_fault_and_ignored(alice: Member, change: dict[str, Any]) -> None:
    before = alice.state
    alice.records(replace(CHAIN[2], **change), *CHAIN[3:])
    assert [fault.sentence for fault in alice.pick(Fault)] == [
        "record 2 does not continue the chain that is known here; it is ignored"
    ]
    assert (alice.state.height, alice.state.head, alice.state.seal) == (before.height, before.head, None)
    alice.records(*CHAIN[2:])
    assert alice.state.height == len(CHAIN), "the right one is still taken"


def test_records_before_a_broken_one_are_taken(alice: Member) -> None:
    alice.records(CHAIN[2], replace(CHAIN[3], previous="9" * 64))
    assert alice.state.height == 3
    assert len(alice.pick(Fault)) == 1


# --- work -----------------------------------------------------------------------------------------------------------


def test_work_starts_once_and_again_when_it_failed(alice: Member) -> None:
    assert [(effect.open, effect.slot) for effect in alice.pick(StartWork)] == [(OPEN, 0)]
    alice.after(50.0)
    assert not alice.pick(StartWork)
    alice.feed(Failed("work 0"))
    alice.after(2.0)
    assert len(alice.pick(StartWork)) == 1


def test_a_node_without_a_slot_does_not_work() -> None:
    stranger = Member(f"0x{9:040d}")
    stranger.records(*CHAIN[:2])
    assert not stranger.pick(StartWork)
    assert len(stranger.sent(Join)) == 1


def test_a_commitment_is_repeated_until_the_seal_and_less_often_after_its_receipt(alice: Member) -> None:
    alice.feed(WORK)
    (sent,) = alice.sent(Commitment)
    assert (sent.slot, sent.steps, sent.samples, sent.update_root, sent.trace_root) == (0, 4, 8, UPDATE, TRACE)
    alice.after(2.9)
    assert not alice.sent(Commitment)
    alice.after(0.1)
    assert len(alice.sent(Commitment)) == 1
    alice.feed(Receipt("receipt", ALICE, 0, 0, "8" * 64, TRACE))
    assert alice.state.receipt is None, "a receipt for something else is none"
    alice.feed(Receipt("receipt", ALICE, 0, 0, UPDATE, TRACE))
    assert alice.state.receipt is not None
    alice.after(3.0)
    assert len(alice.sent(Commitment)) == 1
    alice.after(11.9)
    assert not alice.sent(Commitment)
    alice.after(0.1)
    assert len(alice.sent(Commitment)) == 1, "a restarted coordinator has forgotten it"
    alice.records(CHAIN[2])
    alice.after(60.0)
    assert not alice.sent(Commitment)


def test_work_that_comes_after_the_seal_is_stopped(alice: Member) -> None:
    alice.records(CHAIN[2])
    assert alice.pick(StopWork) == [StopWork(0)]
    alice.after(10.0)
    assert not alice.pick(StopWork), "once is enough"


def test_work_of_another_round_is_ignored(alice: Member) -> None:
    alice.feed(replace(WORK, round=1))
    assert alice.state.work is None
