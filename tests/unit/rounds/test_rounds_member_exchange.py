"""A member in the exchange: to whom it delivers, what it takes and averages, and when it speaks of that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from round_actors import ALICE, BOB, BODIES, JOB, chain_of
from round_member import ASSIGN, CHAIN, OPEN, SEAL, UPDATE, WORK, Member

from anynode.rounds.course import Assign, Reducer, Seal
from anynode.rounds.effects import (
    Acknowledge,
    Deliver,
    Reduce,
    StartWork,
)
from anynode.rounds.events import Failed, Reduced
from anynode.rounds.membership import TELL_S
from anynode.rounds.messages import (
    Average,
    ChunkDone,
    Delivery,
    DeliveryReceipt,
)
from anynode.rounds.records import Record
from anynode.rounds.witnesses import WITNESSES_MAX, witnesses_of

# --- reducers and senders -------------------------------------------------------------------------------------------


@pytest.fixture
def reducing() -> tuple[Member, Assign]:
    """Alice and Bob are accepted, each reduces one chunk; Alice's view."""
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
    alice.feed(DeliveryReceipt("delivery_receipt", BOB, 0, 0, 0, 1, (1,), ("7" * 64,), ()))
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


def test_a_reducer_tells_of_averages_while_others_are_still_to_come(reducing: tuple[Member, Assign]) -> None:
    alice, assign = reducing
    more = replace(assign, attempt=1, reducers=tuple(Reducer(chunk, 0, 1) for chunk in range(4)))
    begin, opened = BODIES[:2]
    alice.records(chain_of(begin, opened, alice.state.seal or SEAL, assign, more)[-1])
    for slot in (0, 1):
        alice.feed(replace(delivery(slot), attempt=1, chunks=(0, 1, 2, 3), payloads=("7" * 64,) * 4))

    def reduced(chunk: int) -> list[tuple[int, ...]]:
        alice.feed(Reduced(0, chunk, (0, 1), "6" * 64))
        return [done.chunks for done in alice.sent(ChunkDone)]

    alice.now += TELL_S / 2
    assert not reduced(0), "more may be said in a moment, under one signature"
    alice.now += TELL_S / 2
    assert reduced(1) == [(0, 1)]
    assert not reduced(2)
    assert reduced(3) == [(2, 3)], "all are averaged"


def test_an_average_of_an_attempt_before_the_chunk_was_taken_and_given_back_counts_no_more(
    reducing: tuple[Member, Assign],
) -> None:
    """Its senders were chosen then: whoever has a receipt since would be left out, and the reducer blamed for it."""
    alice, assign = reducing
    alice.feed(delivery(0))
    alice.after(5.0)
    assert [effect.senders for effect in alice.pick(Reduce)] == [(0,)], "without the other, who is late"
    for attempt, reducer in ((1, 1), (2, 0)):
        others = (Reducer(0, reducer, 1 - reducer), Reducer(1, 1, 0))
        alice.records(
            Record(JOB, 3 + attempt, alice.state.head, replace(assign, attempt=attempt, reducers=others)),
        )
    alice.feed(replace(delivery(1), attempt=2))
    assert [(effect.delivery.slot, effect.late) for effect in alice.pick(Acknowledge)] == [(1, ())]
    alice.feed(Reduced(0, 0, (0,), "6" * 64))
    assert not alice.sent(ChunkDone)
    alice.feed(Reduced(0, 0, (0, 1), "5" * 64))
    assert [done.averages for done in alice.sent(ChunkDone)] == [(Average(0, (0, 1), "5" * 64),)]


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
    sender.feed(DeliveryReceipt("delivery_receipt", seal.commitments[2].node, 0, 0, 1, 0, (0,), ("7" * 64,), ()))
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
    receipt = DeliveryReceipt("delivery_receipt", witness.state.me.node, 0, 0, 1, 0, (0,), ("7" * 64,), ())
    assert witness.sent(DeliveryReceipt) == [receipt]
    assert Deliver(0, 0, 1, 0, (0,), seal.commitments[1].update_root, 0) in witness.pick(Deliver)
    witness.after(3.0)
    assert witness.sent(DeliveryReceipt) == [receipt], "until there is a result"
    witness.feed(DeliveryReceipt("delivery_receipt", seal.commitments[0].node, 0, 0, 1, 0, (0,), ("7" * 64,), ()))
    witness.feed(Failed("deliver 0 1 0 0 0"))
    witness.after(3.0)
    assert not [effect for effect in witness.pick(Deliver) if effect.slot == 1], "the reducer has it"
    again = replace(assign, attempt=1, reducers=(Reducer(0, 2, 0),))
    witness.records(Record(JOB, 4, witness.state.head, again))
    for slot in (0, 2):
        witness.feed(Delivery("delivery", seal.commitments[slot].node, 0, 1, slot, 2, (0,), ("7" * 64,)))
    assert [effect.senders for effect in witness.pick(Reduce)] == [(0, 1, 2)], "with what it had witnessed"


def test_the_witness_itself_turns_to_a_further_one(three: tuple[Seal, Assign, list[Record]]) -> None:
    seal, _, chain = three
    sender, other = Member(seal.commitments[2].node), Member(seal.commitments[1].node)
    sender.records(*chain)
    sender.after(2.5)
    assert [(effect.to_slot, effect.for_slot) for effect in sender.pick(Deliver)] == [(1, 0)]
    other.records(*chain)
    header = Delivery("delivery", seal.commitments[2].node, 0, 0, 2, 0, (0,), ("7" * 64,))
    other.feed(header)
    assert [effect.delivery for effect in other.pick(Acknowledge)] == [header]


def test_a_sender_turns_to_one_witness_after_the_other() -> None:
    """All have been asked before the reducer may go without it."""
    names = [f"0x{number:040d}" for number in range(1, 7)]
    members = tuple(replace(OPEN.members[0], slot=slot, node=name) for slot, name in enumerate(names))
    opened = replace(OPEN, members=members)
    sealed = tuple(replace(SEAL.commitments[0], slot=slot, node=name) for slot, name in enumerate(names))
    assign = replace(ASSIGN, accepted=tuple(range(6)), reducers=(Reducer(0, 0, 2),))
    order = witnesses_of(opened, assign, 0, 1)
    sender = Member(names[1])
    sender.records(*chain_of(BODIES[0], opened, replace(SEAL, commitments=sealed, missing=()), assign))
    asked = [effect.to_slot for effect in sender.pick(Deliver)]
    for _ in range(49):
        asked += [effect.to_slot for effect in sender.after(0.1) if isinstance(effect, Deliver)]
    assert asked == [0, *order] and order[0] == 2 and len(order) == WITNESSES_MAX


def test_nobody_else_takes_chunks_for_a_reducer(three: tuple[Seal, Assign, list[Record]]) -> None:
    """Nor of what that reducer does not reduce."""
    seal, _, chain = three
    other = Member(seal.commitments[1].node)
    other.records(*chain)
    for reducer, chunk in ((2, 0), (0, 1)):
        other.feed(Delivery("delivery", seal.commitments[2].node, 0, 0, 2, reducer, (chunk,), ("7" * 64,)))
        assert not other.pick(Acknowledge)
    assert other.state.arrived == {}
