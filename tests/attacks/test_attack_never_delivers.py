"""Commit and never deliver."""

from __future__ import annotations

from typing import Any

from attack import Attack, Expect, Finding
from purse import VERIFIER_INDEX, BetrayedWorld

from anynode.rounds import effects
from anynode_verifier.credits import judged_rounds, round_credits

ATTACK = Attack(
    "commit and never deliver",
    "A member works and commits, and hands its update to nobody, to save its line.",
    "unprofitable",
)


class Kept(BetrayedWorld):
    """The last member keeps its update to itself; its work is honest."""

    def cheats_in(self, node: str, round_: int) -> bool:
        return False

    def _deliver(self, peer: Any, effect: effects.Deliver) -> None:
        if peer.name != self.traitor:
            super()._deliver(peer, effect)


def test_work_without_delivery_is_not_paid(expect: Expect) -> None:
    world = Kept(betrays=0, rounds=4, seed=17)
    world.run(2_000.0)
    assert world.finished()
    indices = {name: index for index, name in enumerate(world.accounts, 1)}
    for_samples = dict.fromkeys(indices.values(), 0)
    for round_ in judged_rounds(world.records):
        for credit in round_credits(world.job, round_, indices, VERIFIER_INDEX):
            if credit.kind == "samples":
                for_samples[credit.node_index] += credit.amount_wei
    others = [wei for name, wei in zip(indices, for_samples.values(), strict=True) if name != world.traitor]
    assert for_samples[indices[world.traitor]] == 0
    assert min(others) > 0, "and the others are paid as if it were not there"
    expect(Finding("unprofitable", "accepted work, no chunk delivered: nothing is paid for its samples"))
