"""What a coordinator makes of a message: it remembers what fits, ignores what does not, and answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from anynode.rounds import asking
from anynode.rounds.audits import Audit
from anynode.rounds.coordination import Node, Phase, State, Step, last_worked_in, with_node
from anynode.rounds.correcting import correction_key, give_up, take_in_correction, take_in_excision
from anynode.rounds.effects import Answer, SendRecords
from anynode.rounds.events import (
    Answered,
    Appealed,
    Applied,
    AuditRates,
    AveragedAgain,
    Beacon,
    CoordinatorMessage,
    Corrected,
    Drawn,
    Ended,
    Excise,
    Failed,
    Gone,
    Heard,
    Recomputed,
    Replayed,
    ResultFetched,
)
from anynode.rounds.hearing import take_in_appeal, take_in_ruling
from anynode.rounds.membership import LATE_SHARE, WORK_SHARE, find_slot
from anynode.rounds.messages import (
    ChunkDone,
    Claim,
    Commitment,
    DeliveryReceipt,
    Join,
    Leave,
    Receipt,
    Refused,
    StateReport,
    Sync,
    WorkLeft,
)
from anynode.rounds.quotas import planned_s, smooth
from anynode.rounds.witnesses import witnesses_of


def take_in(state: State, message: CoordinatorMessage, now: float) -> Step:
    """The state that remembers ``message``, and what is answered at once."""
    match message:
        case Join():
            return _join(state, message, now)
        case Sync():
            return _sync(state, message, now)
        case Leave():
            return with_node(state, message.node, joined=False), []
        case Ended():
            return replace(state, ended=True), []
        case Gone():
            return with_node(state, message.node, gone_at=now), []
        case Commitment():
            return _commitment(state, message, now)
        case ChunkDone():
            return _chunk_done(state, message, now), []
        case DeliveryReceipt():
            return _witnessed(state, message), []
        case ResultFetched():
            return _result_fetched(state, message), []
        case Claim() if message.round in state.audits:
            audit = state.audits[message.round].with_claim(message)
            return replace(state, audits={**state.audits, message.round: audit}), []
        case StateReport() if message.round == state.round and state.phase is Phase.APPLYING:
            return replace(state, reports=state.reports.set(message.node, message)), []
        case Applied() if message.round == state.round and state.phase is Phase.APPLYING:
            return replace(state, applied_root=message.state_root), []
        case Beacon() if message.round == state.round:
            return replace(state, beacon=message), []
        case AuditRates() if state.open is not None and message.round == state.open.round:
            return replace(state, rates_ppm=message.ppm), []
        case Replayed():
            return _replayed(state, message), []
        case Drawn() if message.round in state.audits:
            return _with_audit(state, message.round, state.audits[message.round].with_draw(message)), []
        case Answered() | Recomputed() if message.round in state.audits:
            return _with_audit(state, message.round, state.audits[message.round].with_task(message)), []
        case AveragedAgain() if message.round in state.audits:
            audit = state.audits[message.round].with_averages(message, last_worked_in(state), now)
            return _with_audit(state, message.round, audit), []
        case Excise():
            return take_in_excision(state, message), []
        case Corrected():
            return take_in_correction(state, message), []
        case Failed() if message.what == correction_key(state.round):
            return give_up(state), []
        case Appealed():
            return take_in_appeal(state, message), []
        case Heard():
            return take_in_ruling(state, message), []
        case Failed():
            return replace(state, asked=asking.failed(state.asked, message.what, now)), []
        case _:
            return state, []


def _join(state: State, join: Join, now: float) -> Step:
    known = state.nodes.get(join.node, Node(peer=join.peer, hardware=join.hardware))
    if known.banned:
        return state, []  # the certified records tell it why: our core is ahead of them, and may be outvoted
    if state.rules.hardware and join.hardware not in state.rules.hardware:
        reason = (
            f"work of class {join.hardware[:200]} cannot be audited here: no auditor has that class, and no thresholds "
            "are frozen for it; join in another class (--device, --precision, --threads), or ask the verifier's "
            "operator to calibrate for yours"
        )
        return state, [Answer(join.node, Refused("refused", join.node, reason[:500]))]
    if not state.rules.replays(join.code_version):
        return _of_another_version(state, join)
    node = replace(
        known,
        peer=join.peer,
        hardware=join.hardware,
        code_version=join.code_version,
        reduces=join.reduces,
        audits=join.audits,
        seen_at=now,
        gone_at=None,
        joined=True,
    )
    return _work_left(replace(state, nodes=state.nodes.set(join.node, node)), join.node, now)


def _of_another_version(state: State, said: Join | Commitment) -> Step:
    """Whose work could not be replayed here has no place until it joins in the version that is."""
    reason = (
        f"work is replayed bit by bit, which takes one version of AnyNode: this node runs {said.code_version}, "
        f"the verifier {state.rules.code_version}; install that one"
    )
    state = with_node(state, said.node, joined=False, code_version=said.code_version)
    return state, [Answer(said.node, Refused("refused", said.node, reason))]


def _work_left(state: State, name: str, now: float) -> Step:
    """A member that comes back into an open round is told what is left of it, so that nobody has to wait for it."""
    opened = state.open
    if opened is None or state.phase is not Phase.WORKING:
        return state, []
    slot = find_slot(opened.members, name)
    if slot is None or slot in state.commitments:
        return state, []
    paces = [state.nodes[member.node].pace for member in opened.members]
    planned = planned_s(
        paces, [member.quota_steps for member in opened.members], opened.inner_steps * state.rules.parts
    )
    left_s = state.since + (planned or WORK_SHARE * opened.work_s) - now
    state = replace(state, come_back=state.come_back.union([slot]))
    return state, [Answer(name, WorkLeft("work_left", name, opened.round, max(0, int(1000 * left_s))))]


def _sync(state: State, sync: Sync, now: float) -> Step:
    state = with_node(state, sync.node, seen_at=now, gone_at=None, state_round=sync.state_round)
    behind = sync.height < state.height
    return state, [SendRecords(sync.node, sync.height)] if behind else []


def _commitment(state: State, commitment: Commitment, now: float) -> Step:
    if not _fits_its_slot(state, commitment):
        return state, []
    kept = state.commitments.get(commitment.slot)
    if kept is None:
        if not state.rules.replays(commitment.code_version):
            return _of_another_version(state, commitment)
        if not state.nodes[commitment.node].joined:
            return state, []  # it has left: what it commits to now, nobody could fetch from it
        kept = commitment
        state = _with_commitment(state, kept, now)
    receipt = Receipt("receipt", kept.node, kept.round, kept.slot, kept.update_root, kept.trace_root)
    return state, [Answer(kept.node, receipt)]


def take_back(state: State, commitment: Commitment, now: float) -> State:
    """What was receipted before a restart counts whatever is known now: a receipt is a promise."""
    return _with_commitment(state, commitment, now) if _fits_its_slot(state, commitment) else state


def _with_commitment(state: State, item: Commitment, now: float) -> State:
    committed_at = state.committed_at.set(item.slot, now)
    return replace(state, commitments=state.commitments.set(item.slot, item), committed_at=committed_at)


def _fits_its_slot(state: State, commitment: Commitment) -> bool:
    opened = state.open
    if opened is None or state.phase is not Phase.WORKING or commitment.round != opened.round:
        return False
    member = opened.members[commitment.slot] if commitment.slot < len(opened.members) else None
    steps_fit = member is not None and 0 < commitment.steps <= member.quota_steps
    if member is None or member.node != commitment.node or not steps_fit:
        return False
    return commitment.samples == commitment.steps * state.rules.batch_size and commitment.hardware == member.hardware


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
    if not honest_form or not state.fetched.isdisjoint(done.chunks) or done.slot in state.unreadable:
        return state
    omitting = [
        item.chunk for item in done.averages if not set(state.witnessed.get(item.chunk, ())) <= set(item.senders)
    ]
    if omitting:
        return replace(state, omitting=state.omitting.union(omitting))
    in_time = now < state.since + LATE_SHARE * opened.exchange_s
    awaited = accepted.difference(assign.absent)
    if in_time and not all(awaited.issubset(item.senders) for item in done.averages):
        return state  # the others still have time to deliver, to the reducer or to its witness
    first = any(chunk not in state.done for chunk in done.chunks)
    state = replace(state, done=without(state.done, done.chunks) | dict.fromkeys(done.chunks, done))
    return _measure_reducer(state, done, now) if first else state


def _witnessed(state: State, receipt: DeliveryReceipt) -> State:
    """A witness has taken chunks for a reducer that gave no receipt: what that will say must hold their sender.

    Only until that reducer has spoken, or a witness could take away its work whenever it liked.
    """
    assign, opened = state.assign, state.open
    if state.phase is not Phase.EXCHANGING or assign is None or opened is None or receipt.round != opened.round:
        return state
    reducers = {item.chunk: item.slot for item in assign.reducers if item.chunk in receipt.chunks}
    among = witnesses_of(opened, assign, receipt.reducer, receipt.slot)
    witness = next((slot for slot in among if opened.members[slot].node == receipt.node), None)
    fits = receipt.slot in assign.accepted and all(
        reducers.get(chunk) == receipt.reducer and chunk not in state.done for chunk in receipt.chunks
    )
    if witness is None or not fits:
        return state
    now_witnessed = {chunk: {receipt.slot: witness, **state.witnessed.get(chunk, {})} for chunk in receipt.chunks}
    return replace(state, witnessed={**state.witnessed, **now_witnessed})


def _measure_reducer(state: State, done: ChunkDone, now: float) -> State:
    """How many chunks a second the reducer has managed since they were assigned."""
    if state.opened_at is None or now <= state.since:
        return state
    chunks = sum(item.slot == done.slot for item in state.done.values())
    return with_node(state, done.node, chunks_per_s=chunks / (now - state.since), measured_in=done.round)


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
    if not fetched.readable:
        # Whoever has signed it reduces nothing more, and what it has signed before goes to others too.
        mine = tuple(chunk for chunk, item in state.done.items() if item.slot == done.slot)
        unreadable = {**state.unreadable, done.slot: done}
        left = without(state.done, mine)
        return replace(state, done=left, fetched=state.fetched.difference(mine), unreadable=unreadable)
    return replace(state, fetched=state.fetched.union(done.chunks))


def _replayed(state: State, replayed: Replayed) -> State:
    if replayed.steps_per_s > 0:
        state = replace(state, replay_steps_per_s=smooth(state.replay_steps_per_s, replayed.steps_per_s))
    if replayed.round in state.audits:
        audit = state.audits[replayed.round]
        audit = replace(audit, findings=audit.findings.with_replay(replayed))
        return _with_audit(state, replayed.round, audit)
    if state.phase is Phase.ADMITTING and replayed.round == state.round:
        return replace(state, findings=state.findings.with_replay(replayed))
    return state


def _with_audit(state: State, round_: int, audit: Audit) -> State:
    return replace(state, audits={**state.audits, round_: audit})
