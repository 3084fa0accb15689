"""A member of a job as a pure state machine: ``apply(state, message, now) -> (state, effects)``.

It follows the coordinator's records, keeps the state of the newest round, and takes part in each round that has a
slot for it. `_take_in` only remembers; `_plan` alone decides what is to be done next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from anynode.rounds import asking
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
    WorkDone,
)
from anynode.rounds.records import (
    CHUNKS_PER_MESSAGE_MAX,
    GENESIS,
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


@dataclass(frozen=True, slots=True)
class Self:
    """Who this member is, and how often it repeats what was not answered (seconds)."""

    job: str
    node: str
    peer: str
    hardware: str
    code_version: str
    reduces: bool = True
    sync_s: float = 1.0
    join_s: float = 5.0
    resend_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Chunks that go to one reducer in one delivery."""

    reducer: int
    witness: int
    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class State:
    """Everything a member knows. ``held_root`` is the state it has saved: the one ``held_round`` starts from.

    Of the exchange: ``batches`` are what is to be delivered, ``delivered`` the pairs of chunk and reducer for which
    there is a receipt, ``mine`` the chunks to be reduced here, ``arrived`` their senders so far, ``done`` what was said
    of them to the coordinator.
    """

    me: Self
    height: int = 0
    head: str = GENESIS
    closed_round: int = -1
    closed_root: str = ""
    held_round: int = -1
    held_root: str = ""
    open: Open | None = None
    seal: Seal | None = None
    assign: Assign | None = None
    assigned_at: float = 0.0
    result: Result | None = None
    slot: int | None = None
    work: WorkDone | None = None
    receipt: Receipt | None = None
    batches: tuple[Batch, ...] = ()
    delivered: frozenset[tuple[int, int]] = frozenset()
    mine: tuple[int, ...] = ()
    arrived: Mapping[int, frozenset[int]] = field(default_factory=dict)
    reduced: Mapping[int, Reduced] = field(default_factory=dict)
    done: tuple[ChunkDone, ...] = ()
    refused: str = ""
    finished: bool = False
    asked: Mapping[str, float] = field(default_factory=dict)


Step = tuple[State, list[MemberEffect]]


def apply(state: State, message: MemberMessage, now: float) -> Step:
    """Take in one message or event, then plan."""
    state, effects = _take_in(state, message, now)
    state, planned = _plan(state, now)
    return state, effects + planned


def restore(state: State, records: Iterable[Record], now: float) -> State:
    """A fresh ``state`` after the records that an earlier run kept: nothing is planned yet, so nothing is under way."""
    for record in records:
        state, _ = _absorb(state, record, now)
    return state


# ---------------------------------------------------------------- messages


def _take_in(state: State, message: MemberMessage, now: float) -> Step:
    match message:
        case RecordsArrived():
            return _records(state, message.records, now)
        case Receipt() if _is_mine(state, message):
            return replace(state, receipt=message), []
        case Refused():
            return replace(state, refused=message.reason), []
        case Delivery():
            return _delivery(state, message)
        case DeliveryReceipt() if state.open and message.round == state.open.round and message.slot == state.slot:
            pairs = {(chunk, message.reducer) for chunk in message.chunks}
            return replace(state, delivered=state.delivered | pairs), []
        case WorkDone() if state.open and message.round == state.open.round and state.slot is not None:
            return replace(state, work=message), []
        case Reduced() if state.open and message.round == state.open.round:
            return replace(state, reduced={**state.reduced, message.chunk: message}), []
        case Applied():
            # No longer under way: a member that falls behind later must be free to fetch a whole state.
            asked = {key: when for key, when in state.asked.items() if key != f"apply {message.round}"}
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
    """Keep chunks that the shell has checked against the sender's sealed manifest."""
    opened = state.open
    if opened is None or delivery.round != opened.round or delivery.slot >= len(opened.members):
        return state, []
    if opened.members[delivery.slot].node != delivery.node:
        return state, []
    arrived = {chunk: state.arrived.get(chunk, frozenset()) | {delivery.slot} for chunk in delivery.chunks}
    return replace(state, arrived={**state.arrived, **arrived}), [Acknowledge(delivery)]


def _hold(state: State, round_: int, root: str) -> Step:
    if round_ < state.held_round:
        return state, []
    asked = {key: when for key, when in state.asked.items() if not key.startswith("state")}
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
        state, more = _absorb(state, record, now)
        effects += more
    return state, effects


def _absorb(state: State, record: Record, now: float) -> Step:
    body = record.body
    state = replace(state, height=record.height + 1, head=record.hash)
    match body:
        case Begin():
            return _compare(replace(state, closed_round=0, closed_root=body.state_root))
        case Open():
            return _absorb_open(state, body), []
        case Seal():
            return replace(state, seal=body), []
        case Assign():
            return _absorb_assign(state, body, now), []
        case Result():
            return replace(state, result=body), []
        case Close():
            return _compare(replace(state, closed_round=body.round + 1, closed_root=body.state_root))
        case Verdict():
            mine = [item for item in body.judged if item.node == state.me.node and not item.accepted]
            return replace(state, refused=mine[0].reason) if mine else state, []
        case Finish():
            return replace(state, finished=True), []


def _absorb_open(state: State, body: Open) -> State:
    slots = [member.slot for member in body.members if member.node == state.me.node]
    fetching = {key: when for key, when in state.asked.items() if key.startswith("state")}
    applying = {key: when for key, when in state.asked.items() if key.startswith("apply")}
    return replace(
        state,
        open=body,
        seal=None,
        assign=None,
        result=None,
        slot=slots[0] if slots else None,
        work=None,
        receipt=None,
        batches=(),
        delivered=frozenset(),
        mine=(),
        arrived={},
        reduced={},
        done=(),
        asked={**fetching, **applying},
    )


def _absorb_assign(state: State, body: Assign, now: float) -> State:
    mine = [item for item in body.rejected if item.slot == state.slot]
    chunks = {item.chunk for item in body.reducers if item.slot == state.slot}
    return replace(
        state,
        assign=body,
        assigned_at=now,
        refused=mine[0].reason if mine else state.refused,
        batches=_batches(body, state.delivered),
        mine=tuple(sorted(chunks)),
        reduced={chunk: item for chunk, item in state.reduced.items() if chunk in chunks},
        done=tuple(item for item in state.done if chunks.issuperset(item.chunks)),
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


# ---------------------------------------------------------------- what comes next


def _plan(state: State, now: float) -> Step:
    effects: list[MemberEffect] = []
    for planner in (_plan_presence, _plan_state, _plan_work, _plan_exchange, _plan_report):
        state, more = planner(state, now)
        effects += more
    return state, effects


def _plan_presence(state: State, now: float) -> Step:
    me, effects = state.me, list[MemberEffect]()
    has_place = state.open is not None and state.slot is not None
    if not has_place and not state.finished and not state.refused:
        join = Join("join", me.node, me.peer, me.hardware, me.code_version, me.reduces)
        state, more = _repeat(state, "join", Send(join), now, me.join_s)
        effects += more
    state, more = _repeat(state, "sync", Send(Sync("sync", me.node, state.height, state.held_round)), now, me.sync_s)
    return state, effects + more


def _plan_state(state: State, now: float) -> Step:
    opened, result = state.open, state.result
    if opened and result and state.held_round == opened.round:
        return _ask(state, f"apply {opened.round}", Apply(opened, result), now)
    up_to_date = state.held_round >= state.closed_round
    if state.closed_round < 0 or up_to_date or asking.under_way(state.asked, "apply"):
        return state, []
    wanted = FetchState(state.closed_round, state.closed_root)
    return _ask(state, f"state {state.closed_round}", wanted, now)


def _plan_work(state: State, now: float) -> Step:
    opened, slot = state.open, state.slot
    if opened is None or slot is None:
        return state, []
    key = f"work {opened.round}"
    if state.seal is not None:
        started = key in state.asked and state.work is None
        return _ask(state, f"stop {opened.round}", StopWork(opened.round), now) if started else (state, [])
    if state.work is None:
        ready = state.held_round == opened.round and not state.refused
        return _ask(state, key, StartWork(opened, slot), now) if ready else (state, [])
    commitment = Commitment(
        kind="commitment",
        node=state.me.node,
        round=opened.round,
        slot=slot,
        steps=state.work.steps,
        samples=state.work.samples,
        micro_batch=state.work.micro_batch,
        update_root=state.work.update_root,
        trace_root=state.work.trace_root,
        hardware=state.me.hardware,
        code_version=state.me.code_version,
        energy_mj=state.work.energy_mj,
    )
    # Also after the receipt, until the seal shows it: a restarted coordinator has forgotten what it had received.
    pause_s = state.me.resend_s * (4 if state.receipt else 1)
    return _repeat(state, "commit", Send(commitment), now, pause_s)


def _plan_exchange(state: State, now: float) -> Step:
    opened, seal, assign, slot = state.open, state.seal, state.assign, state.slot
    if opened is None or seal is None or assign is None or slot is None or state.result:
        return state, []
    sealed = {item.slot: item for item in seal.commitments}
    effects: list[MemberEffect] = []
    if slot not in assign.accepted or state.work is None:
        return state, []
    if sealed[slot].update_root != state.work.update_root:
        return state, []
    for batch in state.batches:
        if (batch.chunks[0], batch.reducer) not in state.delivered:
            root, to = sealed[slot].update_root, batch.reducer
            deliver = Deliver(opened.round, assign.attempt, slot, to, batch.chunks, root, batch.reducer)
            state, more = _ask(state, delivery_key(deliver), deliver, now)
            effects += more
    for chunk in state.mine:
        if chunk not in state.reduced:
            state, more = _plan_reduction(state, chunk, now)
            effects += more
    state = _tell(state)
    for done in state.done:
        key = f"done {done.attempt} {done.chunks[0]}"
        state, more = _repeat(state, key, Send(done), now, state.me.resend_s)
        effects += more
    return state, effects


def delivery_key(deliver: Deliver) -> str:
    """The name under which a delivery is waited for."""
    return f"deliver {deliver.attempt} {deliver.chunks[0]} {deliver.to_slot}"


def _tell(state: State) -> State:
    """Put reduced chunks into words to the coordinator: a few at a time, or all that are left when all are reduced."""
    opened, assign, slot = state.open, state.assign, state.slot
    if opened is None or assign is None or slot is None:
        return state
    told = {chunk for item in state.done for chunk in item.chunks}
    untold = [chunk for chunk in state.mine if chunk in state.reduced and chunk not in told]
    whole = len(untold) // CHUNKS_PER_MESSAGE_MAX * CHUNKS_PER_MESSAGE_MAX
    end = len(untold) if len(state.reduced) == len(state.mine) else whole
    new = []
    for start in range(0, end, CHUNKS_PER_MESSAGE_MAX):
        items = [state.reduced[chunk] for chunk in untold[start : start + CHUNKS_PER_MESSAGE_MAX]]
        averages = tuple(Average(item.chunk, item.senders, item.result) for item in items)
        new.append(ChunkDone("chunk_done", state.me.node, opened.round, assign.attempt, slot, averages))
    return replace(state, done=(*state.done, *new)) if new else state


def _plan_reduction(state: State, chunk: int, now: float) -> Step:
    opened, seal, assign = state.open, state.seal, state.assign
    if opened is None or seal is None or assign is None or state.slot is None:
        return state, []
    senders = state.arrived.get(chunk, frozenset()) & set(assign.accepted)
    # A sender that has died must not hold up the rest: half of the exchange's time is for deliveries.
    late = now >= state.assigned_at + opened.exchange_s / 2
    if not senders or (senders != set(assign.accepted) and not late):
        return state, []
    effect = Reduce(opened, seal, assign, chunk, tuple(sorted(senders)))
    return _ask(state, f"reduce {chunk} {assign.attempt}", effect, now)


def _plan_report(state: State, now: float) -> Step:
    opened = state.open
    ahead = opened is not None and state.held_round == opened.round + 1 == state.closed_round + 1
    if opened is None or not ahead:
        return state, []
    report = StateReport("state_report", state.me.node, opened.round, state.held_root)
    return _repeat(state, f"report {opened.round}", Send(report), now, state.me.resend_s)


def _ask(state: State, key: str, effect: MemberEffect, now: float) -> Step:
    if not asking.may_ask(state.asked, key, now):
        return state, []
    return replace(state, asked=asking.mark(state.asked, key)), [effect]


def _repeat(state: State, key: str, effect: MemberEffect, now: float, pause_s: float) -> Step:
    if not asking.may_ask(state.asked, key, now):
        return state, []
    return replace(state, asked=asking.mark(state.asked, key, now + pause_s)), [effect]
