"""Trust built up, then cheating."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from purse import BetrayedWorld, Purse

ATTACK = Attack(
    "trust built up, then cheating",
    "A worker is honest until it is audited less often, and cheats from then on.",
    "unprofitable",
)
BETRAYS, ROUNDS, SEEDS = 4, 14, 3


def test_what_is_held_back_is_more_than_what_passes(purse: Purse, expect: Expect) -> None:
    """Some of its false work passes unseen; then it loses all that it had earned."""
    paid_wei = slashed_wei = caught = 0
    for seed in range(SEEDS):
        world = BetrayedWorld(BETRAYS, ROUNDS, seed)
        world.run(3_000.0)
        assert world.finished(), f"seed {seed}"
        paid, slashed = purse.of(world)
        paid_wei, slashed_wei, caught = paid_wei + paid, slashed_wei + slashed, caught + (slashed > 0)
    assert caught == SEEDS
    expect(Finding("unprofitable", f"found out in {caught} of {SEEDS} lives", paid_wei, slashed_wei))
