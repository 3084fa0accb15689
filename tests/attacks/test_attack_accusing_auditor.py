"""An accusing auditor."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from conspiracy import Conspiracy

ATTACK = Attack(
    "an accusing auditor",
    "A member that audits others says of honest work that doing it again gives something else.",
    "caught",
)


def test_it_accuses_once_and_is_out(expect: Expect) -> None:
    world = Conspiracy("accuses", seed=32)
    world.end()
    tasks = world.tasks(world.liar)
    assert [task.outcome for task in tasks] == ["rejected"]
    assert set(world.banned()) == {world.liar}
    others = [item for name in world.accounts if name != world.liar for item in world.work(name)]
    assert others and all(item.accepted for item in others)
    expect(Finding("caught", "its first accusation was compared with two replays; nobody else lost anything"))
