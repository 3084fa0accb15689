"""What a member makes of a message or a record: it remembers, and mends what differs from the signed records. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import replace

from anynode.rounds import asking
from anynode.rounds.audit_secrets import opens
from anynode.rounds.claims import claimable
from anynode.rounds.course import CHUNKS_PER_MESSAGE_MAX, Assign, Begin, Close, Finish, Open, Result, Seal
from anynode.rounds.effects import Acknowledge, Fault, KeepEvidence, MemberEffect
from anynode.rounds.events import (
    Answering,
    Applied,
    Failed,
    MemberMessage,
    RecordsArrived,
    Reduced,
    StateFetched,
    WorkDone,
)
from anynode.rounds.judgements import Correct, Ruling, Verdict
from anynode.rounds.left_out import leaves_out
from anynode.rounds.membership import (
    CATCH_UP_ROUNDS,
    LATE_SHARE,
    WORK_SHARE,
    Batch,
    State,
    Step,
    Unjudged,
    find_slot,
    is_among,
)
from anynode.rounds.messages import Delivery, DeliveryReceipt, Receipt, Refused, WorkLeft
from anynode.rounds.records import Record
from anynode.rounds.table import Table
from anynode.rounds.witnesses import witnesses_of

SAID = ("join", "sync", "commit", "done", "witness", "report", "claim")
"""The names of what is said to the coordinator again and again."""


def take_in(state: State, message: MemberMessage, now: float) -> Step:
    """The state that remembers ``message``, and what is answered at once."""
    match message:
        case RecordsArrived():
            return _records(state, message.records, now)
        case Receipt() if _is_mine(state, message):
            return replace(state, receipt=message), []
        case Refused():
            return replace(state, turned_away=message.reason), []
        case WorkLeft() if state.open and message.round == state.open.round:
            until = min(state.work_until, now + message.left_ms / 1000)
            return replace(state, work_until=until, waits_until=-math.inf), []
        case Answering():
            return replace(state, asked=state.asked.drop([key for key in state.asked if key.startswith(SAID)])), []
        case Delivery():
            return _delivery(state, message)
        case DeliveryReceipt() if state.open and message.round == state.open.round:
            return _delivery_receipt(state, message, now), []
        case WorkDone() if state.open and message.round == state.open.round and state.slot is not None:
            return replace(state, work=message), []
        case Reduced() if state.open and message.round == state.open.round:
            if state.fixed.get(message.chunk) != message.senders:
                return state, []  # of an earlier attempt: the chunk was taken from this reducer and given back
            return replace(state, reduced={**state.reduced, message.chunk: message}), []
        case Applied():
            # No longer under way: a member that falls behind later must be free to fetch a whole state.
            asked = state.asked.drop([f"apply {message.round}"])
            return _hold(replace(state, asked=asked), message.round + 1, message.state_root)
        case StateFetched():
            # Said at once: nobody gives it a place before it is known to hold the state.
            asked = state.asked.drop(["sync"])
            return _hold(replace(state, asked=asked), message.state_round, message.state_root)
        case Failed():
            return replace(state, asked=asking.failed(state.asked, message.what, now)), []
        case _:
            return state, []


def _is_mine(state: State, receipt: Receipt) -> bool:
    work = state.work
    return (
        work is not None
        and (receipt.round, receipt.slot) == (work.round, state.slot)
        and (receipt.update_root, receipt.trace_root) == (work.update_root, work.trace_root)
    )


def _delivery(state: State, delivery: Delivery) -> Step:
    """Keep chunks that the shell has checked against their sender's manifest, as their reducer or its witness."""
    opened = state.open
    if opened is None or delivery.round != opened.round or delivery.slot >= len(opened.members):
        return state, []
    if opened.members[delivery.slot].node != delivery.node:
        return state, []
    witnessed, late = state.witnessed, tuple(chunk for chunk in delivery.chunks if _is_late(state, delivery, chunk))
    if delivery.reducer != state.slot:
        if not _is_witness(state, delivery):
            return state, []
        receipt = delivery.receipt(state.me.node)
        witnessed = witnessed if receipt in witnessed else (*witnessed, receipt)
    nobody: Table[int, bool] = Table()
    arrived = {chunk: state.arrived.get(chunk, nobody).set(delivery.slot, True) for chunk in delivery.chunks}
    return replace(state, arrived={**state.arrived, **arrived}, witnessed=witnessed), [Acknowledge(delivery, late)]


def _is_late(state: State, delivery: Delivery, chunk: int) -> bool:
    """Whether this reducer has fixed the senders of a chunk without this one: then it must not pass for one of them."""
    if delivery.reducer != state.slot:
        return False
    without = delivery.slot not in state.fixed.get(chunk, (delivery.slot,))
    return without or delivery.attempt < state.barred.get(chunk, 0)


def _is_witness(state: State, delivery: Delivery) -> bool:
    """Whether this member may speak for the sender of these chunks, and that is one whose update counts."""
    opened, assign = state.open, state.assign
    if opened is None or assign is None or not is_among(delivery.slot, assign.accepted):
        return False
    held = {item.chunk for item in assign.reducers if item.slot == delivery.reducer}
    mine = state.slot in witnesses_of(opened, assign, delivery.reducer, delivery.slot)
    return mine and held.issuperset(delivery.chunks)


def _delivery_receipt(state: State, receipt: DeliveryReceipt, now: float) -> State:
    if receipt.slot == state.slot:
        in_vain = _comes_in_vain(state, now)
        pairs = {(chunk, receipt.reducer) for chunk in receipt.chunks if in_vain or chunk not in receipt.late}
        given = () if receipt.node == state.me.node else (receipt,)
        return replace(state, delivered=state.delivered | pairs, receipts=state.receipts + given)
    handed_on = {
        item
        for item in state.witnessed
        if (item.slot, item.reducer, item.chunks) == (receipt.slot, receipt.reducer, receipt.chunks)
    }
    return replace(state, handed_on=state.handed_on | handed_on)


def _comes_in_vain(state: State, now: float) -> bool:
    """Whether reducers need not wait for this member any more. Before, one that fixes its senders without it is to be
    told by its witness.
    """
    assign, opened = state.assign, state.open
    if assign is None or opened is None or is_among(state.slot, assign.absent):
        return True
    return now >= state.assigned_at + LATE_SHARE * opened.exchange_s


def _hold(state: State, round_: int, root: str) -> Step:
    if round_ < state.held_round:
        return state, []
    asked = state.asked.drop([key for key in state.asked if key.startswith("state")])
    return _compare(replace(state, held_round=round_, held_root=root, asked=asked))


def _compare(state: State) -> Step:
    """A state that differs from the signed record of its round is a fault: say so and fetch it anew."""
    if state.held_round != state.closed_round or state.held_root == state.closed_root:
        return state, []
    sentence = (
        f"the state of round {state.held_round} is {state.held_root[:16]}… here and "
        f"{state.closed_root[:16]}… in the signed record; it is fetched anew"
    )
    return replace(state, held_round=-1, held_root=""), [Fault(sentence)]


# ---------------------------------------------------------------- records


def _records(state: State, records: tuple[Record, ...], now: float) -> Step:
    effects: list[MemberEffect] = []
    for record in records:
        if record.height < state.height:
            continue
        if record.height > state.height:
            break
        if record.previous != state.head or record.job != state.me.job:
            sentence = f"record {record.height} does not continue the chain that is known here; it is ignored"
            return state, [*effects, Fault(sentence)]
        state, more = absorb(state, record, now)
        effects += more
    return state, effects


def absorb(state: State, record: Record, now: float) -> Step:
    """The state after a record that continues the chain, and the fault that it shows, if any."""
    body = record.body
    state = replace(state, height=record.height + 1, head=record.hash)
    match body:
        case Begin():
            return _compare(replace(state, closed_round=0, closed_root=body.state_root))
        case Open():
            return _absorb_open(state, body, now), []
        case Seal():
            return _absorb_seal(state, body, now)
        case Assign():
            return _absorb_assign(state, body, now), []
        case Result():
            claims = claimable(state.slot, state.open, body, state.receipts) if state.open is not None else ()
            return replace(
                state, result=body, claims={**state.claims, body.round: claims} if claims else state.claims
            ), []
        case Close():
            return _compare(_absorb_close(state, body, now))
        case Verdict():
            return _absorb_verdict(state, body)
        case Correct():
            state = replace(state, own=state.own.after_correction(state.me.node, body))
            return _compare(replace(state, closed_round=body.round + 1, closed_root=body.state_root))
        case Ruling():
            return replace(state, own=state.own.after_ruling(state.me.node, body)), []
        case Finish():
            return replace(state, finished=True, finished_at=now), []


def _absorb_close(state: State, body: Close, now: float) -> State:
    """Who had a place has one in the next round too, if that opens soon; if none does, it says again that it is there:
    the coordinator may know it as one that has left, or that runs another version.
    """
    state = replace(_remember(state), closed_round=body.round + 1, closed_root=body.state_root)
    if state.slot is None:
        return state
    return replace(state, asked=asking.mark(state.asked, "join", now + state.me.join_s))


def _remember(state: State) -> State:
    """The round that closes may be needed to bring an older state up to date."""
    if state.open is None or state.result is None:
        return state
    return replace(state, past=(*state.past, (state.open, state.result))[-CATCH_UP_ROUNDS:])


def _absorb_open(state: State, body: Open, now: float) -> State:
    return replace(
        state,
        open=body,
        work_until=now + WORK_SHARE * body.work_s,
        waits_until=-math.inf,
        seal=None,
        sealed_root="",
        assign=None,
        result=None,
        slot=find_slot(body.members, state.me.node),
        work=None,
        receipt=None,
        batches=(),
        delivered=frozenset(),
        mine=(),
        arrived={},
        reduced={},
        done=(),
        witnessed=(),
        handed_on=frozenset(),
        fixed={},
        barred={},
        receipts=(),
        asked=asking.kept(state.asked, "state", "apply", "verdict"),
    )


def _absorb_seal(state: State, body: Seal, now: float) -> Step:
    """A seal without a commitment that the coordinator has receipted is evidence against it."""
    place = bisect_left(body.commitments, state.slot, key=lambda item: item.slot) if state.slot is not None else 0
    mine = [item for item in body.commitments[place : place + 1] if item.slot == state.slot]
    unjudged = {**state.unjudged, body.round: Unjudged(body.secret_hash, now)}
    state = replace(state, seal=body, sealed_root=mine[0].update_root if mine else "", unjudged=unjudged)
    left_out = state.receipt is not None and leaves_out(body, state.receipt)
    return state, [KeepEvidence(state.receipt, body)] if left_out and state.receipt else []


def _absorb_assign(state: State, body: Assign, now: float) -> State:
    chunks = {item.chunk for item in body.reducers if item.slot == state.slot}
    still = {item.chunk: item.slot for item in body.reducers}
    witnessed = tuple(
        item
        for item in state.witnessed
        if all(still.get(chunk) == item.reducer for chunk in item.chunks)
        and state.open is not None
        and state.slot in witnesses_of(state.open, body, item.reducer, item.slot)
    )
    return replace(
        state,
        assign=body,
        assigned_at=now,
        own=state.own if state.open is None else state.own.after_assign(state.me.node, state.open, state.slot, body),
        batches=_batches(body, state.delivered) if is_among(state.slot, body.accepted) else (),
        mine=tuple(sorted(chunks)),
        reduced={chunk: item for chunk, item in state.reduced.items() if chunk in chunks},
        done=tuple(item for item in state.done if chunks.issuperset(item.chunks)),
        told_at=now,
        witnessed=witnessed,
        fixed={chunk: senders for chunk, senders in state.fixed.items() if chunk in chunks},
        barred={**state.barred, **{chunk: body.attempt for chunk in state.fixed if chunk not in chunks}},
    )


def _absorb_verdict(state: State, body: Verdict) -> Step:
    """The end for whom it rejects. A secret that is not the one sealed is evidence against who signed both."""
    sealed = state.unjudged.get(body.round)
    unjudged = {round_: item for round_, item in state.unjudged.items() if round_ != body.round}
    claims = {round_: items for round_, items in state.claims.items() if round_ != body.round}
    state = replace(state, unjudged=unjudged, claims=claims, own=state.own.after_verdict(state.me.node, body))
    if sealed is None or opens(body.secret, sealed.secret_hash):
        return state, []
    what = "reveals another audit secret than was sealed" if body.secret else "withholds the audit secret"
    sentence = f"the verdict on round {body.round} {what}: its two signed records are evidence against the coordinator"
    return state, [Fault(sentence)]


def _batches(assign: Assign, delivered: frozenset[tuple[int, int]]) -> tuple[Batch, ...]:
    """What is to be delivered after an assignment: the chunks of each reducer, a few at a time."""
    chunks: dict[int, list[int]] = {}
    for item in assign.reducers:
        if (item.chunk, item.slot) not in delivered:
            chunks.setdefault(item.slot, []).append(item.chunk)
    return tuple(
        Batch(reducer, tuple(left[start : start + CHUNKS_PER_MESSAGE_MAX]))
        for reducer, left in chunks.items()
        for start in range(0, len(left), CHUNKS_PER_MESSAGE_MAX)
    )
