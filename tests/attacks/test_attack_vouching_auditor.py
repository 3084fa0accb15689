"""An auditor vouches for its friend."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from conspiracy import Conspiracy
from purse import Purse

ATTACK = Attack(
    "an auditor vouches for its friend",
    "A member audits honestly, but says of its friend's false work that it is right.",
    "unprofitable",
)
BETRAYS, SEEDS = 3, range(4, 8)


def test_the_friend_is_found_out_all_the_same(purse: Purse, expect: Expect) -> None:
    """It is drawn only at times, and in known tasks it falls with its friend: together they lose more than they gain,
    and who has vouched in such a task has lost all.
    """
    paid_wei = slashed_wei = fell = 0
    for seed in SEEDS:
        world = Conspiracy("vouches", seed, BETRAYS)
        world.end()
        assert any(item.rejected for item in world.work(world.cheat)), f"the cheat was never found out; seed {seed}"
        honest = [name for name in world.accounts if name not in world.traitors]
        assert not set(honest) & set(world.banned())
        assert all(item.accepted for name in honest for item in world.work(name))
        lied = [task for task in world.tasks(world.liar) if task.outcome == "rejected"]
        assert bool(lied) == (world.liar in world.banned()), f"seed {seed}"
        paid, slashed = purse.of(world)
        paid_wei, slashed_wei, fell = paid_wei + paid, slashed_wei + slashed, fell + bool(lied)
    assert fell, "in none of these lives was a known task drawn"
    assert paid_wei < slashed_wei, (paid_wei, slashed_wei)
    how = f"in {len(SEEDS)} lives the cheat was found out each time, its friend in {fell}"
    expect(Finding("unprofitable", how, paid_wei, slashed_wei))
