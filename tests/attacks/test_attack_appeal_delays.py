"""Appeals to delay a job."""

from __future__ import annotations

from appealed_world import BETRAYS, TRAITOR, appealed_world
from appealing_world import AppealingWorld
from attack import Attack, Expect, Finding
from purse import Purse
from signed_world import make_job, rules_of
from world_cast import Role, Weather

ATTACK = Attack(
    "appeals to delay",
    "Cheats appeal against every rejection, again and again, to keep auditors busy and the job from its end.",
    "unprofitable",
)


def test_each_rejection_costs_one_replay_which_the_cheat_pays(purse: Purse, expect: Expect) -> None:
    world = appealed_world()
    (upheld,) = (item for item in world.rulings if (item.round, item.node) == (BETRAYS, TRAITOR))
    assert not upheld.granted
    assert world.heard == len(world.rulings), "however often an appeal is sent, its work is replayed once"
    bank = purse.booked(world)
    try:
        traitor, job = bank.book.balances(bank.indices[TRAITOR]), bank.book.job(world.job.job_id)
        assert job.closed, "the job has come to its end"
        assert traitor.slashed_wei > 0 and traitor.earned_wei == 0
    finally:
        bank.book.close()
    expect(Finding("unprofitable", "one replay each, out of the slash", 0, traitor.slashed_wei))


def test_rounds_go_on_as_if_nobody_appealed() -> None:
    """Eight cheats that all appeal make the job no longer than eight that keep silent."""

    class Silent(AppealingWorld):
        def _appeal_again(self, node: str, round_: int) -> None:
            pass

    rules = rules_of(make_job(rounds=5))
    lasted = {}
    for kind in (AppealingWorld, Silent):
        world = kind(7, [Role()] * 3 + [Role(cheats=True)] * 8, Weather(), rules)
        world.run(2_000.0)
        lasted[kind] = next(
            at for at, r in zip(world.recorded_at, world.records, strict=True) if r.body.kind == "finish"
        )
    assert lasted[AppealingWorld] <= 1.1 * lasted[Silent], lasted
