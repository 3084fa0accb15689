"""A reducer that adds wrongly."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from false_reducing import FalselyReduced
from purse import Purse

ATTACK = Attack(
    "a reducer adds wrongly",
    "A reducer signs other averages than those of the chunks that were delivered to it.",
    "caught",
)


def test_its_chunks_are_averaged_again(purse: Purse, expect: Expect) -> None:
    """It is out from then on, is paid for no reducing, and loses what was held back."""
    world = FalselyReduced("adds wrongly", rounds=16, seed=5)
    world.run_to_its_end()
    assert all(item.accepted for body in world.verdicts for item in body.judged if item.node != world.traitor)
    paid_wei, slashed_wei = purse.of(world)
    assert slashed_wei > 0
    blamed = sum(len(body.reductions) for body in world.verdicts)
    expect(Finding("caught", f"{blamed} chunks averaged again give another hash", paid_wei, slashed_wei))
