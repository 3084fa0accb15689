"""What a coordinator does next: one record or one question to its shell at a time, from all that it knows. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from blake3 import blake3

from anynode.rounds.absorbing import absorb
from anynode.rounds.audits import judge
from anynode.rounds.books import close_books
from anynode.rounds.coordination import Phase, State, Step, alive, ask, audit_secret, present
from anynode.rounds.deal import deal, take, work_seed
from anynode.rounds.effects import Append, Apply, CoordinatorEffect, DrawAudits, FetchResult, GetBeacon, Replay
from anynode.rounds.messages import PROTOCOL, ChunkDone
from anynode.rounds.pacing import inner_steps
from anynode.rounds.quotas import deadline_s, median_speed, quotas, within_budget
from anynode.rounds.records import (
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
    Reduction,
    Report,
    Result,
    Seal,
    Verdict,
)
from anynode.rounds.shares import share


def advance(state: State, now: float) -> Step:
    """One step in the round under way; no effects when nothing can be done but wait."""
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


# ---------------------------------------------------------------- opening


def _advance_waiting(state: State, now: float) -> Step:
    rules = state.rules
    if state.height == 0:
        return _append(state, Begin("begin", PROTOCOL, rules.state_root), now)
    steps_left = (rules.samples_max - state.samples) // rules.batch_size
    over = state.round >= rules.rounds or state.steps >= rules.total_steps
    if over or steps_left < rules.inner_steps_min:
        return _append(state, Finish("finish", state.round, state.state_root), now)
    key = f"beacon {state.round}"
    has_beacon = state.beacon is not None and state.beacon.round == state.round
    fewest = rules.members_min if state.round == 0 else 1
    if len(state.nodes) < fewest or (not has_beacon and state.asked.get(key, 0.0) > now):
        return state, []
    ready = _ready(state, now)
    if len(ready) < fewest or not any(state.nodes[name].reduces for name in ready):
        return state, []
    if state.beacon is None or not has_beacon:
        return ask(state, key, GetBeacon(state.round), now)
    return _append(state, _opening(state, ready, steps_left, state.beacon.block_hash), now)


def _ready(state: State, now: float) -> list[str]:
    """Who gets a place. Where there are more than places, who has one changes from round to round."""
    ready = [
        name
        for name, node in state.nodes.items()
        if node.joined and not node.banned and node.state_round == state.round and alive(state, name, now)
    ]
    ready.sort(key=lambda name: blake3(f"{state.rules.job} {state.round} {name}".encode()).digest())
    return ready[: state.rules.members_max]


def _opening(state: State, ready: list[str], steps_left: int, beacon: str) -> Open:
    rules = state.rules
    paces = [state.nodes[name].pace for name in ready]
    length = inner_steps(state.idle_s, median_speed(paces), rules.inner_steps_min, rules.inner_steps_max)
    length = min(length, steps_left)
    steps = within_budget(quotas(paces, length, rules.newcomer_steps), steps_left)
    places = sorted(zip(ready, steps, strict=False))
    members = tuple(_member(state, slot, name, quota) for slot, (name, quota) in enumerate(places))
    samples = [member.quota_steps * rules.batch_size for member in members]
    pool, cursor, returned = take(state.cursor, state.returned, sum(samples))
    due = not state.has_moments or state.round % rules.refresh_rounds == 0
    return Open(
        kind="open",
        round=state.round,
        state_root=state.state_root,
        beacon=beacon,
        refresh=rules.publishes_moments and due,
        members=members,
        ranges=deal(pool, samples, work_seed(rules.job, state.round, beacon)),
        cursor=cursor,
        returned=returned,
        inner_steps=length,
        work_s=deadline_s(paces[: len(steps)], steps, length, rules.work_s),
        exchange_s=rules.exchange_s,
    )


def _member(state: State, slot: int, name: str, quota: int) -> Member:
    node = state.nodes[name]
    return Member(slot, name, node.peer, node.hardware, quota, node.proven, node.reduces)


# ---------------------------------------------------------------- sealing


def _advance_working(state: State, now: float) -> Step:
    opened = present(state.open)
    in_time = now < state.since + opened.work_s
    if in_time and any(
        member.slot not in state.commitments and alive(state, member.node, now) for member in opened.members
    ):
        return state, []
    if state.beacon is None or state.beacon.round != opened.round:
        # The block that opened the round is old by now, and the sealed height has to lie in the future.
        return ask(state, f"beacon {opened.round}", GetBeacon(opened.round), now)
    missing = tuple(
        Reason(member.slot, "no commitment arrived before the deadline")
        for member in opened.members
        if member.slot not in state.commitments
    )
    secret_hash = blake3(bytes.fromhex(audit_secret(state.rules, opened.round))).hexdigest()
    seal = Seal("seal", opened.round, _committed(state), missing, secret_hash, state.beacon.audit_height)
    return _append(state, seal, now)


def _committed(state: State) -> tuple[Committed, ...]:
    return tuple(
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


# ---------------------------------------------------------------- admitting and assigning


def _advance_admitting(state: State, now: float) -> Step:
    opened, seal = present(state.open), present(state.seal)
    banned = tuple(
        Reason(item.slot, state.nodes[item.node].banned) for item in seal.commitments if state.nodes[item.node].banned
    )
    out = {reason.slot for reason in banned}
    standing = tuple(item for item in seal.commitments if item.slot not in out)
    proven = tuple(item.slot for item in standing if opened.members[item.slot].proven)
    if proven:
        weightless = tuple(item.slot for item in standing if not opened.members[item.slot].proven)
        return _assign(state, proven, banned, weightless, now)
    asking_for: list[CoordinatorEffect] = []
    for item in standing:
        if item.slot not in state.replayed:
            state, effects = ask(state, f"replay {opened.round} {item.slot}", Replay(opened, seal, item.slot), now)
            asking_for += effects
    if asking_for or any(item.slot not in state.replayed for item in standing):
        return state, asking_for
    verdicts = [state.replayed[item.slot] for item in standing]
    accepted = tuple(verdict.slot for verdict in verdicts if verdict.accepted)
    rejected = tuple(Reason(verdict.slot, verdict.reason) for verdict in verdicts if not verdict.accepted)
    return _assign(state, accepted, banned + rejected, (), now)


def _assign(
    state: State, accepted: tuple[int, ...], rejected: tuple[Reason, ...], weightless: tuple[int, ...], now: float
) -> Step:
    """The first assignment of a round's chunks."""
    opened, rules = present(state.open), state.rules
    count = rules.chunks_on_refresh if opened.refresh else rules.chunks
    reducers = share(range(count), {}, _rates(state, accepted, now), _share_seed(state, 0))
    return _append(state, Assign("assign", opened.round, 0, accepted, rejected, weightless, reducers), now)


def _rates(state: State, accepted: tuple[int, ...], now: float) -> dict[int, float]:
    """The measured rates of the accepted slots that others can reach and that are alive."""
    members = present(state.open).members
    return {
        slot: state.nodes[members[slot].node].chunks_per_s
        for slot in accepted
        if members[slot].reduces and alive(state, members[slot].node, now)
    }


def _share_seed(state: State, attempt: int) -> str:
    opened = present(state.open)
    return f"{work_seed(state.rules.job, opened.round, opened.beacon)} {attempt}"


# ---------------------------------------------------------------- exchanging


def _advance_exchanging(state: State, now: float) -> Step:
    opened, assign = present(state.open), present(state.assign)
    if not assign.reducers:
        return _append(state, _result(state, {}), now)
    if len(state.fetched) == len(assign.reducers):
        return _append(state, _result(state, state.done), now)
    late = now >= state.since + opened.exchange_s
    if late or state.omitting or _a_reducer_has_died(state, now):
        return _reassign(state, late, now)
    for done in state.done.values():
        if done.chunks[0] not in state.fetched:
            asked, effects = ask(state, fetch_key(done), FetchResult(opened, done), now)
            if effects:
                return asked, effects
    return state, []


def _a_reducer_has_died(state: State, now: float) -> bool:
    members = present(state.open).members
    return any(
        item.chunk not in state.fetched and not alive(state, members[item.slot].node, now)
        for item in present(state.assign).reducers
    )


def _reassign(state: State, late: bool, now: float) -> Step:
    """Give what is missing to others; what was fetched stays, and so does the work of who is alive and in time.

    A chunk whose reducer left out a witnessed sender goes to the witness.
    """
    opened, assign = present(state.open), present(state.assign)
    rates = _rates(state, assign.accepted, now)
    if not rates or assign.attempt + 1 >= state.rules.attempts_max:
        return _append(state, _result(state, {}), now)
    kept: dict[int, int] = {}
    slow: set[int] = set()
    for item in assign.reducers:
        if item.chunk in state.fetched:
            kept[item.chunk] = item.slot
        elif item.chunk in state.omitting:
            slow.add(item.slot)
            if item.witness in rates and item.witness != item.slot:
                kept[item.chunk] = item.witness
        elif late:
            slow.add(item.slot)
        elif item.slot in rates:
            kept[item.chunk] = item.slot
    free = [item.chunk for item in assign.reducers if item.chunk not in kept]
    others = {slot: rate for slot, rate in rates.items() if slot not in slow}
    attempt = assign.attempt + 1
    reducers = share(free, kept, others or rates, _share_seed(state, attempt))
    body = Assign("assign", opened.round, attempt, assign.accepted, assign.rejected, assign.weightless, reducers)
    return _append(state, body, now)


def fetch_key(done: ChunkDone) -> str:
    """The name under which the fetch of averaged chunks is waited for."""
    return f"fetch {done.round} {done.attempt} {done.slot} {done.chunks[0]}"


def _result(state: State, done: Mapping[int, ChunkDone]) -> Result:
    """What was averaged, or nothing: then the round is void."""
    opened, seal = present(state.open), present(state.seal)
    said = sorted({item.chunks: item for item in done.values()}.values(), key=lambda item: item.chunks)
    entries = [
        ChunkResult(entry.chunk, item.attempt, item.slot, entry.senders, entry.result)
        for item in said
        for entry in item.averages
    ]
    chunks = tuple(sorted(entries, key=lambda entry: entry.chunk))
    reductions = tuple(Reduction(item.slot, item.attempt, item.chunks, item.signature) for item in said)
    books = close_books(opened, seal, chunks)
    return Result("result", opened.round, chunks, reductions, books.steps, books.cursor, books.returned)


# ---------------------------------------------------------------- closing and judging


def _advance_applying(state: State, now: float) -> Step:
    opened, result = present(state.open), present(state.result)
    if not state.applied_root:
        return ask(state, f"apply {opened.round}", Apply(opened, result), now)
    in_time = now < state.since + opened.exchange_s
    if in_time and any(
        node.joined
        and not node.banned
        and node.state_round >= state.round
        and name not in state.reports
        and alive(state, name, now)
        for name, node in state.nodes.items()
    ):
        return state, []
    reports = sorted(state.reports.items())
    agreeing = tuple(Report(name, item.signature) for name, item in reports if item.state_root == state.applied_root)
    forks = tuple(name for name, item in reports if item.state_root != state.applied_root)
    return _append(state, Close("close", opened.round, state.applied_root, agreeing, forks), now)


def advance_audits(state: State, now: float) -> Step:
    """One step in the audits of closed rounds."""
    for round_, audit in state.audits.items():
        if audit.drawn is None:
            draw = DrawAudits(audit.open, audit.seal, audit.candidates)
            asked, effects = ask(state, f"draw {round_}", draw, now)
            if effects:
                return asked, effects
            continue
        for slot in audit.to_replay_left:
            asked, effects = ask(state, f"replay {round_} {slot}", Replay(audit.open, audit.seal, slot), now)
            if effects:
                return asked, effects
        if not audit.to_replay_left:
            body = Verdict("verdict", round_, audit.drawn.secret, audit.drawn.block_hash, judge(audit))
            return _append(state, body, now)
    return state, []


def _append(state: State, body: Body, now: float) -> Step:
    record = Record(state.rules.job, state.height, state.head, body)
    return absorb(state, record, now), [Append(record)]
