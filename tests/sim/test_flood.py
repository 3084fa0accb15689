"""A flood of new identities: it stops no job, its audits stay within their share, and a stake goes past it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_schedules import LIMIT_S, check
from world import RULES, World, closes, opens
from world_cast import Role, Weather

from anynode.rounds.course import Open, Seal
from anynode.rounds.judgements import Verdict
from anynode.rounds.newcomers import newcomer_places

FLOOD, SMALL_FLOOD, FOUNDERS, ROUNDS = 1_000, 200, 4, 8
COMES_AT_S = 5.0
REPLAY_STEPS_PER_S = 12.0


@pytest.fixture(scope="module")
def flooded(request: pytest.FixtureRequest) -> World:
    """Four founders, of whom all are proven, then a thousand cheats (in the short setting, two hundred) and two honest
    newcomers, one with a stake.
    """
    flood = FLOOD if request.config.getoption("--deep") else SMALL_FLOOD
    world = world_of([Role(cheats=True, comes_at_s=COMES_AT_S)] * flood + [Role(comes_at_s=COMES_AT_S)] * 2)
    world.staked = (world.members[-1].name,)
    world.run(LIMIT_S)
    return world


def world_of(others: list[Role]) -> World:
    rules = replace(RULES, rounds=ROUNDS, members_min=FOUNDERS, members_max=64)
    world = World(11, [Role()] * FOUNDERS + others, Weather(), rules)
    world.replay_steps_per_s = REPLAY_STEPS_PER_S
    return world


def times_s(world: World) -> dict[int, float]:
    """When each round opened."""
    return {
        record.body.round: at
        for record, at in zip(world.records, world.recorded_at, strict=True)
        if isinstance(record.body, Open)
    }


def test_the_job_goes_on_as_if_there_were_no_flood(flooded: World) -> None:
    check(flooded)
    calm = world_of([])
    calm.run(LIMIT_S)
    assert len(closes(flooded)) == len(closes(calm)) == ROUNDS
    longest, usual = times_s(flooded)[ROUNDS - 1], times_s(calm)[ROUNDS - 1]
    assert longest <= 1.3 * usual


def test_audits_of_newcomers_take_no_more_than_their_share(flooded: World) -> None:
    """In steps: every newcomer's commitment is replayed, and all of them in a round stay within the places."""
    opened, at_s = opens(flooded), times_s(flooded)
    seals = {record.body.round: record.body for record in flooded.records if isinstance(record.body, Seal)}
    longest_s = max(at_s[n + 1] - at_s[n] for n in range(ROUNDS - 1))
    places = newcomer_places(REPLAY_STEPS_PER_S, longest_s, RULES.newcomer_steps)
    came = 0
    for n in range(1, ROUNDS):
        newcomers = {place.slot for place in opened[n].members if not place.proven}
        steps = sum(item.steps for item in seals[n].commitments if item.slot in newcomers)
        assert len(newcomers) <= places, f"round {n}"
        assert steps <= places * RULES.newcomer_steps, f"round {n}"
        came += len(newcomers)
    assert came >= ROUNDS - 2, "the flood did come, and took the places that there are"


def test_each_identity_of_the_flood_costs_one_replay(flooded: World) -> None:
    """It is banned by its first work, so that it never takes a place again."""
    cheats = {peer.name for peer in flooded.members if peer.cheats}
    verdicts = [record.body for record in flooded.records if isinstance(record.body, Verdict)]
    rejected = [item.node for body in verdicts for item in body.judged if item.node in cheats and item.audited]
    assert rejected
    assert len(set(rejected)) >= len(rejected) - FOUNDERS, "no more than what was under way when it was found out"
    late = {place.node for place in opens(flooded)[ROUNDS - 1].members}
    first = {item.node for item in verdicts[1].judged if item.rejected}
    assert not late & first


def test_who_has_a_stake_passes_the_flood(flooded: World) -> None:
    (staked,) = flooded.staked
    places = [n for n, body in opens(flooded).items() if staked in {place.node for place in body.members}]
    assert places
    at_s = times_s(flooded)
    first_after = min(n for n, at in at_s.items() if at > COMES_AT_S + 5)
    assert places[0] <= first_after + 1
    assert any(place.proven for n in places for place in opens(flooded)[n].members if place.node == staked)
