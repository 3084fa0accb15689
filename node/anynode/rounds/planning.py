"""What a member does next, from all that it knows. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from anynode.rounds import asking
from anynode.rounds.course import CHUNKS_PER_MESSAGE_MAX, Assign, Open, Seal
from anynode.rounds.effects import (
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
from anynode.rounds.events import WorkDone
from anynode.rounds.membership import (
    LATE_SHARE,
    NEXT_WITNESS_SHARE,
    STAY_S,
    TELL_S,
    VERDICT_S,
    WITNESS_SHARE,
    Batch,
    State,
    Step,
    delivery_key,
)
from anynode.rounds.messages import (
    RECEIPTS_MAX,
    Average,
    ChunkDone,
    Claim,
    Commitment,
    DeliveryReceipt,
    Join,
    StateReport,
    Sync,
)
from anynode.rounds.witnesses import witnesses_of

WORK_S_MIN = 0.1


def plan(state: State, now: float) -> Step:
    """Everything that is due now."""
    effects: list[MemberEffect] = []
    if _is_over(state, now) and not state.over:
        state = replace(state, over=True)
    for planner in (
        _plan_presence,
        _plan_state,
        _plan_work,
        _plan_exchange,
        _plan_report,
        _plan_claims,
        _plan_verdicts,
    ):
        state, more = planner(state, now)
        effects += more
    return state, effects


def _is_over(state: State, now: float) -> bool:
    ended = state.finished and state.held_round >= state.closed_round
    out = bool(state.turned_away) or (bool(state.refused) and now >= state.asks_until)
    return out or (ended and (not state.unjudged or now >= state.finished_at + STAY_S))


def _plan_presence(state: State, now: float) -> Step:
    me, effects = state.me, list[MemberEffect]()
    has_place = state.open is not None and state.slot is not None and state.closed_round <= state.open.round
    waits = now < state.waits_until
    if (not has_place or waits) and not state.finished and not state.refused:
        join = Join("join", me.node, me.peer, me.hardware, me.code_version, me.reduces, audits=me.audits)
        state, more = _ask(state, "join", Send(join), now, me.join_s)
        effects += more
    state, more = _ask(state, "sync", Send(Sync("sync", me.node, state.height, state.held_round)), now, me.sync_s)
    return state, effects + more


def _plan_state(state: State, now: float) -> Step:
    opened, result = state.open, state.result
    if opened and result and state.held_round == opened.round:
        return _ask(state, f"apply {opened.round}", Apply(opened, result), now)
    up_to_date = state.held_round >= state.closed_round
    if state.closed_round < 0 or up_to_date or asking.under_way(state.asked, "apply"):
        return state, []
    for missed, averages in state.past:
        if missed.round == state.held_round and asking.may_ask(state.asked, f"apply {missed.round}", now):
            return _ask(state, f"apply {missed.round}", Apply(missed, averages), now)
    if _is_coming(state):
        return state, []
    wanted = FetchState(state.closed_round, state.closed_root)
    return _ask(state, f"state {state.closed_round}", wanted, now)


def _is_coming(state: State) -> bool:
    """Whether a state is being fetched that the rounds since can bring up to date."""
    first = state.past[0][0].round if state.past else state.closed_round
    return any(state.asked.get(f"state {round_}") == math.inf for round_ in range(first, state.closed_round))


def _plan_work(state: State, now: float) -> Step:
    opened, slot = state.open, state.slot
    if opened is None or slot is None:
        return state, []
    key = f"work {opened.round}"
    if state.seal is not None:
        started = key in state.asked and state.work is None
        return _ask(state, f"stop {opened.round}", StopWork(opened.round), now) if started else (state, [])
    if state.work is None:
        ready = state.held_round == opened.round and not state.refused and now >= state.waits_until
        start = StartWork(opened, slot, max(WORK_S_MIN, state.work_until - now))
        return _ask(state, key, start, now) if ready else (state, [])
    # Also after the receipt, until the seal shows it: a restarted coordinator has forgotten what it had received.
    pause_s = state.me.resend_s * (4 if state.receipt else 1)
    return _ask(state, "commit", Send(_commitment(state, opened, slot, state.work)), now, pause_s)


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
            if any((chunk, batch.reducer) not in state.delivered for chunk in batch.chunks):
                state, more = _plan_delivery(state, opened, assign, batch, now)
                effects += more
    for chunk in state.mine:
        if chunk not in state.reduced:
            state, more = _plan_reduction(state, Reduce(opened, seal, assign, chunk, ()), now)
            effects += more
    state = _tell(state, opened, assign, now)
    for done in state.done:
        key = f"done {done.attempt} {done.chunks[0]}"
        state, more = _ask(state, key, Send(done), now, state.me.resend_s)
        effects += more
    for item in state.witnessed:
        state, more = _plan_witness(state, seal, item, now)
        effects += more
    return state, effects


def _plan_delivery(state: State, opened: Open, assign: Assign, batch: Batch, now: float) -> Step:
    """To the reducer; when it has given no receipt in time also to one witness after the other."""
    slot, effects = state.slot or 0, list[MemberEffect]()
    to_slots = [batch.reducer]
    waited = (now - state.assigned_at) / opened.exchange_s
    if waited >= WITNESS_SHARE:
        asked = 1 + int((waited - WITNESS_SHARE) / NEXT_WITNESS_SHARE)
        to_slots += witnesses_of(opened, assign, batch.reducer, slot)[:asked]
    for to_slot in to_slots:
        deliver = Deliver(opened.round, assign.attempt, slot, to_slot, batch.chunks, state.sealed_root, batch.reducer)
        state, more = _ask(state, delivery_key(deliver), deliver, now)
        effects += more
    return state, effects


def _plan_witness(state: State, seal: Seal, receipt: DeliveryReceipt, now: float) -> Step:
    """Tell the coordinator what was taken for a reducer, and hand it on to that reducer."""
    first = f"{receipt.attempt} {receipt.slot} {receipt.chunks[0]}"
    state, effects = _ask(state, f"witness {first}", Send(receipt), now, state.me.resend_s)
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
    """Average a chunk once all have delivered it that are there, or time is up: ``effect`` still lacks its senders."""
    senders = state.fixed.get(effect.chunk) or _senders(state, effect, now)
    if not senders:
        return state, []
    asked, effects = _ask(
        state, f"reduce {effect.chunk} {effect.assign.attempt}", replace(effect, senders=senders), now
    )
    return (replace(asked, fixed={**state.fixed, effect.chunk: senders}), effects) if effects else (state, [])


def _senders(state: State, effect: Reduce, now: float) -> tuple[int, ...]:
    """With whom a chunk is averaged now; nobody while others are waited for."""
    opened, assign, arrived = effect.open, effect.assign, state.arrived.get(effect.chunk, ())
    # A sender that delivers to some only must not hold up the rest: a part of the exchange's time is for deliveries.
    late = now >= state.assigned_at + LATE_SHARE * opened.exchange_s
    if not arrived or (len(arrived) < len(assign.accepted) - len(assign.absent) and not late):
        return ()
    senders = set(arrived) & set(assign.accepted)
    if not late and not senders.issuperset(set(assign.accepted) - set(assign.absent)):
        return ()
    return tuple(sorted(senders))


def _tell(state: State, opened: Open, assign: Assign, now: float) -> State:
    """Put reduced chunks into words to the coordinator: a few at a time, what there is where nothing was said for a
    while, and all that are left when all are reduced.
    """
    if not state.reduced:
        return state
    told = {chunk for item in state.done for chunk in item.chunks}
    untold = [chunk for chunk in state.mine if chunk in state.reduced and chunk not in told]
    whole = len(untold) // CHUNKS_PER_MESSAGE_MAX * CHUNKS_PER_MESSAGE_MAX
    due = now >= state.told_at + TELL_S or len(state.reduced) == len(state.mine)
    new = []
    for start in range(0, len(untold) if due else whole, CHUNKS_PER_MESSAGE_MAX):
        items = [state.reduced[chunk] for chunk in untold[start : start + CHUNKS_PER_MESSAGE_MAX]]
        averages = tuple(Average(item.chunk, item.senders, item.result) for item in items)
        new.append(ChunkDone("chunk_done", state.me.node, opened.round, assign.attempt, state.slot or 0, averages))
    return replace(state, done=(*state.done, *new), told_at=now) if new else state


# ---------------------------------------------------------------- the end of a round


def _plan_report(state: State, now: float) -> Step:
    opened = state.open
    ahead = opened is not None and state.held_round == opened.round + 1 == state.closed_round + 1
    if opened is None or not ahead:
        return state, []
    report = StateReport("state_report", state.me.node, opened.round, state.held_root)
    return _ask(state, f"report {opened.round}", Send(report), now, state.me.resend_s)


def _plan_claims(state: State, now: float) -> Step:
    """What a result leaves out is claimed until the verdict."""
    effects: list[MemberEffect] = []
    for round_, receipts in state.claims.items():
        if round_ < state.closed_round:
            claim = Claim("claim", state.me.node, round_, receipts[0].slot, receipts[:RECEIPTS_MAX])
            state, more = _ask(state, f"claim {round_}", Send(claim), now, state.me.resend_s)
            effects += more
    return state, effects


def _plan_verdicts(state: State, now: float) -> Step:
    """Say once of each verdict that it is overdue."""
    effects: list[MemberEffect] = []
    for round_, item in state.unjudged.items():
        if now < item.since + VERDICT_S:
            break  # they are in order
        sentence = (
            f"round {round_} was sealed {now - item.since:.0f} s ago and has no verdict: its coordinator waits for a "
            "reducer to give what it has averaged (for up to eight rounds), cannot read its chain, or withholds the "
            "audit secret; what was done in it is not paid until then"
        )
        state, more = _ask(state, f"verdict {round_}", Fault(sentence), now)
        effects += more
    return state, effects


def _ask(state: State, key: str, effect: MemberEffect, now: float, pause_s: float = math.inf) -> Step:
    """Ask the shell for an effect, unless it is under way or resting; and again after ``pause_s``."""
    if not asking.may_ask(state.asked, key, now):
        return state, []
    return replace(state, asked=asking.mark(state.asked, key, now + pause_s)), [effect]
