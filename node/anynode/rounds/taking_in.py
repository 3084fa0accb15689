"""What a coordinator makes of a message: it remembers what fits, ignores what does not, and answers. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from anynode.rounds import asking
from anynode.rounds.coordination import Node, Phase, State, Step, with_node
from anynode.rounds.effects import Answer, SendRecords
from anynode.rounds.membership import LATE_SHARE
from anynode.rounds.messages import (
    Applied,
    Beacon,
    ChunkDone,
    Commitment,
    CoordinatorMessage,
    DeliveryReceipt,
    Drawn,
    Failed,
    Gone,
    Join,
    Leave,
    Receipt,
    Refused,
    Replayed,
    ResultFetched,
    StateReport,
    Sync,
)


def take_in(state: State, message: CoordinatorMessage, now: float) -> Step:
    """The state that remembers ``message``, and what is answered at once."""
    match message:
        case Join():
            return _join(state, message, now)
        case Sync():
            return _sync(state, message, now)
        case Leave():
            return with_node(state, message.node, joined=False), []
        case Gone():
            return with_node(state, message.node, seen_at=-math.inf), []
        case Commitment():
            return _commitment(state, message, now)
        case ChunkDone():
            return _chunk_done(state, message, now), []
        case DeliveryReceipt():
            return _witnessed(state, message), []
        case ResultFetched():
            return _result_fetched(state, message), []
        case StateReport() if message.round == state.round and state.phase is Phase.APPLYING:
            return replace(state, reports=state.reports.set(message.node, message)), []
        case Applied() if message.round == state.round and state.phase is Phase.APPLYING:
            return replace(state, applied_root=message.state_root), []
        case Beacon() if message.round == state.round:
            return replace(state, beacon=message), []
        case Replayed():
            return _replayed(state, message), []
        case Drawn() if message.round in state.audits:
            audit = replace(state.audits[message.round], drawn=message)
            return replace(state, audits={**state.audits, message.round: audit}), []
        case Failed():
            return replace(state, asked=asking.failed(state.asked, message.what, now)), []
        case _:
            return state, []


def _join(state: State, join: Join, now: float) -> Step:
    known = state.nodes.get(join.node, Node(peer=join.peer, hardware=join.hardware))
    if known.banned:
        return state, [Answer(join.node, Refused("refused", join.node, known.banned))]
    if state.rules.hardware not in ("", join.hardware):
        reason = f"work of class {join.hardware} cannot be audited here, where {state.rules.hardware} replays"
        return state, [Answer(join.node, Refused("refused", join.node, reason[:500]))]
    node = replace(
        known,
        peer=join.peer,
        hardware=join.hardware,
        code_version=join.code_version,
        reduces=join.reduces,
        seen_at=now,
        joined=True,
    )
    return replace(state, nodes=state.nodes.set(join.node, node)), []


def _sync(state: State, sync: Sync, now: float) -> Step:
    state = with_node(state, sync.node, seen_at=now, state_round=sync.state_round)
    behind = sync.height < state.height
    return state, [SendRecords(sync.node, sync.height)] if behind else []


def _commitment(state: State, commitment: Commitment, now: float) -> Step:
    opened = state.open
    if opened is None or state.phase is not Phase.WORKING or commitment.round != opened.round:
        return state, []
    member = opened.members[commitment.slot] if commitment.slot < len(opened.members) else None
    steps_fit = member is not None and 0 < commitment.steps <= member.quota_steps
    if member is None or member.node != commitment.node or not steps_fit:
        return state, []
    if commitment.samples != commitment.steps * state.rules.batch_size or commitment.hardware != member.hardware:
        return state, []
    kept = state.commitments.get(commitment.slot)
    if kept is None:
        if not state.nodes[commitment.node].joined:
            return state, []  # it has left: what it commits to now, nobody could fetch from it
        kept = commitment
        committed_at = state.committed_at.set(kept.slot, now)
        state = replace(state, commitments=state.commitments.set(kept.slot, kept), committed_at=committed_at)
    receipt = Receipt("receipt", kept.node, kept.round, kept.slot, kept.update_root, kept.trace_root)
    return state, [Answer(kept.node, receipt)]


def _chunk_done(state: State, done: ChunkDone, now: float) -> State:
    assign, opened = state.assign, state.open
    if state.phase is not Phase.EXCHANGING or assign is None or opened is None or done.round != opened.round:
        return state
    if done.slot >= len(opened.members) or opened.members[done.slot].node != done.node:
        return state
    reducers = {item.chunk: item.slot for item in assign.reducers}
    accepted = set(assign.accepted)
    honest_form = (
        done.attempt <= assign.attempt
        and len(set(done.chunks)) == len(done.chunks)
        and all(reducers.get(chunk) == done.slot for chunk in done.chunks)
        and all(_is_set_of(item.senders, accepted) for item in done.averages)
    )
    if not honest_form or not state.fetched.isdisjoint(done.chunks):
        return state
    omitting = [
        item.chunk for item in done.averages if not state.witnessed.get(item.chunk, frozenset()) <= set(item.senders)
    ]
    if omitting:
        return replace(state, omitting=state.omitting.union(omitting))
    in_time = now < state.since + LATE_SHARE * opened.exchange_s
    if in_time and any(len(item.senders) < len(accepted) for item in done.averages):
        return state  # the others still have time to deliver, to the reducer or to its witness
    first = any(chunk not in state.done for chunk in done.chunks)
    state = replace(state, done=without(state.done, done.chunks) | dict.fromkeys(done.chunks, done))
    return _measure_reducer(state, done, now) if first else state


def _witnessed(state: State, receipt: DeliveryReceipt) -> State:
    """A witness has taken chunks for a reducer that gave no receipt: what it will say must hold their sender.

    Only until that reducer has spoken, or a witness could take away its work whenever it liked.
    """
    assign, opened = state.assign, state.open
    if state.phase is not Phase.EXCHANGING or assign is None or opened is None or receipt.round != opened.round:
        return state
    held = {item.chunk: item for item in assign.reducers if item.chunk in receipt.chunks}
    fits = receipt.slot in assign.accepted and all(
        chunk in held
        and held[chunk].slot == receipt.reducer
        and opened.members[held[chunk].witness].node == receipt.node
        and chunk not in state.done
        for chunk in receipt.chunks
    )
    if not fits:
        return state
    now_witnessed = {chunk: state.witnessed.get(chunk, frozenset()) | {receipt.slot} for chunk in receipt.chunks}
    return replace(state, witnessed={**state.witnessed, **now_witnessed})


def _measure_reducer(state: State, done: ChunkDone, now: float) -> State:
    """How many chunks a second the reducer has managed since they were assigned."""
    if state.opened_at is None or now <= state.since:
        return state
    chunks = sum(item.slot == done.slot for item in state.done.values())
    return with_node(state, done.node, chunks_per_s=chunks / (now - state.since))


def _is_set_of(senders: tuple[int, ...], accepted: set[int]) -> bool:
    return bool(senders) and tuple(sorted(set(senders))) == senders and accepted.issuperset(senders)


def without(done: Mapping[int, ChunkDone], chunks: tuple[int, ...]) -> dict[int, ChunkDone]:
    """What reducers have said, without every message that speaks of one of these chunks: its signature covers all."""
    gone = {chunk for other in chunks if other in done for chunk in done[other].chunks}
    return {chunk: item for chunk, item in done.items() if chunk not in gone}


def _result_fetched(state: State, fetched: ResultFetched) -> State:
    done = fetched.done
    if state.phase is not Phase.EXCHANGING or any(state.done.get(chunk) != done for chunk in done.chunks):
        return state
    return replace(state, fetched=state.fetched.union(done.chunks))


def _replayed(state: State, replayed: Replayed) -> State:
    if replayed.round in state.audits:
        audit = state.audits[replayed.round]
        audit = replace(audit, replayed={**audit.replayed, replayed.slot: replayed})
        return replace(state, audits={**state.audits, replayed.round: audit})
    if state.phase is Phase.ADMITTING and replayed.round == state.round:
        return replace(state, replayed={**state.replayed, replayed.slot: replayed})
    return state
