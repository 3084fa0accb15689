"""A coordinator's state as a fold over its own records, alike for one just appended and one read back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median_low

from anynode.rounds import asking
from anynode.rounds.appeals import after_ruling, note
from anynode.rounds.audits import Audit, Findings
from anynode.rounds.books import counted_samples
from anynode.rounds.coordination import Node, Phase, State, Step, Witnessed, alive, present
from anynode.rounds.correcting import absorb_correct, give_up, is_about
from anynode.rounds.course import Assign, Begin, Close, Finish, Member, Open, Result, Seal
from anynode.rounds.effects import Append
from anynode.rounds.giving import SEALS_KEPT
from anynode.rounds.judgements import Correct, Ruling, Verdict
from anynode.rounds.quotas import Pace, smooth
from anynode.rounds.records import Body, Record
from anynode.rounds.reductions import after_reductions, unreadable_nodes
from anynode.rounds.shares import counted_rates
from anynode.rounds.standing import (
    Standing,
    after_admission,
    after_judgement,
    after_refusal,
    after_rejection,
    after_task,
)
from anynode.rounds.table import Table
from anynode.rounds.taking_in import without


def append(state: State, body: Body, now: float) -> Step:
    """Put a record on the chain: the state after it, and the order to keep it."""
    record = Record(state.rules.job, state.height, state.head, body)
    return absorb(state, record, now), [Append(record)]


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
            return _absorb_close(state, body, now)
        case Verdict():
            return replace(_absorb_verdict(state, body), rejections=note(state.rejections, record))
        case Ruling():
            return replace(_absorb_ruling(state, body), rejections=note(state.rejections, record))
        case Correct():
            return absorb_correct(state, body, now)
        case Finish():
            return replace(state, phase=Phase.FINISHED)


def forget_times(state: State) -> State:
    """What was read back from the disk happened at times that nobody knows."""
    return replace(state, opened_at=None, idle_since=None, idle_s=0.0, round_s=0.0)


def _absorb_open(state: State, body: Open, now: float) -> State:
    nodes = state.nodes
    for member in body.members:
        node = nodes.get(member.node)
        if node is None:
            # Only when reading records back: give the members of an open round time to be heard again.
            node = Node(
                peer=member.peer,
                hardware=member.hardware,
                reduces=member.reduces,
                audits=member.audits,
                seen_at=now,
                state_round=body.round,
                joined=True,
                standing=Standing(proven=member.proven),
            )
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
        assigns=(),
        result=None,
        since=now,
        opened_at=now,
        idle_since=None,
        idle_s=idle_s,
        commitments=Table(),
        committed_at=Table(),
        come_back=frozenset(),
        rates_ppm=(),
        findings=Findings(),
        done={},
        fetched=frozenset(),
        witnessed={},
        omitting=frozenset(),
        unreadable={},
        applied_root="",
        reports=Table(),
        beacon=None,
        asked=asking.kept(state.asked, "draw", "replay", "average", "task", "recompute", "hear"),
    )


def _absorb_seal(state: State, body: Seal, now: float) -> State:
    """Who has shown how fast it is; who was there and gave nothing in time is given less. What a member did that was
    away for a part of the time, or was when time was up, says nothing of its speed.
    """
    state = replace(state, phase=Phase.ADMITTING, seal=body, seals=(*state.seals, body)[-SEALS_KEPT:], since=now)
    if state.opened_at is None:
        return replace(state, nodes=_with_versions(state.nodes, body))
    nodes, members = state.nodes, present(state.open).members
    for item in body.commitments:
        node = nodes[item.node]
        seconds = state.committed_at.get(item.slot, state.opened_at) - state.opened_at
        if seconds > 0 and item.slot not in state.come_back:
            pace = replace(node.pace, steps_per_s=smooth(node.pace.steps_per_s, item.steps / seconds))
            nodes = nodes.set(item.node, replace(node, pace=pace, paced_in=body.round))
    for reason in body.missing:
        name = members[reason.slot].node
        if not alive(state, name, now):
            continue
        pace = Pace(nodes[name].pace.steps_per_s / 2, max(1, nodes[name].pace.last_quota // 2))
        nodes = nodes.set(name, replace(nodes[name], pace=pace, paced_in=body.round))
    idle_since = median_low(state.committed_at.values()) if state.committed_at else None
    return replace(state, nodes=nodes, idle_since=idle_since)


def _with_versions(nodes: Table[str, Node], seal: Seal) -> Table[str, Node]:
    """What is read back says which version of AnyNode its members ran: who has joined before does not say it again."""
    for item in seal.commitments:
        nodes = nodes.set(item.node, replace(nodes[item.node], code_version=item.code_version))
    return nodes


def _absorb_assign(state: State, body: Assign, now: float) -> State:
    members = present(state.open).members
    nodes = state.nodes
    for slot in body.accepted:
        node = nodes[members[slot].node]
        if not members[slot].proven:  # who was proven when the round opened, and is no more, was not replayed now
            nodes = nodes.set(members[slot].node, replace(node, standing=after_admission(node.standing)))
    for reason in body.rejected:
        name = members[reason.slot].node
        standing = after_refusal(nodes[name].standing, reason.reason)
        nodes = nodes.set(name, replace(nodes[name], standing=standing))
    for name, why in unreadable_nodes(present(state.open), body).items():
        nodes = nodes.set(name, replace(nodes[name], standing=after_rejection(nodes[name].standing, why)))
    reducers = {item.chunk: item.slot for item in body.reducers}
    if state.assign is not None and state.opened_at is not None:
        nodes = _with_slower_reducers(nodes, members, state.assign, state.fetched)
    moved = tuple(chunk for chunk, item in state.done.items() if reducers.get(chunk) != item.slot)
    counted = counted_samples(present(state.seal), body) if body.attempt == 0 else 0
    return replace(
        state,
        phase=Phase.EXCHANGING,
        assign=body,
        assigns=(*state.assigns, body),
        since=now,
        nodes=nodes,
        done=without(state.done, moved),
        witnessed=_still_witnessed(state, body),
        omitting=frozenset(),
        unreadable={},
        samples=state.samples + counted,
        asked=state.asked.drop(
            [f"replay {body.round} {slot}{again}" for slot in body.weightless for again in ("", " again")]
        ),
    )


def _with_slower_reducers(
    nodes: Table[str, Node], members: Sequence[Member], assign: Assign, fetched: frozenset[int]
) -> Table[str, Node]:
    """Whose chunks are not all there counts as half as fast from then on, also one that was never measured."""
    names = {item.slot: members[item.slot].node for item in assign.reducers}
    rates = counted_rates({slot: nodes[name].chunks_per_s for slot, name in names.items()})
    for slot in sorted({item.slot for item in assign.reducers if item.chunk not in fetched}):
        slower = replace(nodes[names[slot]], chunks_per_s=rates[slot] / 2, measured_in=assign.round)
        nodes = nodes.set(names[slot], slower)
    return nodes


def _still_witnessed(state: State, body: Assign) -> Witnessed:
    """Witnessed senders of the chunks that stay with their reducer, or go to a witness that has them."""
    before = {} if state.assign is None else {item.chunk: item for item in state.assign.reducers}
    return {
        item.chunk: state.witnessed[item.chunk]
        for item in body.reducers
        if item.chunk in state.witnessed
        and item.slot in (before[item.chunk].slot, *state.witnessed[item.chunk].values())
    }


def _absorb_close(state: State, body: Close, now: float) -> State:
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
        audits={**state.audits, body.round: Audit(opened, seal, assign, result, assigns=state.assigns, closed_at=now)},
        idle_since=state.idle_since if result.chunks else None,
        round_s=state.round_s if state.opened_at is None else smooth(state.round_s, now - state.opened_at),
        beacon=None,
    )


def _absorb_verdict(state: State, body: Verdict) -> State:
    nodes = state.nodes
    for judged in body.judged:
        node = nodes[judged.node]
        standing = after_judgement(node.standing, judged)
        if standing != node.standing:
            nodes = nodes.set(judged.node, replace(node, standing=standing))
    standings = after_reductions({name: node.standing for name, node in nodes.items()}, body) if body.reductions else {}
    for name, standing in standings.items():
        nodes = nodes.set(name, replace(nodes[name], standing=standing))
    for task in body.tasks:
        node = nodes[task.auditor]
        nodes = nodes.set(task.auditor, replace(node, standing=after_task(node.standing, task)))
    audits = {round_: audit for round_, audit in state.audits.items() if round_ != body.round}
    return replace(state, nodes=nodes, audits=audits)


def _absorb_ruling(state: State, body: Ruling) -> State:
    key = body.round, body.node
    node = state.nodes[body.node]
    standing = after_ruling(node.standing, state.rejections[key], granted=body.granted)
    appeals = {other: appeal for other, appeal in state.appeals.items() if other != key}
    if body.granted and state.excise is not None and is_about(state.excise, body.round, body.slot):
        state = give_up(state)
    return replace(
        state, nodes=state.nodes.set(body.node, replace(node, standing=standing)), appeals=appeals, ruling=None
    )
