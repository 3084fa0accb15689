"""What a coordinator does next in the round under way: one record or one question to its shell at a time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from anynode.rounds import asking
from anynode.rounds.absorbing import append
from anynode.rounds.audit_secrets import hash_of
from anynode.rounds.books import close_books
from anynode.rounds.coordination import (
    RETURN_S,
    Phase,
    State,
    Step,
    alive,
    ask,
    audit_secret,
    lost_at,
    present,
    unheard,
)
from anynode.rounds.course import (
    Assign,
    ChunkResult,
    Close,
    Committed,
    Reason,
    Reduction,
    Report,
    Result,
    Seal,
    Unreadable,
)
from anynode.rounds.deal import work_seed
from anynode.rounds.effects import (
    Apply,
    CoordinatorEffect,
    FetchResult,
    GetBeacon,
    GetRates,
)
from anynode.rounds.messages import ChunkDone
from anynode.rounds.opening import advance_waiting, ready_nodes
from anynode.rounds.shares import share, to_measure_again
from anynode.rounds.standing import least_rate_ppm

ABSENT_S = 1.0
"""A sender that dies inside an exchange is waited for this long: its connection may be back in a moment."""


def advance(state: State, now: float) -> Step:
    """One step in the round under way; no effects when nothing can be done but wait."""
    match state.phase:
        case Phase.WAITING:
            return advance_waiting(state, now)
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


# ---------------------------------------------------------------- sealing


def _advance_working(state: State, now: float) -> Step:
    opened = present(state.open)
    in_time = now < state.since + opened.work_s
    if in_time and any(
        member.slot not in state.commitments and alive(state, member.node, now) for member in opened.members
    ):
        return state, []
    if in_time and not _somebody_can_exchange(state, now) and _dead_are_waited_for(state, now):
        return state, []
    if not state.rates_ppm:
        return ask(state, f"rates {opened.round}", GetRates(opened), now)
    if state.beacon is None or state.beacon.round != opened.round:
        # The block that opened the round is old by now, and the sealed height has to lie in the future.
        return ask(state, f"beacon {opened.round}", GetBeacon(opened.round), now)
    height = state.beacon.audit_height or _height_from_records(state)
    if not height:
        asked = asking.failed(state.asked, f"beacon {opened.round}", now)
        return replace(state, beacon=None, asked=asked), []
    missing = tuple(
        Reason(member.slot, _why_missing(state, member.node))
        for member in opened.members
        if member.slot not in state.commitments
    )
    secret_hash = hash_of(audit_secret(state.rules, opened.round))
    committed = _committed(state)
    rates_ppm = tuple(_rate_ppm(state, item) for item in committed)
    sealer, absences = state.rules.sealer, state.rules.sign_nothing(opened.round, tuple(item.slot for item in missing))
    seal = Seal("seal", opened.round, committed, missing, secret_hash, height, rates_ppm, sealer, absences)
    return append(state, seal, now)


def _height_from_records(state: State) -> int:
    """Where the chain was never seen since the start: a block after all that were sealed, and so after the beacons of
    their rounds. 0 where nobody can say: before the first seal, and in a round that an earlier run opened with a block,
    which may be later than those.
    """
    if present(state.open).beacon.startswith("0x"):
        return 0
    return max((seal.audit_height + 1 for seal in state.seals), default=0)


def _why_missing(state: State, name: str) -> str:
    version = state.nodes[name].code_version
    if version and not state.rules.replays(version):
        return f"it runs AnyNode {version}, whose work cannot be replayed here"
    return "no commitment arrived before the deadline"


def _rate_ppm(state: State, item: Committed) -> int:
    """What stake and pay ask for, and never less than the node has shown by its audits."""
    return max(state.rates_ppm[item.slot], least_rate_ppm(state.nodes[item.node].standing))


def _somebody_can_exchange(state: State, now: float) -> bool:
    """Whether a round sealed now would have a live member to reduce what was committed."""
    members = present(state.open).members
    return any(members[slot].reduces and alive(state, members[slot].node, now) for slot in state.commitments)


def _dead_are_waited_for(state: State, now: float) -> bool:
    """Whether a round without a live member goes on waiting for one to come back: sealed, it would be void. Where
    others stand ready it waits for a moment only, and opens anew with them. After the job's end for nobody."""
    if state.ended:
        return False
    members = present(state.open).members
    back = [state.nodes[member.node] for member in members if not state.nodes[member.node].banned]
    lost = [lost_at(state, node) for node in back if node.joined]
    if not lost:
        return False
    places = {member.node for member in members}
    others = any(name not in places and state.nodes[name].reduces for name in ready_nodes(state, now))
    return not others or now < max(lost) + RETURN_S


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
    to_ask = state.findings.to_ask(opened, seal, (item.slot for item in standing))
    for key, effect in to_ask.items():
        state, effects = ask(state, key, effect, now)
        asking_for += effects
    if to_ask:
        return state, asking_for
    verdicts = [state.findings.decided[item.slot] for item in standing]
    accepted = tuple(verdict.slot for verdict in verdicts if verdict.outcome == "accepted")
    found = (verdict for verdict in verdicts if verdict.outcome == "rejected")
    rejected = tuple(Reason(verdict.slot, verdict.reason, verdict.proof) for verdict in found)
    # What could not be decided stays out of the average, and is looked at once more when the round has closed.
    undecided = tuple(verdict.slot for verdict in verdicts if verdict.outcome == "void")
    return _assign(state, accepted, banned + rejected, undecided, now)


def _assign(
    state: State, accepted: tuple[int, ...], rejected: tuple[Reason, ...], weightless: tuple[int, ...], now: float
) -> Step:
    """The first assignment of a round's chunks."""
    opened, rules = present(state.open), state.rules
    rates = _rates(state, accepted, now)
    if not rates and _may_return(state, accepted) and now < state.since + opened.exchange_s:
        return state, []
    count = rules.chunks_on_refresh if opened.refresh else rules.chunks
    measured = {slot: state.nodes[opened.members[slot].node].measured_in for slot in rates}
    again = to_measure_again(rates, measured, opened.round)
    reducers = share(range(count), {}, rates, _share_seed(state, 0), again)
    absent = _absent(state, accepted, now)
    return append(state, Assign("assign", opened.round, 0, accepted, rejected, weightless, absent, reducers, ()), now)


def _absent(state: State, accepted: tuple[int, ...], now: float) -> tuple[int, ...]:
    """The accepted slots whose members are not there: what they have not delivered yet is not waited for."""
    members = present(state.open).members
    return tuple(slot for slot in accepted if not alive(state, members[slot].node, now))


def _rates(state: State, accepted: tuple[int, ...], now: float) -> dict[int, float]:
    """The measured rates of the accepted slots that others can reach and that are alive, but for those that have signed
    in this round what is no average.
    """
    members = present(state.open).members
    return {
        slot: state.nodes[members[slot].node].chunks_per_s
        for slot in accepted
        if members[slot].reduces and slot not in _unfit(state) and alive(state, members[slot].node, now)
    }


def _may_return(state: State, accepted: tuple[int, ...]) -> bool:
    """Whether somebody who could reduce has died and not left: who comes back in time saves the round. After the job's
    end nobody is waited for.
    """
    if state.ended:
        return False
    places = [present(state.open).members[slot] for slot in accepted if slot not in _unfit(state)]
    return any(place.reduces and state.nodes[place.node].joined for place in places)


def _unfit(state: State) -> set[int]:
    """The slots that have signed in this round what is no average."""
    said = state.assign.unreadable if state.assign is not None else ()
    return {*state.unreadable, *(item.reducer for item in said)}


def _share_seed(state: State, attempt: int) -> str:
    opened = present(state.open)
    return f"{work_seed(state.rules.job, opened.round, opened.beacon)} {attempt}"


# ---------------------------------------------------------------- exchanging


def _advance_exchanging(state: State, now: float) -> Step:
    opened, assign = present(state.open), present(state.assign)
    if not assign.reducers:
        return append(state, _result(state, {}), now)
    if len(state.fetched) == len(assign.reducers):
        return append(state, _result(state, state.done), now)
    late = now >= state.since + opened.exchange_s
    if late or state.omitting or state.unreadable or _a_reducer_has_died(state, now) or _a_sender_has_died(state, now):
        if not late and not _rates(state, assign.accepted, now) and _may_return(state, assign.accepted):
            return state, []
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


def _a_sender_has_died(state: State, now: float) -> bool:
    """Whether reducers wait for a member that has been away for a moment. What it has delivered still counts."""
    assign, members = present(state.assign), present(state.open).members
    if assign.attempt + 2 >= state.rules.attempts_max or len(state.done) == len(assign.reducers):
        return False  # the last attempts are for reducers that die; without one the senders' time runs out
    awaited = (members[slot].node for slot in assign.accepted if slot not in assign.absent)
    return any(not alive(state, name, now - ABSENT_S) for name in awaited)


def _reassign(state: State, late: bool, now: float) -> Step:
    """Give what is missing to others; what was fetched stays, and so does the work of who is alive and in time.

    A chunk whose reducer left out a witnessed sender goes to a witness. What was signed and is no average is put on
    record in any case, also where nobody is left to reduce.
    """
    assign = present(state.assign)
    rates = _rates(state, assign.accepted, now)
    unreadable = assign.unreadable + tuple(_unreadable(done) for _, done in sorted(state.unreadable.items()))
    if not rates or assign.attempt + 1 >= state.rules.attempts_max:
        if not state.unreadable:
            return append(state, _result(state, {}), now)
        nobody = replace(assign, attempt=assign.attempt + 1, reducers=(), unreadable=unreadable)
        return append(state, nobody, now)
    kept: dict[int, int] = {}
    slow: set[int] = set()
    for item in assign.reducers:
        if item.chunk in state.fetched:
            kept[item.chunk] = item.slot
        elif item.chunk in state.omitting:
            slow.add(item.slot)
            holders = [slot for slot in state.witnessed.get(item.chunk, {}).values() if slot in rates]
            if holders:
                kept[item.chunk] = min(holders)
        elif late:
            slow.add(item.slot)
        elif item.slot in rates:
            kept[item.chunk] = item.slot
    free = [item.chunk for item in assign.reducers if item.chunk not in kept]
    others = {slot: rate for slot, rate in rates.items() if slot not in slow}
    attempt = assign.attempt + 1
    reducers = share(free, kept, others or rates, _share_seed(state, attempt))
    absent = _absent(state, assign.accepted, now)
    body = replace(assign, attempt=attempt, absent=absent, reducers=reducers, unreadable=unreadable)
    return append(state, body, now)


def _unreadable(done: ChunkDone) -> Unreadable:
    return Unreadable(_entries(done), done.signature)


def _entries(done: ChunkDone) -> tuple[ChunkResult, ...]:
    return tuple(ChunkResult(item.chunk, done.attempt, done.slot, item.senders, item.result) for item in done.averages)


def fetch_key(done: ChunkDone) -> str:
    """The name under which the fetch of averaged chunks is waited for."""
    return f"fetch {done.round} {done.attempt} {done.slot} {done.chunks[0]}"


def _result(state: State, done: Mapping[int, ChunkDone]) -> Result:
    """What was averaged, or nothing: then the round is void."""
    opened, seal = present(state.open), present(state.seal)
    said = sorted({item.chunks: item for item in done.values()}.values(), key=lambda item: item.chunks)
    chunks = tuple(sorted((entry for item in said for entry in _entries(item)), key=lambda entry: entry.chunk))
    reductions = tuple(Reduction(item.slot, item.attempt, item.chunks, item.signature) for item in said)
    books = close_books(opened, seal, chunks)
    return Result("result", opened.round, chunks, reductions, books.steps, books.cursor, books.returned)


# ---------------------------------------------------------------- closing


def _advance_applying(state: State, now: float) -> Step:
    opened, result = present(state.open), present(state.result)
    if not state.applied_root:
        return ask(state, f"apply {opened.round}", Apply(opened, result), now)
    in_time = now < state.since + opened.exchange_s
    returned_by = (state.restored_at or 0.0) + RETURN_S
    if in_time and any(
        node.joined
        and not node.banned
        and node.state_round >= state.round
        and name not in state.reports
        and alive(state, name, now)
        and not (unheard(state, node) and now >= returned_by)
        for name, node in state.nodes.items()
    ):
        return state, []
    reports = sorted(state.reports.items())
    agreeing = tuple(Report(name, item.signature) for name, item in reports if item.state_root == state.applied_root)
    forks = tuple(name for name, item in reports if item.state_root != state.applied_root)
    return append(state, Close("close", opened.round, state.applied_root, agreeing, forks), now)
