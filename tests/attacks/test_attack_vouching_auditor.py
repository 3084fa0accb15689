"""An auditor vouches for its friend."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from conspiracy import Conspiracy

ATTACK = Attack(
    "an auditor vouches for its friend",
    "A member audits honestly, but says of its friend's false work that it is right.",
    "unprofitable",
)
BETRAYS, SEEDS = 3, 4


def test_the_friend_is_found_out_all_the_same(expect: Expect) -> None:
    """It is drawn only at times, and in known tasks it falls with its friend."""
    caught = vouched = fell = 0
    for seed in range(SEEDS):
        world = Conspiracy("vouches", seed, BETRAYS)
        world.end()
        work = world.work(world.cheat)
        caught += any(item.rejected for item in work)
        vouched += sum(task.outcome == "accepted" for task in world.tasks(world.liar))
        fell += world.liar in world.banned()
        honest = [name for name in world.accounts if name not in (world.liar, world.cheat)]
        assert not set(honest) & set(world.banned())
        assert all(item.accepted for name in honest for item in world.work(name))
    assert caught == SEEDS
    expect(Finding("unprofitable", f"the cheat was found out in {caught} of {SEEDS} lives, its friend in {fell}"))
