"""What a member does next, from all that it knows. Pure."""

from __future__ import annotations

from dataclasses import replace

from anynode.rounds import asking
from anynode.rounds.effects import (
    Apply,
    Deliver,
    FetchState,
    MemberEffect,
    Reduce,
    Send,
    StartWork,
    StopWork,
)
from anynode.rounds.membership import LATE_SHARE, WITNESS_SHARE, WORK_SHARE, Batch, State, Step, delivery_key
from anynode.rounds.messages import Average, ChunkDone, Commitment, DeliveryReceipt, Join, StateReport, Sync, WorkDone
from anynode.rounds.records import CHUNKS_PER_MESSAGE_MAX, Assign, Open, Seal

WORK_S_MIN = 0.1


def plan(state: State, now: float) -> Step:
    """Everything that is due now."""
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
        left_s = state.opened_at + WORK_SHARE * opened.work_s - now
        start = StartWork(opened, slot, max(WORK_S_MIN, left_s))
        return _ask(state, key, start, now) if ready else (state, [])
    # Also after the receipt, until the seal shows it: a restarted coordinator has forgotten what it had received.
    pause_s = state.me.resend_s * (4 if state.receipt else 1)
    return _repeat(state, "commit", Send(_commitment(state, opened, slot, state.work)), now, pause_s)


def _commitment(state: State, opened: Open, slot: int, work: WorkDone) -> Commitment:
    return Commitment(
        kind="commitment",
        node=state.me.node,
        round=opened.round,
        slot=slot,
        steps=work.steps,
        samples=work.samples,
        micro_batch=work.micro_batch,
        update_root=work.update_root,
        trace_root=work.trace_root,
        hardware=state.me.hardware,
        code_version=state.me.code_version,
        energy_mj=work.energy_mj,
    )


# ---------------------------------------------------------------- exchange


def _plan_exchange(state: State, now: float) -> Step:
    opened, seal, assign = state.open, state.seal, state.assign
    if opened is None or seal is None or assign is None or state.slot is None or state.result:
        return state, []
    effects: list[MemberEffect] = []
    if state.sealed_root:  # also after a restart: the update lies on the disk
        for batch in state.batches:
            if (batch.chunks[0], batch.reducer) not in state.delivered:
                state, more = _plan_delivery(state, opened, assign, batch, now)
                effects += more
    for chunk in state.mine:
        if chunk not in state.reduced:
            state, more = _plan_reduction(state, Reduce(opened, seal, assign, chunk, ()), now)
            effects += more
    state = _tell(state, opened, assign)
    for done in state.done:
        key = f"done {done.attempt} {done.chunks[0]}"
        state, more = _repeat(state, key, Send(done), now, state.me.resend_s)
        effects += more
    for item in state.witnessed:
        state, more = _plan_witness(state, seal, item, now)
        effects += more
    return state, effects


def _plan_delivery(state: State, opened: Open, assign: Assign, batch: Batch, now: float) -> Step:
    """To the reducer; when it has given no receipt in time also to its witness, who must not be this member itself."""
    slot, effects = state.slot or 0, list[MemberEffect]()
    to_slots = [batch.reducer]
    in_time = now < state.assigned_at + WITNESS_SHARE * opened.exchange_s
    if not in_time and batch.witness not in (batch.reducer, slot):
        to_slots.append(batch.witness)
    for to_slot in to_slots:
        deliver = Deliver(opened.round, assign.attempt, slot, to_slot, batch.chunks, state.sealed_root, batch.reducer)
        state, more = _ask(state, delivery_key(deliver), deliver, now)
        effects += more
    return state, effects


def _plan_witness(state: State, seal: Seal, receipt: DeliveryReceipt, now: float) -> Step:
    """Tell the coordinator what was taken for a reducer, and hand it on to that reducer."""
    first = f"{receipt.attempt} {receipt.slot} {receipt.chunks[0]}"
    state, effects = _repeat(state, f"witness {first}", Send(receipt), now, state.me.resend_s)
    if receipt in state.handed_on:
        return state, effects
    roots = {item.slot: item.update_root for item in seal.commitments}
    deliver = Deliver(
        round=receipt.round,
        attempt=receipt.attempt,
        slot=receipt.slot,
        to_slot=receipt.reducer,
        chunks=receipt.chunks,
        update_root=roots[receipt.slot],
        for_slot=receipt.reducer,
    )
    state, more = _ask(state, delivery_key(deliver), deliver, now)
    return state, effects + more


def _plan_reduction(state: State, effect: Reduce, now: float) -> Step:
    """Average a chunk once everybody has delivered it, or time is up: ``effect`` still lacks its senders."""
    opened, assign, arrived = effect.open, effect.assign, state.arrived.get(effect.chunk, ())
    # A sender that has died must not hold up the rest: a part of the exchange's time is for deliveries.
    late = now >= state.assigned_at + LATE_SHARE * opened.exchange_s
    if not arrived or (len(arrived) < len(assign.accepted) and not late):
        return state, []
    senders = set(arrived) & set(assign.accepted)
    if not senders or (len(senders) < len(assign.accepted) and not late):
        return state, []
    effect = replace(effect, senders=tuple(sorted(senders)))
    return _ask(state, f"reduce {effect.chunk} {assign.attempt}", effect, now)


def _tell(state: State, opened: Open, assign: Assign) -> State:
    """Put reduced chunks into words to the coordinator: a few at a time, or all that are left when all are reduced."""
    if not state.reduced:
        return state
    told = {chunk for item in state.done for chunk in item.chunks}
    untold = [chunk for chunk in state.mine if chunk in state.reduced and chunk not in told]
    whole = len(untold) // CHUNKS_PER_MESSAGE_MAX * CHUNKS_PER_MESSAGE_MAX
    end = len(untold) if len(state.reduced) == len(state.mine) else whole
    new = []
    for start in range(0, end, CHUNKS_PER_MESSAGE_MAX):
        items = [state.reduced[chunk] for chunk in untold[start : start + CHUNKS_PER_MESSAGE_MAX]]
        averages = tuple(Average(item.chunk, item.senders, item.result) for item in items)
        new.append(ChunkDone("chunk_done", state.me.node, opened.round, assign.attempt, state.slot or 0, averages))
    return replace(state, done=(*state.done, *new)) if new else state


# ---------------------------------------------------------------- the end of a round


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
