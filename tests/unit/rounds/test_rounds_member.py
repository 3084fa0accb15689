"""The member's core: it follows signed records only, and what differs from them is a fault that it mends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import pytest
from round_actors import ALICE, BOB, BODIES, JOB, NEXT, START, chain_of
from world import JOB as WORLD_JOB
from world import RULES, START_ROOT, Role, Weather, World

from anynode.rounds import member
from anynode.rounds.effects import (
    Acknowledge,
    Apply,
    Deliver,
    Fault,
    FetchState,
    MemberEffect,
    Reduce,
    Send,
    StartWork,
    StopWork,
)
from anynode.rounds.messages import (
    Applied,
    Average,
    ChunkDone,
    Commitment,
    Delivery,
    DeliveryReceipt,
    Failed,
    Join,
    MemberMessage,
    Receipt,
    RecordsArrived,
    Reduced,
    Refused,
    StateFetched,
    StateReport,
    Sync,
    Tick,
    WorkDone,
)
from anynode.rounds.records import Assign, Close, Open, Reason, Record, Reducer, Seal, Verdict

E = TypeVar("E")
OPEN, SEAL, ASSIGN, RESULT, CLOSE = BODIES[1:6]
assert isinstance(OPEN, Open)
assert isinstance(SEAL, Seal)
assert isinstance(ASSIGN, Assign)
CHAIN = chain_of(*BODIES)
UPDATE, TRACE = "3" * 64, "4" * 64
WORK = WorkDone(0, START, 4, 8, 2, UPDATE, TRACE)


class Member:
    """A member's core; the test is network, clock and shell."""

    def __init__(self, node: str = ALICE, held: int = 0, root: str = START) -> None:
        me = member.Self(JOB, node, "peer", "class", "1")
        self.now = 0.0
        self.state = member.State(me, held_round=held, held_root=root)
        self.effects: list[MemberEffect] = []

    def feed(self, message: MemberMessage) -> list[MemberEffect]:
        self.state, self.effects = member.apply(self.state, message, self.now)
        return self.effects

    def records(self, *records: Record) -> list[MemberEffect]:
        return self.feed(RecordsArrived(records))

    def pick(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def sent(self, kind: type[E]) -> list[E]:
        return [effect.message for effect in self.pick(Send) if isinstance(effect.message, kind)]

    def after(self, seconds: float) -> list[MemberEffect]:
        self.now += seconds
        return self.feed(Tick())


@pytest.fixture
def alice() -> Member:
    """In round 0, its work under way."""
    alice = Member()
    alice.records(*CHAIN[:2])
    return alice


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


def test_who_is_refused_joins_no_more() -> None:
    bob = Member(BOB)
    bob.feed(Refused("refused", BOB, "the audit differs"))
    bob.after(60.0)
    assert bob.state.refused == "the audit differs"
    assert not bob.sent(Join)


def test_a_rejection_in_the_records_is_a_refusal() -> None:
    bob = Member(BOB)
    assert isinstance(ASSIGN, Assign)
    rejected = replace(ASSIGN, rejected=(Reason(1, "differs in segment 0"),))
    bob.records(*chain_of(*BODIES[:3], rejected))
    assert bob.state.refused == "differs in segment 0"
    verdict = BODIES[6]
    assert isinstance(verdict, Verdict)
    failed = replace(verdict, judged=(replace(verdict.judged[0], accepted=False, reason="differs"),))
    alice = Member()
    alice.records(*chain_of(*BODIES[:6], failed))
    assert alice.state.refused == "differs"


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


# --- the state ------------------------------------------------------------------------------------------------------


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


def test_a_member_that_has_applied_before_can_still_catch_up(alice: Member) -> None:
    """It missed a whole round while it ran: the averaged chunks are gone by, the state must be fetched whole."""
    alice.records(*CHAIN[2:5])
    alice.feed(Applied(0, NEXT))
    alice.records(CHAIN[5])
    assert (alice.state.held_round, alice.state.closed_round) == (1, 1)
    assert isinstance(OPEN, Open)
    assert isinstance(CLOSE, Close)
    missed = [
        replace(OPEN, round=1, state_root=NEXT),
        replace(SEAL, round=1),
        replace(ASSIGN, round=1),
        replace(RESULT, round=1),
        replace(CLOSE, round=1, state_root="6" * 64),
        replace(OPEN, round=2, state_root="6" * 64),
    ]
    alice.records(*chain_of(*BODIES[:6], *missed)[6:])
    assert alice.pick(FetchState) == [FetchState(2, "6" * 64)]
    assert not alice.pick(StartWork), "there is nothing to start from yet"
    alice.feed(StateFetched(2, "6" * 64))
    assert [(effect.open.round, effect.slot) for effect in alice.pick(StartWork)] == [(2, 0)]


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


# --- the exchange ---------------------------------------------------------------------------------------------------


@pytest.fixture
def reducing() -> tuple[Member, Assign]:
    """Alice and Bob are accepted, each reduces one chunk; Alice's view."""
    assert isinstance(SEAL, Seal)
    assert isinstance(ASSIGN, Assign)
    second = replace(SEAL.commitments[0], slot=1, node=BOB, update_root="8" * 64)
    seal = replace(SEAL, commitments=(*SEAL.commitments, second), missing=())
    assign = replace(ASSIGN, accepted=(0, 1), reducers=(Reducer(0, 0, 1), Reducer(1, 1, 0)))
    alice = Member()
    chain = chain_of(*BODIES[:2], seal, assign)
    alice.records(*chain[:2])
    alice.feed(WORK)
    alice.records(*chain[2:])
    return alice, assign


def delivery(slot: int) -> Delivery:
    """The first chunk of this member's update."""
    return Delivery("delivery", (ALICE, BOB)[slot], 0, 0, slot, 0, (0,), ("7" * 64,))


def test_each_chunk_goes_to_its_reducer_until_there_is_a_receipt(reducing: tuple[Member, Assign]) -> None:
    alice, _ = reducing
    assert alice.pick(Deliver) == [Deliver(0, 0, 0, 0, (0,), UPDATE, 0), Deliver(0, 0, 0, 1, (1,), UPDATE, 1)]
    alice.feed(Failed("deliver 0 0 1 1 1"))
    alice.after(2.0)
    assert alice.pick(Deliver) == [Deliver(0, 0, 0, 1, (1,), UPDATE, 1)]
    alice.feed(DeliveryReceipt("delivery_receipt", BOB, 0, 0, 0, 1, (1,), ("7" * 64,)))
    alice.feed(Failed("deliver 0 0 1 1 1"))
    alice.after(5.0)
    assert not [deliver for deliver in alice.pick(Deliver) if deliver.for_slot == 1]


def test_a_reducer_averages_when_all_have_delivered(reducing: tuple[Member, Assign]) -> None:
    alice, assign = reducing
    alice.feed(delivery(0))
    assert [effect.delivery for effect in alice.pick(Acknowledge)] == [delivery(0)]
    assert not alice.pick(Reduce)
    alice.feed(delivery(1))
    assert [(effect.chunk, effect.senders, effect.assign) for effect in alice.pick(Reduce)] == [(0, (0, 1), assign)]
    alice.feed(Reduced(0, 0, (0, 1), "6" * 64))
    assert [done.averages for done in alice.sent(ChunkDone)] == [(Average(0, (0, 1), "6" * 64),)]
    alice.after(3.0)
    assert len(alice.sent(ChunkDone)) == 1, "until the result is in the records"


def test_a_dead_sender_holds_up_half_of_the_exchange(reducing: tuple[Member, Assign]) -> None:
    alice, _ = reducing
    alice.feed(delivery(0))
    alice.after(4.9)
    assert not alice.pick(Reduce)
    alice.after(0.1)
    assert [effect.senders for effect in alice.pick(Reduce)] == [(0,)]


@pytest.mark.parametrize(
    "changes", [{"round": 1}, {"slot": 2}, {"slot": 100_000}, {"node": ALICE}, {"node": f"0x{9:040d}"}], ids=str
)
def test_a_delivery_that_fits_no_slot_is_not_taken(reducing: tuple[Member, Assign], changes: dict[str, Any]) -> None:
    alice, _ = reducing
    alice.feed(replace(delivery(1), **changes))
    assert not alice.pick(Acknowledge)
    assert alice.state.arrived == {}


def test_an_update_that_was_not_accepted_is_not_averaged(reducing: tuple[Member, Assign]) -> None:
    alice, assign = reducing
    again = replace(assign, attempt=1, accepted=(0,), reducers=(Reducer(0, 0, 0), Reducer(1, 0, 0)))
    alice.feed(delivery(1))
    alice.records(Record(JOB, 4, alice.state.head, again))
    alice.feed(delivery(0))
    assert [effect.senders for effect in alice.pick(Reduce)] == [(0,)]


def test_a_replaced_reducer_does_not_speak_for_its_chunk(reducing: tuple[Member, Assign]) -> None:
    alice, assign = reducing
    alice.feed(delivery(0))
    alice.feed(delivery(1))
    alice.feed(Reduced(0, 0, (0, 1), "6" * 64))
    alice.records(
        Record(JOB, 4, alice.state.head, replace(assign, attempt=1, reducers=(Reducer(0, 1, 0), Reducer(1, 1, 0))))
    )
    assert alice.pick(Deliver) == [Deliver(0, 1, 0, 1, (0, 1), UPDATE, 1)], "it hands its own chunk to the new reducer"
    alice.after(60.0)
    assert not alice.sent(ChunkDone)


def test_a_member_that_restarted_delivers_what_lies_on_its_disk() -> None:
    alice = Member()
    alice.records(*CHAIN[:4])
    assert alice.pick(Deliver) == [Deliver(0, 0, 0, 0, (0,), UPDATE, 0)]
    assert not alice.pick(Reduce)


def test_the_time_for_work_is_a_part_of_the_rounds() -> None:
    alice = Member()
    alice.records(*CHAIN[:2])
    assert [effect.time_limit_s for effect in alice.pick(StartWork)] == [pytest.approx(17.0)]
    alice.feed(Failed("work 0"))
    alice.after(10.0)
    assert [effect.time_limit_s for effect in alice.pick(StartWork)] == [pytest.approx(7.0)]


# --- witnesses ------------------------------------------------------------------------------------------------------

CAROL = f"0x{3:040d}"


@pytest.fixture
def three() -> tuple[Seal, Assign, list[Record]]:
    """Three members; the first reduces chunk 0 and the third is its witness, the second only sends."""
    assert isinstance(OPEN, Open)
    assert isinstance(SEAL, Seal)
    assert isinstance(ASSIGN, Assign)
    names = sorted((ALICE, BOB, CAROL))
    members = tuple(replace(OPEN.members[0], slot=slot, node=name) for slot, name in enumerate(names))
    opened = replace(OPEN, members=members, ranges=(((0, 8),), ((8, 16),), ((16, 24),)), cursor=24)
    sealed = tuple(
        replace(SEAL.commitments[0], slot=slot, node=name, update_root=str(slot + 5) * 64)
        for slot, name in enumerate(names)
    )
    seal = replace(SEAL, commitments=sealed, missing=())
    assign = replace(ASSIGN, accepted=(0, 1, 2), reducers=(Reducer(0, 0, 2),))
    return seal, assign, chain_of(BODIES[0], opened, seal, assign)


def test_a_sender_without_receipt_turns_to_the_witness(three: tuple[Seal, Assign, list[Record]]) -> None:
    seal, _, chain = three
    sender = Member(seal.commitments[1].node)
    sender.records(*chain)
    assert [effect.to_slot for effect in sender.pick(Deliver)] == [0]
    sender.after(2.4)
    assert not sender.pick(Deliver)
    sender.after(0.1)
    assert [(effect.to_slot, effect.for_slot) for effect in sender.pick(Deliver)] == [(2, 0)]
    sender.feed(DeliveryReceipt("delivery_receipt", seal.commitments[2].node, 0, 0, 1, 0, (0,), ("7" * 64,)))
    sender.feed(Failed("deliver 0 1 0 0 0"))
    sender.after(60.0)
    assert not sender.pick(Deliver), "the receipt of the witness is enough"


def test_a_witness_keeps_the_chunk_tells_the_coordinator_and_hands_it_on(
    three: tuple[Seal, Assign, list[Record]],
) -> None:
    seal, assign, chain = three
    witness = Member(seal.commitments[2].node)
    witness.records(*chain)
    header = Delivery("delivery", seal.commitments[1].node, 0, 0, 1, 0, (0,), ("7" * 64,))
    witness.feed(header)
    assert [effect.delivery for effect in witness.pick(Acknowledge)] == [header]
    receipt = DeliveryReceipt("delivery_receipt", witness.state.me.node, 0, 0, 1, 0, (0,), ("7" * 64,))
    assert witness.sent(DeliveryReceipt) == [receipt]
    assert Deliver(0, 0, 1, 0, (0,), seal.commitments[1].update_root, 0) in witness.pick(Deliver)
    witness.after(3.0)
    assert witness.sent(DeliveryReceipt) == [receipt], "until there is a result"
    witness.feed(DeliveryReceipt("delivery_receipt", seal.commitments[0].node, 0, 0, 1, 0, (0,), ("7" * 64,)))
    witness.feed(Failed("deliver 0 1 0 0 0"))
    witness.after(3.0)
    assert not [effect for effect in witness.pick(Deliver) if effect.slot == 1], "the reducer has it"
    again = replace(assign, attempt=1, reducers=(Reducer(0, 2, 0),))
    witness.records(Record(JOB, 4, witness.state.head, again))
    for slot in (0, 2):
        witness.feed(Delivery("delivery", seal.commitments[slot].node, 0, 1, slot, 2, (0,), ("7" * 64,)))
    assert [effect.senders for effect in witness.pick(Reduce)] == [(0, 1, 2)], "with what it had witnessed"


def test_nobody_else_takes_chunks_for_a_reducer(three: tuple[Seal, Assign, list[Record]]) -> None:
    seal, _, chain = three
    other = Member(seal.commitments[1].node)
    other.records(*chain)
    other.feed(Delivery("delivery", seal.commitments[2].node, 0, 0, 2, 0, (0,), ("7" * 64,)))
    assert not other.pick(Acknowledge)
    assert other.state.arrived == {}


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
