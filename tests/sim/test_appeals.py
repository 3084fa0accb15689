"""Appeals among crashes, loss and partitions: the honest win theirs, cheats lose theirs, each is heard once."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from appealing_world import AppealingWorld
from world import RULES, opens
from world_cast import COORDINATOR, Role, Weather

from anynode.rounds import coordinator, member
from anynode.rounds.appeals import APPEALS_MAX
from anynode.rounds.events import Appealed
from anynode.rounds.judgements import Verdict

LIMIT_S = 3_000.0
LONG = replace(RULES, rounds=6)


def run_world(seed: int) -> AppealingWorld:
    dice = random.Random(f"appeals {seed}")
    calm = seed % 3 == 0
    weather = Weather(
        loss=0.0 if calm else 0.1,
        duplicate=0.0 if calm else 0.1,
        delay_s_max=dice.choice((0.05, 1.0)),
        failure=0.0 if calm else 0.1,
        crashes=0 if calm else dice.randint(0, 4),
        partitions=0 if calm else dice.choice((0, 1)),
        until_s=60.0,
    )
    roles = [Role(), Role(), Role(), Role(cheats=True, comes_at_s=dice.choice((0.0, 8.0)))]
    world = AppealingWorld(seed, roles, weather, LONG)
    world.accused, world.errs = frozenset({world.members[1].name}), dice.choice((0, 0, 1))
    world.run(LIMIT_S)
    return world


@pytest.mark.parametrize("seed", range(12))
def test_the_honest_win_their_appeals_and_cheats_lose_theirs(seed: int) -> None:
    world = run_world(seed)
    again = f"; seed {seed}"
    assert world.finished(), f"the job did not finish{again}"
    honest = {peer.name for peer in world.members if peer.role.honest}
    counted = Counter((item.round, item.node) for item in world.rulings)
    assert all(count == 1 for count in counted.values()), f"an appeal was decided twice{again}"
    for item in world.rulings:
        assert item.granted == (item.node in honest), f"{item}{again}"
    for peer in world.members:
        assert isinstance(peer.state, member.State)
        assert peer.state.own.standing.banned == world.standing(peer.name).banned, f"a member counts otherwise{again}"
        if peer.name in honest:
            assert not world.standing(peer.name).banned, f"an honest node stays excluded{again}"
        elif any(item.node == peer.name for item in world.rulings):
            assert world.standing(peer.name).banned, f"a cheat has come back{again}"
    centre = world.peers[COORDINATOR].state
    assert isinstance(centre, coordinator.State)
    restored = coordinator.restore(world.rules, world.records, world.now)
    assert {name: node.standing for name, node in restored.nodes.items()} == {
        name: world.standing(name) for name in restored.nodes
    }, f"a restart knows of the rulings{again}"


def test_who_wins_its_appeal_has_a_place_again() -> None:
    world = AppealingWorld(3, [Role()] * 4, Weather(), LONG)
    world.accused, world.errs = frozenset({world.members[1].name}), 1  # its first work, which is always replayed
    world.run(LIMIT_S)
    (accused,) = world.accused
    (granted,) = (item for item in world.rulings if item.node == accused and item.round == world.errs)
    rounds = [number for number, opened in opens(world).items() if accused in {m.node for m in opened.members}]
    assert granted.granted and max(rounds) > world.errs, rounds


def test_a_flood_of_appeals_costs_one_replay_each_rejection() -> None:
    """They are said again and again, and made up for work that was not rejected: nothing comes of that."""
    world = AppealingWorld(5, [Role()] * 3 + [Role(cheats=True)] * 8, Weather(), replace(LONG, members_max=12))
    for number in range(300):
        name, round_ = world.members[number % 11].name, number % 7
        world._at(
            1.0 + number / 10,
            lambda name=name, round_=round_: world._feed(
                world.peers[COORDINATOR], Appealed(world.signed_appeal(name, round_))
            ),
        )
    world.run(LIMIT_S)
    assert world.finished()
    judged = [item for record in world.records if isinstance(record.body, Verdict) for item in record.body.judged]
    rejected = sum(bool(item.proof) for item in judged)
    assert rejected and world.heard == len(world.rulings) == rejected
    centre = world.peers[COORDINATOR].state
    assert isinstance(centre, coordinator.State) and len(centre.appeals) <= APPEALS_MAX
