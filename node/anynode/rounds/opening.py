"""How a coordinator opens a round: when, with whom, and what it deals to each. Pure."""

from __future__ import annotations

from anynode.rounds.absorbing import append
from anynode.rounds.coordination import RETURN_S, Node, State, Step, alive, ask, unheard
from anynode.rounds.correcting import advance_correction, members_fetch
from anynode.rounds.course import Begin, Finish, Member, Open
from anynode.rounds.deal import deal, take, work_seed
from anynode.rounds.effects import GetBeacon
from anynode.rounds.events import Beacon
from anynode.rounds.messages import PROTOCOL
from anynode.rounds.newcomers import by_beacon, draw_newcomers, newcomer_places
from anynode.rounds.pacing import inner_steps
from anynode.rounds.quotas import TRIED_AGAIN_ROUNDS, deadline_s, is_too_slow, median_speed, quotas, within_budget


def advance_waiting(state: State, now: float) -> Step:
    """Between two rounds: open the next one when members are ready for it, or finish the job."""
    rules = state.rules
    if state.height == 0:
        return append(state, Begin("begin", PROTOCOL, rules.state_root), now)
    if state.corrected is not None:
        return append(state, state.corrected.body, now)
    if state.excise is not None:
        return advance_correction(state, state.excise, now)
    steps_left = (rules.samples_max - state.samples) // rules.batch_size
    over = state.round >= rules.rounds or state.steps >= rules.total_steps
    over = over or steps_left < rules.inner_steps_min * rules.parts
    if over or state.ended:
        return append(state, Finish("finish", state.round, state.state_root, ended=not over), now)
    key = f"beacon {state.round}"
    has_beacon = state.beacon is not None and state.beacon.round == state.round
    fewest = rules.members_min if state.round == 0 else 1
    if len(state.nodes) < fewest or (not has_beacon and state.asked.get(key, 0.0) > now):
        return state, []
    ready = in_pace(state, ready_nodes(state, now))
    if _members_may_return(state, now) or members_fetch(state, now):
        return state, []
    if len(ready) < fewest or not any(state.nodes[name].reduces for name in ready):
        return state, []
    if state.beacon is None or not has_beacon:
        return ask(state, key, GetBeacon(state.round), now)
    chosen = _chosen(state, ready, state.beacon)
    return append(state, _opening(state, chosen, steps_left, state.beacon), now)


def ready_nodes(state: State, now: float) -> list[str]:
    """Who could take part now. Who has worked with another version than is replayed here has to join anew."""

    def fits(node: Node) -> bool:
        known = not node.code_version or state.rules.replays(node.code_version)
        return known and node.state_round == state.round and not node.banned and not unheard(state, node)

    return [name for name, node in state.nodes.items() if fits(node) and alive(state, name, now)]


def in_pace(state: State, ready: list[str]) -> list[str]:
    """Who can do the smallest share while a round lasts. Who cannot has no place for a while: the others would wait for
    it, and most of what it did would come too late.
    """
    rules = state.rules
    middle = median_speed(state.nodes[name].pace for name in ready)
    shares = rules.inner_steps_max * rules.parts

    def fits(name: str) -> bool:
        node = state.nodes[name]
        again = state.round - node.paced_in >= TRIED_AGAIN_ROUNDS
        return again or not is_too_slow(node.pace, middle, shares, state.idle_s)

    return [name for name in ready if fits(name)]


def _chosen(state: State, ready: list[str], beacon: Beacon) -> list[str]:
    """Who gets a place: newcomers as far as audits allow, and where there are more than places, whom the beacon draws.

    A network in which nobody is proven yet starts with as many newcomers as the job asks for.
    """
    rules = state.rules
    proven = [name for name in ready if state.nodes[name].proven]
    waiting = [name for name in ready if not state.nodes[name].proven]
    places = newcomer_places(state.replay_steps_per_s, state.round_s, rules.newcomer_steps)
    if not proven:
        places = max(places, rules.members_min)
    drawn = draw_newcomers(waiting, beacon.staked, places, beacon.block_hash)
    if not any(state.nodes[name].reduces for name in (*proven, *drawn)):
        drawn[-1:] = [next(name for name in ready if state.nodes[name].reduces)]
    chosen = sorted([*proven, *drawn], key=lambda name: by_beacon(beacon.block_hash, name))
    return chosen[: rules.members_max]


def _members_may_return(state: State, now: float) -> bool:
    """Whether the last round's members are still on their way to a coordinator that has just restarted: the first of
    them back would open a round alone."""
    if state.restored_at is None or state.open is None or now >= state.restored_at + RETURN_S:
        return False
    former = [state.nodes[member.node] for member in state.open.members]
    return any(node.joined and not node.banned and unheard(state, node) for node in former)


def _opening(state: State, ready: list[str], steps_left: int, beacon: Beacon) -> Open:
    rules = state.rules
    paces = [state.nodes[name].pace for name in ready]
    length = inner_steps(state.idle_s, median_speed(paces), rules.inner_steps_min, rules.inner_steps_max)
    length = min(length, steps_left // rules.parts)
    shares = length * rules.parts
    wanted = [
        quota if state.nodes[name].proven else min(quota, rules.newcomer_steps)
        for name, quota in zip(ready, quotas(paces, shares, rules.newcomer_steps), strict=True)
    ]
    steps = within_budget(wanted, steps_left)
    places = sorted(zip(ready, steps, strict=False))
    members = tuple(_member(state, slot, name, quota, beacon) for slot, (name, quota) in enumerate(places))
    samples = [member.quota_steps * rules.batch_size for member in members]
    pool, cursor, returned = take(state.cursor, state.returned, sum(samples))
    due = not state.has_moments or state.round % rules.refresh_rounds == 0
    return Open(
        kind="open",
        round=state.round,
        state_root=state.state_root,
        beacon=beacon.block_hash,
        refresh=rules.publishes_moments and due,
        members=members,
        ranges=deal(pool, samples, work_seed(rules.job, state.round, beacon.block_hash)),
        cursor=cursor,
        returned=returned,
        inner_steps=length,
        work_s=deadline_s(paces[: len(steps)], steps, shares, rules.work_s),
        exchange_s=rules.exchange_s,
        thresholds=rules.thresholds,
    )


def _member(state: State, slot: int, name: str, quota: int, beacon: Beacon) -> Member:
    node, owner = state.nodes[name], beacon.owners.get(name, "")
    return Member(slot, name, node.peer, node.hardware, quota, node.proven, node.reduces, node.audits, owner)
