"""A coordinator's state as a fold over its own records, alike for one just appended and one read back. Pure."""

from __future__ import annotations

from dataclasses import replace
from statistics import median_low

from anynode.rounds import asking
from anynode.rounds.audits import Audit
from anynode.rounds.books import counted_samples
from anynode.rounds.coordination import Node, Phase, State, present
from anynode.rounds.quotas import Pace, smooth
from anynode.rounds.records import Assign, Begin, Close, Finish, Open, Record, Result, Seal, Verdict
from anynode.rounds.table import Table
from anynode.rounds.taking_in import without


def absorb(state: State, record: Record, now: float) -> State:
    """The state after a record. What it measures by ``now`` holds only for a record of this very moment."""
    body = record.body
    state = replace(state, height=record.height + 1, head=record.hash)
    match body:
        case Begin():
            return replace(state, state_root=body.state_root)
        case Open():
            return _absorb_open(state, body, now)
        case Seal():
            return _absorb_seal(state, body, now)
        case Assign():
            return _absorb_assign(state, body, now)
        case Result():
            return replace(state, phase=Phase.APPLYING, result=body, since=now, steps=state.steps + body.steps)
        case Close():
            return _absorb_close(state, body)
        case Verdict():
            return _absorb_verdict(state, body)
        case Finish():
            return replace(state, phase=Phase.FINISHED)


def forget_times(state: State) -> State:
    """What was read back from the disk happened at times that nobody knows."""
    return replace(state, opened_at=None, idle_since=None, idle_s=0.0)


def _absorb_open(state: State, body: Open, now: float) -> State:
    nodes = state.nodes
    for member in body.members:
        node = nodes.get(member.node)
        if node is None:
            # Only when reading records back: give the members of an open round time to be heard again.
            node = Node(member.peer, member.hardware, "", member.reduces, now, body.round, True, member.proven)
        nodes = nodes.set(member.node, replace(node, pace=replace(node.pace, last_quota=member.quota_steps)))
    idle_s = state.idle_s
    if state.idle_since is not None:
        idle_s = smooth(idle_s, now - state.idle_since)
    return replace(
        state,
        phase=Phase.WORKING,
        nodes=nodes,
        open=body,
        seal=None,
        assign=None,
        result=None,
        since=now,
        opened_at=now,
        idle_since=None,
        idle_s=idle_s,
        commitments=Table(),
        committed_at=Table(),
        replayed={},
        done={},
        fetched=frozenset(),
        witnessed={},
        omitting=frozenset(),
        applied_root="",
        reports=Table(),
        beacon=None,
        asked=asking.kept(state.asked, "draw", "replay"),
    )


def _absorb_seal(state: State, body: Seal, now: float) -> State:
    """Who has shown how fast it is; who gave nothing in time is given less."""
    state = replace(state, phase=Phase.ADMITTING, seal=body, since=now)
    if state.opened_at is None:
        return state
    nodes, members = state.nodes, present(state.open).members
    for item in body.commitments:
        node = nodes[item.node]
        seconds = state.committed_at.get(item.slot, state.opened_at) - state.opened_at
        if seconds > 0:
            pace = replace(node.pace, steps_per_s=smooth(node.pace.steps_per_s, item.steps / seconds))
            nodes = nodes.set(item.node, replace(node, pace=pace))
    for reason in body.missing:
        name = members[reason.slot].node
        pace = Pace(nodes[name].pace.steps_per_s / 2, max(1, nodes[name].pace.last_quota // 2))
        nodes = nodes.set(name, replace(nodes[name], pace=pace))
    idle_since = median_low(state.committed_at.values()) if state.committed_at else None
    return replace(state, nodes=nodes, idle_since=idle_since)


def _absorb_assign(state: State, body: Assign, now: float) -> State:
    members = present(state.open).members
    nodes = state.nodes
    for slot in body.accepted:
        node = nodes[members[slot].node]
        if not node.proven:
            nodes = nodes.set(members[slot].node, replace(node, proven=True))
    for reason in body.rejected:
        name = members[reason.slot].node
        nodes = nodes.set(name, replace(nodes[name], banned=reason.reason))
    reducers = {item.chunk: item.slot for item in body.reducers}
    if state.assign is not None:
        late = {item.slot for item in state.assign.reducers if item.chunk not in state.fetched}
        for name in (members[slot].node for slot in sorted(late)):
            nodes = nodes.set(name, replace(nodes[name], chunks_per_s=nodes[name].chunks_per_s / 2))
    moved = tuple(chunk for chunk, item in state.done.items() if reducers.get(chunk) != item.slot)
    counted = counted_samples(present(state.seal), body) if body.attempt == 0 else 0
    return replace(
        state,
        phase=Phase.EXCHANGING,
        assign=body,
        since=now,
        nodes=nodes,
        done=without(state.done, moved),
        witnessed=_still_witnessed(state, body),
        omitting=frozenset(),
        samples=state.samples + counted,
    )


def _still_witnessed(state: State, body: Assign) -> dict[int, frozenset[int]]:
    """Witnessed senders of the chunks that stay with their reducer, or go to the witness that has them."""
    before = {} if state.assign is None else {item.chunk: item for item in state.assign.reducers}
    return {
        item.chunk: state.witnessed[item.chunk]
        for item in body.reducers
        if item.chunk in state.witnessed and item.slot in (before[item.chunk].slot, before[item.chunk].witness)
    }


def _absorb_close(state: State, body: Close) -> State:
    opened, seal = present(state.open), present(state.seal)
    assign, result = present(state.assign), present(state.result)
    nodes = state.nodes
    for report in body.reports:
        node = nodes.get(report.node)
        if node is not None and node.state_round <= body.round:
            nodes = nodes.set(report.node, replace(node, state_round=body.round + 1))
    for name in body.forks:
        if name in nodes:
            nodes = nodes.set(name, replace(nodes[name], state_round=-1))
    return replace(
        state,
        phase=Phase.WAITING,
        round=body.round + 1,
        state_root=body.state_root,
        cursor=result.cursor,
        returned=result.returned,
        has_moments=state.has_moments or (opened.refresh and bool(result.chunks)),
        nodes=nodes,
        audits={**state.audits, body.round: Audit(opened, seal, assign)},
        idle_since=state.idle_since if result.chunks else None,
        beacon=None,
    )


def _absorb_verdict(state: State, body: Verdict) -> State:
    nodes = state.nodes
    for judged in body.judged:
        node = nodes.get(judged.node)
        if node is None:
            continue
        if not judged.accepted:
            nodes = nodes.set(judged.node, replace(node, banned=judged.reason, proven=False))
        elif judged.audited and not node.proven:
            nodes = nodes.set(judged.node, replace(node, proven=True))
    audits = {round_: audit for round_, audit in state.audits.items() if round_ != body.round}
    return replace(state, nodes=nodes, audits=audits)
