"""What a member makes of a message or a record: it remembers, and mends what differs from the signed records. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

from anynode.rounds import asking
from anynode.rounds.effects import Acknowledge, Fault, MemberEffect
from anynode.rounds.membership import Batch, State, Step, find_slot, is_among
from anynode.rounds.messages import (
    Applied,
    Delivery,
    DeliveryReceipt,
    Failed,
    MemberMessage,
    Receipt,
    RecordsArrived,
    Reduced,
    Refused,
    StateFetched,
    WorkDone,
)
from anynode.rounds.records import (
    CHUNKS_PER_MESSAGE_MAX,
    Assign,
    Begin,
    Close,
    Finish,
    Open,
    Record,
    Result,
    Seal,
    Verdict,
)
from anynode.rounds.table import Table


def take_in(state: State, message: MemberMessage, now: float) -> Step:
    """The state that remembers ``message``, and what is answered at once."""
    match message:
        case RecordsArrived():
            return _records(state, message.records, now)
        case Receipt() if _is_mine(state, message):
            return replace(state, receipt=message), []
        case Refused():
            return replace(state, refused=message.reason), []
        case Delivery():
            return _delivery(state, message)
        case DeliveryReceipt() if state.open and message.round == state.open.round:
            return _delivery_receipt(state, message), []
        case WorkDone() if state.open and message.round == state.open.round and state.slot is not None:
            return replace(state, work=message), []
        case Reduced() if state.open and message.round == state.open.round:
            return replace(state, reduced={**state.reduced, message.chunk: message}), []
        case Applied():
            # No longer under way: a member that falls behind later must be free to fetch a whole state.
            asked = state.asked.drop([f"apply {message.round}"])
            return _hold(replace(state, asked=asked), message.round + 1, message.state_root)
        case StateFetched():
            return _hold(state, message.state_round, message.state_root)
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
    witnessed = state.witnessed
    if delivery.reducer != state.slot:
        if not _is_witness(state, delivery):
            return state, []
        receipt = DeliveryReceipt(
            kind="delivery_receipt",
            node=state.me.node,
            round=delivery.round,
            attempt=delivery.attempt,
            slot=delivery.slot,
            reducer=delivery.reducer,
            chunks=delivery.chunks,
            payloads=delivery.payloads,
        )
        witnessed = witnessed if receipt in witnessed else (*witnessed, receipt)
    nobody: Table[int, bool] = Table()
    arrived = {chunk: state.arrived.get(chunk, nobody).set(delivery.slot, True) for chunk in delivery.chunks}
    return replace(state, arrived={**state.arrived, **arrived}, witnessed=witnessed), [Acknowledge(delivery)]


def _is_witness(state: State, delivery: Delivery) -> bool:
    """Whether this member is the witness of these chunks, and their sender one whose update counts."""
    if state.assign is None or not is_among(delivery.slot, state.assign.accepted):
        return False
    mine = {item.chunk for item in state.assign.reducers if (item.slot, item.witness) == (delivery.reducer, state.slot)}
    return mine.issuperset(delivery.chunks)


def _delivery_receipt(state: State, receipt: DeliveryReceipt) -> State:
    if receipt.slot == state.slot:
        pairs = {(chunk, receipt.reducer) for chunk in receipt.chunks}
        return replace(state, delivered=state.delivered | pairs)
    handed_on = {
        item
        for item in state.witnessed
        if (item.slot, item.reducer, item.chunks) == (receipt.slot, receipt.reducer, receipt.chunks)
    }
    return replace(state, handed_on=state.handed_on | handed_on)


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
            return _absorb_seal(state, body), []
        case Assign():
            return _absorb_assign(state, body, now), []
        case Result():
            return replace(state, result=body), []
        case Close():
            return _compare(replace(state, closed_round=body.round + 1, closed_root=body.state_root))
        case Verdict():
            place = bisect_left(body.judged, state.me.node, key=lambda item: item.node)
            mine = [item for item in body.judged[place : place + 1] if item.node == state.me.node and not item.accepted]
            return replace(state, refused=mine[0].reason) if mine else state, []
        case Finish():
            return replace(state, finished=True), []


def _absorb_open(state: State, body: Open, now: float) -> State:
    return replace(
        state,
        open=body,
        opened_at=now,
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
        asked=asking.kept(state.asked, "state", "apply"),
    )


def _absorb_seal(state: State, body: Seal) -> State:
    place = bisect_left(body.commitments, state.slot, key=lambda item: item.slot) if state.slot is not None else 0
    mine = [item for item in body.commitments[place : place + 1] if item.slot == state.slot]
    return replace(state, seal=body, sealed_root=mine[0].update_root if mine else "")


def _absorb_assign(state: State, body: Assign, now: float) -> State:
    mine = [item for item in body.rejected if item.slot == state.slot]
    chunks = {item.chunk for item in body.reducers if item.slot == state.slot}
    still = {item.chunk: (item.slot, item.witness) for item in body.reducers}
    witnessed = tuple(
        item for item in state.witnessed if all(still.get(chunk) == (item.reducer, state.slot) for chunk in item.chunks)
    )
    return replace(
        state,
        assign=body,
        assigned_at=now,
        refused=mine[0].reason if mine else state.refused,
        batches=_batches(body, state.delivered) if is_among(state.slot, body.accepted) else (),
        mine=tuple(sorted(chunks)),
        reduced={chunk: item for chunk, item in state.reduced.items() if chunk in chunks},
        done=tuple(item for item in state.done if chunks.issuperset(item.chunks)),
        witnessed=witnessed,
    )


def _batches(assign: Assign, delivered: frozenset[tuple[int, int]]) -> tuple[Batch, ...]:
    """What is to be delivered after an assignment: the chunks of each reducer, a few at a time."""
    chunks: dict[tuple[int, int], list[int]] = {}
    for item in assign.reducers:
        if (item.chunk, item.slot) not in delivered:
            chunks.setdefault((item.slot, item.witness), []).append(item.chunk)
    return tuple(
        Batch(reducer, witness, tuple(left[start : start + CHUNKS_PER_MESSAGE_MAX]))
        for (reducer, witness), left in chunks.items()
        for start in range(0, len(left), CHUNKS_PER_MESSAGE_MAX)
    )
