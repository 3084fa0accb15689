"""A reducer that gives two peers two results."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from world import RULES, World, closes
from world_cast import Role, Weather

ATTACK = Attack(
    "a reducer gives two results",
    "A reducer signs two averages of the same chunk, one for some peers and one for the others.",
    "prevented",
)


def test_all_peers_apply_the_recorded_one(expect: Expect) -> None:
    rounds = 0
    for seed in range(5):
        world = World(seed, [Role(), Role(), Role(), Role(vice="doubles")], Weather(delay_s_max=1.0), RULES)
        world.run(2_000.0)
        assert world.finished(), f"seed {seed}"
        assert world.applied and all(len(roots) == 1 for roots in world.applied.values()), f"seed {seed}"
        assert not any(close.forks for close in closes(world)), f"seed {seed}"
        rounds += len(world.applied)
    expect(Finding("prevented", f"{rounds} rounds, one state root in each"))
