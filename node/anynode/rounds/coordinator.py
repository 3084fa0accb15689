"""The coordinator of a job as a pure state machine: ``apply(state, message, now) -> (state, effects)``.

What it decides goes into records, and its state is a fold over them: `absorb` is used alike when a record is
appended and when a restarted coordinator reads them back. What peers had sent but no record shows yet is sent again
by them, so nothing else need survive a crash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

from blake3 import blake3

from anynode.rounds import asking
from anynode.rounds.audits import Audit, judge
from anynode.rounds.books import close_books, counted_samples
from anynode.rounds.deal import deal, take, work_seed
from anynode.rounds.effects import (
    Answer,
    Append,
    Apply,
    CoordinatorEffect,
    DrawAudits,
    FetchResult,
    GetBeacon,
    Replay,
    SendRecords,
)
from anynode.rounds.messages import (
    PROTOCOL,
    Applied,
    Beacon,
    ChunkDone,
    Commitment,
    CoordinatorMessage,
    Drawn,
    Failed,
    Join,
    Leave,
    Receipt,
    Refused,
    Replayed,
    ResultFetched,
    StateReport,
    Sync,
)
from anynode.rounds.records import (
    GENESIS,
    Assign,
    Begin,
    Body,
    ChunkResult,
    Close,
    Committed,
    Finish,
    Member,
    Open,
    Reason,
    Record,
    Reducer,
    Reduction,
    Report,
    Result,
    Seal,
    Verdict,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the job and the network fix for all rounds. Times are in seconds of the coordinator's clock.

    ``audit_key`` is secret: the audit secret of a round is derived from it. ``hardware`` is the class in which work can
    be replayed bit for bit; empty admits every class. ``samples_max`` is what the budget pays: the job ends before a
    round that it could not pay.
    """

    job: str
    state_root: str
    rounds: int
    inner_steps: int
    batch_size: int
    refresh_rounds: int
    chunks: int
    chunks_on_refresh: int
    audit_key: bytes
    samples_max: int = 1 << 62
    hardware: str = ""
    members_min: int = 1
    members_max: int = 1000
    work_s: int = 120
    exchange_s: int = 30
    alive_s: float = 15.0
    attempts_max: int = 5


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of a node. ``state_round``: the round whose start state it holds, -1 for none."""

    peer: str
    hardware: str
    code_version: str = ""
    reduces: bool = True
    seen_at: float = 0.0
    state_round: int = -1
    joined: bool = False
    proven: bool = False
    banned: str = ""


class Phase(Enum):
    """Where the current round stands."""

    WAITING = "waiting for members"
    WORKING = "working"
    ADMITTING = "admitting"
    EXCHANGING = "exchanging"
    APPLYING = "applying"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class State:
    """Everything the coordinator knows. ``round`` is the round under way, or the next to open."""

    rules: Rules
    phase: Phase = Phase.WAITING
    height: int = 0
    head: str = GENESIS
    round: int = 0
    state_root: str = ""
    cursor: int = 0
    returned: tuple[tuple[int, int], ...] = ()
    has_moments: bool = False
    samples: int = 0
    nodes: Mapping[str, Node] = field(default_factory=dict)
    open: Open | None = None
    seal: Seal | None = None
    assign: Assign | None = None
    result: Result | None = None
    since: float = 0.0
    beacon: Beacon | None = None
    commitments: Mapping[int, Commitment] = field(default_factory=dict)
    replayed: Mapping[int, Replayed] = field(default_factory=dict)
    done: Mapping[int, ChunkDone] = field(default_factory=dict)
    fetched: frozenset[int] = frozenset()
    applied_root: str = ""
    reports: Mapping[str, StateReport] = field(default_factory=dict)
    audits: Mapping[int, Audit] = field(default_factory=dict)
    asked: Mapping[str, float] = field(default_factory=dict)


Step = tuple[State, list[CoordinatorEffect]]


def restore(rules: Rules, records: Iterable[Record], now: float) -> State:
    """The state after these records: how a restarted coordinator goes on."""
    state = State(rules=rules)
    for record in records:
        state = absorb(state, record, now)
    return state


def apply(state: State, message: CoordinatorMessage, now: float) -> Step:
    """Take in one message or event, then go on as far as possible."""
    state, effects = _take_in(state, message, now)
    while True:
        state, more = _advance(state, now)
        effects += more
        if not more:
            return state, effects


# ---------------------------------------------------------------- messages


def _take_in(state: State, message: CoordinatorMessage, now: float) -> Step:
    match message:
        case Join():
            return _join(state, message, now)
        case Sync():
            return _sync(state, message, now)
        case Leave():
            return _with_node(state, message.node, joined=False), []
        case Commitment():
            return _commitment(state, message)
        case ChunkDone():
            return _chunk_done(state, message), []
        case ResultFetched():
            return _result_fetched(state, message), []
        case StateReport() if message.round == state.round and state.phase is Phase.APPLYING:
            return replace(state, reports={**state.reports, message.node: message}), []
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
    return replace(state, nodes={**state.nodes, join.node: node}), []


def _sync(state: State, sync: Sync, now: float) -> Step:
    if sync.node in state.nodes:
        state = _with_node(state, sync.node, seen_at=now, state_round=sync.state_round)
    behind = sync.height < state.height
    return state, [SendRecords(sync.node, sync.height)] if behind else []


def _commitment(state: State, commitment: Commitment) -> Step:
    opened = state.open
    if opened is None or state.phase is not Phase.WORKING or commitment.round != opened.round:
        return state, []
    member = opened.members[commitment.slot] if commitment.slot < len(opened.members) else None
    steps_fit = member is not None and 0 < commitment.steps <= member.quota_steps
    if member is None or member.node != commitment.node or not steps_fit:
        return state, []
    if commitment.samples != commitment.steps * state.rules.batch_size or commitment.hardware != member.hardware:
        return state, []
    kept = state.commitments.get(commitment.slot, commitment)
    receipt = Receipt("receipt", kept.node, kept.round, kept.slot, kept.update_root, kept.trace_root)
    return replace(state, commitments={**state.commitments, kept.slot: kept}), [Answer(kept.node, receipt)]


def _chunk_done(state: State, done: ChunkDone) -> State:
    assign, opened = state.assign, state.open
    if state.phase is not Phase.EXCHANGING or assign is None or opened is None or done.round != opened.round:
        return state
    reducers = {item.chunk: item.slot for item in assign.reducers}
    accepted = set(assign.accepted)
    honest_form = (
        done.slot < len(opened.members)
        and opened.members[done.slot].node == done.node
        and done.attempt <= assign.attempt
        and len(set(done.chunks)) == len(done.chunks)
        and all(reducers.get(chunk) == done.slot for chunk in done.chunks)
        and all(_is_set_of(item.senders, accepted) for item in done.averages)
    )
    if not honest_form or not state.fetched.isdisjoint(done.chunks):
        return state
    return replace(state, done=_without(state.done, done.chunks) | dict.fromkeys(done.chunks, done))


def _is_set_of(senders: tuple[int, ...], accepted: set[int]) -> bool:
    return bool(senders) and tuple(sorted(set(senders))) == senders and accepted.issuperset(senders)


def _without(done: Mapping[int, ChunkDone], chunks: tuple[int, ...]) -> dict[int, ChunkDone]:
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


def _with_node(state: State, name: str, **changes: object) -> State:
    if name not in state.nodes:
        return state
    return replace(state, nodes={**state.nodes, name: replace(state.nodes[name], **changes)})  # type: ignore[arg-type]


# ---------------------------------------------------------------- what comes next


def _advance(state: State, now: float) -> Step:
    state, effects = _advance_audits(state, now)
    if effects:
        return state, effects
    match state.phase:
        case Phase.WAITING:
            return _advance_waiting(state, now)
        case Phase.WORKING:
            return _advance_working(state, now)
        case Phase.ADMITTING:
            return _advance_admitting(state, now)
        case Phase.EXCHANGING:
            return _advance_exchanging(state, now)
        case Phase.APPLYING:
            return _advance_applying(state, now)
        case Phase.FINISHED:
            return state, []


def _advance_waiting(state: State, now: float) -> Step:
    rules = state.rules
    if state.height == 0:
        return _append(state, Begin("begin", PROTOCOL, rules.state_root), now)
    affordable = (rules.samples_max - state.samples) // (rules.inner_steps * rules.batch_size)
    if state.round >= rules.rounds or affordable < 1:
        return _append(state, Finish("finish", state.round, state.state_root), now)
    able = [
        name
        for name, node in state.nodes.items()
        if node.joined and not node.banned and node.state_round == state.round and _alive(state, name, now)
    ]
    # Where there are more than places, who has one changes from round to round.
    able.sort(key=lambda name: blake3(f"{rules.job} {state.round} {name}".encode()).digest())
    ready = sorted(able[: min(rules.members_max, affordable)])
    if len(ready) < (rules.members_min if state.round == 0 else 1):
        return state, []
    if state.beacon is None or state.beacon.round != state.round:
        return _ask(state, f"beacon {state.round}", GetBeacon(state.round), now)
    return _append(state, _opening(state, ready, state.beacon.block_hash), now)


def _opening(state: State, ready: list[str], beacon: str) -> Open:
    rules = state.rules
    members = tuple(
        Member(slot, name, node.peer, node.hardware, rules.inner_steps, node.proven, node.reduces)
        for slot, (name, node) in enumerate((name, state.nodes[name]) for name in ready)
    )
    samples = [member.quota_steps * rules.batch_size for member in members]
    pool, cursor, returned = take(state.cursor, state.returned, sum(samples))
    return Open(
        kind="open",
        round=state.round,
        state_root=state.state_root,
        beacon=beacon,
        refresh=not state.has_moments or state.round % rules.refresh_rounds == 0,
        members=members,
        ranges=deal(pool, samples, work_seed(rules.job, state.round, beacon)),
        cursor=cursor,
        returned=returned,
        inner_steps=rules.inner_steps,
        work_s=rules.work_s,
        exchange_s=rules.exchange_s,
    )


def _advance_working(state: State, now: float) -> Step:
    opened = _present(state.open)
    waited_for = [
        member for member in opened.members if member.slot not in state.commitments and _alive(state, member.node, now)
    ]
    if waited_for and now < state.since + state.rules.work_s:
        return state, []
    missing = tuple(
        Reason(member.slot, "no commitment arrived before the deadline")
        for member in opened.members
        if member.slot not in state.commitments
    )
    committed = tuple(
        Committed(
            slot=slot,
            node=item.node,
            steps=item.steps,
            samples=item.samples,
            micro_batch=item.micro_batch,
            update_root=item.update_root,
            trace_root=item.trace_root,
            hardware=item.hardware,
            code_version=item.code_version,
            energy_mj=item.energy_mj,
            signature=item.signature,
        )
        for slot, item in sorted(state.commitments.items())
    )
    if state.beacon is None or state.beacon.round != opened.round:
        # The block that opened the round is old by now, and the sealed height has to lie in the future.
        return _ask(state, f"beacon {opened.round}", GetBeacon(opened.round), now)
    secret = audit_secret(state.rules, opened.round)
    seal = Seal(
        "seal",
        opened.round,
        committed,
        missing,
        blake3(bytes.fromhex(secret)).hexdigest(),
        state.beacon.audit_height,
    )
    return _append(state, seal, now)


def _advance_admitting(state: State, now: float) -> Step:
    opened, seal = _present(state.open), _present(state.seal)
    banned = tuple(
        Reason(item.slot, state.nodes[item.node].banned) for item in seal.commitments if state.nodes[item.node].banned
    )
    out = {reason.slot for reason in banned}
    standing = tuple(item for item in seal.commitments if item.slot not in out)
    proven = tuple(item.slot for item in standing if opened.members[item.slot].proven)
    if proven:
        weightless = tuple(item.slot for item in standing if item.slot not in proven)
        return _assign(state, proven, banned, weightless, now)
    for item in standing:
        if item.slot not in state.replayed:
            key = f"replay {opened.round} {item.slot}"
            asked, effects = _ask(state, key, Replay(opened, seal, item.slot), now)
            if effects:
                return asked, effects
    verdicts = [state.replayed.get(item.slot) for item in standing]
    if any(verdict is None for verdict in verdicts):
        return state, []
    accepted = tuple(verdict.slot for verdict in verdicts if verdict and verdict.accepted)
    rejected = tuple(Reason(v.slot, v.reason) for v in verdicts if v and not v.accepted)
    return _assign(state, accepted, banned + rejected, (), now)


def _assign(
    state: State,
    accepted: tuple[int, ...],
    rejected: tuple[Reason, ...],
    weightless: tuple[int, ...],
    now: float,
) -> Step:
    opened = _present(state.open)
    attempt = 0 if state.assign is None else state.assign.attempt + 1
    able = _able_to_reduce(state, accepted, now)
    rules = state.rules
    count = rules.chunks_on_refresh if opened.refresh else rules.chunks
    kept = {} if state.assign is None else {item.chunk: item for item in state.assign.reducers}
    first = int(work_seed(rules.job, opened.round, opened.beacon)[:8], 16) + attempt
    reducers = tuple(
        kept[chunk] if chunk in state.fetched else _reducer(chunk, (first + chunk) % len(able), able)
        for chunk in range(count if able else 0)
    )
    assign = Assign("assign", opened.round, attempt, accepted, rejected, weightless, reducers)
    return _append(state, assign, now)


def _able_to_reduce(state: State, accepted: tuple[int, ...], now: float) -> list[int]:
    """The accepted slots that others can reach and that are alive."""
    members = _present(state.open).members
    return [slot for slot in accepted if members[slot].reduces and _alive(state, members[slot].node, now)]


def _reducer(chunk: int, place: int, able: list[int]) -> Reducer:
    return Reducer(chunk, able[place], able[(place + 1) % len(able)])


def _advance_exchanging(state: State, now: float) -> Step:
    opened, assign = _present(state.open), _present(state.assign)
    if not assign.reducers:
        return _append(state, _result(state, {}), now)
    missing = [item for item in assign.reducers if item.chunk not in state.fetched]
    if not missing:
        return _append(state, _result(state, state.done), now)
    late = now >= state.since + state.rules.exchange_s
    if late or not any(_alive(state, opened.members[item.slot].node, now) for item in missing):
        able = _able_to_reduce(state, assign.accepted, now)
        if not able or assign.attempt + 1 >= state.rules.attempts_max:
            return _append(state, _result(state, {}), now)
        return _assign(state, assign.accepted, assign.rejected, assign.weightless, now)
    for item in missing:
        done = state.done.get(item.chunk)
        if done is not None:
            asked, effects = _ask(state, fetch_key(done), FetchResult(opened, done), now)
            if effects:
                return asked, effects
    return state, []


def fetch_key(done: ChunkDone) -> str:
    """The name under which the fetch of averaged chunks is waited for."""
    return f"fetch {done.round} {done.attempt} {done.slot} {done.chunks[0]}"


def _result(state: State, done: Mapping[int, ChunkDone]) -> Result:
    """What was averaged, or nothing: then the round is void."""
    opened, seal = _present(state.open), _present(state.seal)
    said = sorted(set(done.values()), key=lambda item: item.chunks)
    chunks = tuple(
        ChunkResult(entry.chunk, item.attempt, item.slot, entry.senders, entry.result)
        for item in said
        for entry in item.averages
    )
    chunks = tuple(sorted(chunks, key=lambda entry: entry.chunk))
    reductions = tuple(Reduction(item.slot, item.attempt, item.chunks, item.signature) for item in said)
    books = close_books(opened, seal, chunks)
    return Result("result", opened.round, chunks, reductions, books.steps, books.cursor, books.returned)


def _advance_applying(state: State, now: float) -> Step:
    opened, result = _present(state.open), _present(state.result)
    if not state.applied_root:
        return _ask(state, f"apply {opened.round}", Apply(opened, result), now)
    expected = {
        name
        for name, node in state.nodes.items()
        if node.joined and not node.banned and node.state_round >= state.round and _alive(state, name, now)
    }
    if expected - state.reports.keys() and now < state.since + state.rules.exchange_s:
        return state, []
    reports = tuple(
        Report(name, report.signature)
        for name, report in sorted(state.reports.items())
        if report.state_root == state.applied_root
    )
    forks = tuple(name for name, report in sorted(state.reports.items()) if report.state_root != state.applied_root)
    return _append(state, Close("close", opened.round, state.applied_root, reports, forks), now)


def _advance_audits(state: State, now: float) -> Step:
    for round_, audit in state.audits.items():
        if audit.drawn is None:
            draw = DrawAudits(audit.open, audit.seal, audit.candidates)
            asked, effects = _ask(state, f"draw {round_}", draw, now)
            if effects:
                return asked, effects
            continue
        for slot in audit.to_replay:
            asked, effects = _ask(state, f"replay {round_} {slot}", Replay(audit.open, audit.seal, slot), now)
            if effects:
                return asked, effects
        if not audit.to_replay_left:
            body = Verdict("verdict", round_, audit.drawn.secret, audit.drawn.block_hash, judge(audit))
            return _append(state, body, now)
    return state, []


# ---------------------------------------------------------------- records


def absorb(state: State, record: Record, now: float) -> State:
    """The state after a record."""
    body = record.body
    state = replace(state, height=record.height + 1, head=record.hash)
    match body:
        case Begin():
            return replace(state, state_root=body.state_root)
        case Open():
            return _absorb_open(state, body, now)
        case Seal():
            return replace(state, phase=Phase.ADMITTING, seal=body, since=now)
        case Assign():
            return _absorb_assign(state, body, now)
        case Result():
            return replace(state, phase=Phase.APPLYING, result=body, since=now)
        case Close():
            return _absorb_close(state, body)
        case Verdict():
            return _absorb_verdict(state, body)
        case Finish():
            return replace(state, phase=Phase.FINISHED)


def _absorb_open(state: State, body: Open, now: float) -> State:
    nodes = dict(state.nodes)
    for member in body.members:
        if member.node not in nodes:
            # Only when reading records back: give the members of an open round time to be heard again.
            nodes[member.node] = Node(
                member.peer, member.hardware, "", member.reduces, now, body.round, True, member.proven
            )
    return replace(
        state,
        phase=Phase.WORKING,
        nodes=nodes,
        open=body,
        seal=None,
        assign=None,
        result=None,
        since=now,
        commitments={},
        replayed={},
        done={},
        fetched=frozenset(),
        applied_root="",
        reports={},
        beacon=None,
        asked={key: when for key, when in state.asked.items() if key.startswith(("draw", "replay"))},
    )


def _absorb_assign(state: State, body: Assign, now: float) -> State:
    members = _present(state.open).members
    nodes = dict(state.nodes)
    for slot in body.accepted:
        nodes[members[slot].node] = replace(nodes[members[slot].node], proven=True)
    for reason in body.rejected:
        nodes[members[reason.slot].node] = replace(nodes[members[reason.slot].node], banned=reason.reason)
    reducers = {item.chunk: item.slot for item in body.reducers}
    moved = tuple(chunk for chunk, item in state.done.items() if reducers.get(chunk) != item.slot)
    counted = counted_samples(_present(state.seal), body) if body.attempt == 0 else 0
    return replace(
        state,
        phase=Phase.EXCHANGING,
        assign=body,
        since=now,
        nodes=nodes,
        done=_without(state.done, moved),
        samples=state.samples + counted,
    )


def _absorb_close(state: State, body: Close) -> State:
    opened, seal = _present(state.open), _present(state.seal)
    assign, result = _present(state.assign), _present(state.result)
    audits = {**state.audits, body.round: Audit(opened, seal, assign)}
    nodes = dict(state.nodes)
    for report in body.reports:
        if report.node in nodes:
            ahead = max(nodes[report.node].state_round, body.round + 1)
            nodes[report.node] = replace(nodes[report.node], state_round=ahead)
    for name in body.forks:
        if name in nodes:
            nodes[name] = replace(nodes[name], state_round=-1)
    return replace(
        state,
        phase=Phase.WAITING,
        round=body.round + 1,
        state_root=body.state_root,
        cursor=result.cursor,
        returned=result.returned,
        has_moments=state.has_moments or (opened.refresh and bool(result.chunks)),
        nodes=nodes,
        audits=audits,
        beacon=None,
    )


def _absorb_verdict(state: State, body: Verdict) -> State:
    nodes = dict(state.nodes)
    for judged in body.judged:
        if judged.node not in nodes:
            continue
        if not judged.accepted:
            nodes[judged.node] = replace(nodes[judged.node], banned=judged.reason, proven=False)
        elif judged.audited:
            nodes[judged.node] = replace(nodes[judged.node], proven=True)
    audits = {round_: audit for round_, audit in state.audits.items() if round_ != body.round}
    return replace(state, nodes=nodes, audits=audits)


def audit_secret(rules: Rules, round_: int) -> str:
    """The audit secret of a round, 64 hexadecimal digits, unknown to all but the coordinator until revealed."""
    return blake3(f"{rules.job} {round_}".encode(), key=rules.audit_key).hexdigest()


def _append(state: State, body: Body, now: float) -> Step:
    record = Record(state.rules.job, state.height, state.head, body)
    return absorb(state, record, now), [Append(record)]


def _ask(state: State, key: str, effect: CoordinatorEffect, now: float) -> Step:
    if not asking.may_ask(state.asked, key, now):
        return state, []
    return replace(state, asked=asking.mark(state.asked, key)), [effect]


def _alive(state: State, name: str, now: float) -> bool:
    node = state.nodes.get(name)
    return node is not None and node.joined and now - node.seen_at < state.rules.alive_s


def _present(value: T | None) -> T:
    if value is None:
        raise AssertionError("the phase of the round does not fit its records")
    return value
