"""At least a thousand seeded schedules of loss, delay, duplication, crash and restart over the pure round cores.

One schedule alone: ``pytest tests/sim/test_schedules.py --seed 123``.
"""

from __future__ import annotations

import random

import pytest
from world import Weather, World, closes, results

from anynode.rounds.records import Open, Verdict

SCHEDULES = 1_000
BLOCK = 50
LIMIT_S = 3_000.0


def weather(seed: int) -> tuple[Weather, int, int]:
    """The network of a schedule, its number of members, and of cheats among them."""
    dice = random.Random(f"weather {seed}")
    cheats = dice.choice((0, 0, 1))
    members = dice.randint(1, 5) + cheats
    return (
        Weather(
            loss=dice.choice((0.0, 0.05, 0.3)),
            duplicate=dice.choice((0.0, 0.1, 0.5)),
            delay_s_max=dice.choice((0.01, 0.5, 3.0)),
            failure=dice.choice((0.0, 0.1)),
            crashes=dice.randint(0, 5),
            until_s=dice.choice((20.0, 60.0)),
        ),
        members,
        cheats,
    )


def run_schedule(seed: int, rounds: int = 3) -> World:
    conditions, members, cheats = weather(seed)
    world = World(seed, members, rounds, conditions, cheats)
    world.run(LIMIT_S)
    check(world, rounds)
    return world


def check(world: World, rounds: int) -> None:
    again = f"; replay with --seed {world.seed}"
    for round_, roots in world.applied.items():
        assert len(roots) == 1, f"two honest peers held different states after round {round_}{again}"
    assert world.finished(), f"the job did not finish by {world.now:.0f} s{again}"
    assert [close.round for close in closes(world)] == list(range(rounds)), f"a round is missing{again}"
    for close in closes(world):
        assert {close.state_root} == world.applied[close.round], f"the record names another state{again}"
        assert not close.forks, f"an honest report counts as a fork{again}"
    assert not world.faults, f"{world.faults}{again}"
    verdicts = [record.body.round for record in world.records if isinstance(record.body, Verdict)]
    assert sorted(verdicts) == list(range(rounds)), f"a round has no verdict, or two{again}"
    check_samples(world, again)
    check_cheats(world, again)


def check_samples(world: World, again: str) -> None:
    """Each position is trained once or lies in the pool: none is lost, none is dealt twice."""
    opens = {record.body.round: record.body for record in world.records if isinstance(record.body, Open)}
    trained: set[int] = set()
    for result in results(world):
        opened = opens[result.round]
        included = {slot for entry in result.chunks for slot in entry.senders}
        for slot in included:
            positions = {p for start, end in opened.ranges[slot] for p in range(start, end)}
            assert not positions & trained, f"a sample was trained twice{again}"
            trained |= positions
        pool = {p for start, end in result.returned for p in range(start, end)}
        assert not pool & trained, f"a trained sample lies in the pool{again}"
        assert pool | trained == set(range(result.cursor)), f"a sample was lost{again}"


def check_cheats(world: World, again: str) -> None:
    cheats = {peer.name for peer in world.peers.values() if peer.cheats}
    opens = {record.body.round: record.body for record in world.records if isinstance(record.body, Open)}
    for result in results(world):
        nodes = {opens[result.round].members[slot].node for entry in result.chunks for slot in entry.senders}
        assert not nodes & cheats, f"an unproven cheat's update had weight{again}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "first_seed" in metafunc.fixturenames:
        metafunc.parametrize("first_seed", range(0, SCHEDULES, BLOCK))


def test_schedules(first_seed: int, only_seed: int | None) -> None:
    if only_seed is not None:
        if first_seed == 0:
            run_schedule(only_seed)
        return
    for seed in range(first_seed, first_seed + BLOCK):
        run_schedule(seed)


def test_schedules_reach_what_they_claim() -> None:
    """The thousand schedules do contain coordinator crashes, void rounds and replaced reducers."""
    worlds = [run_schedule(seed) for seed in range(60)]
    assert any(any(not result.chunks for result in results(world)) for world in worlds), "no void round"
    assert any(any(entry.attempt > 0 for result in results(world) for entry in result.chunks) for world in worlds), (
        "no reducer was ever replaced"
    )
    assert any(world.peers["coordinator"].life > 0 for world in worlds), "the coordinator never crashed"


def test_a_round_with_one_live_member_closes() -> None:
    world = World(seed=1, members=1, rounds=2, weather=Weather())
    world.run(LIMIT_S)
    check(world, 2)
    assert all(result.chunks for result in results(world))


def test_a_world_is_a_function_of_its_seed() -> None:
    first, second = run_schedule(17), run_schedule(17)
    assert [record.hash for record in first.records] == [record.hash for record in second.records]
