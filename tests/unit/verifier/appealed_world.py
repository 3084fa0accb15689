"""A swarm with real keys in which an honest member is called a cheat, and a member turns into one; both appeal."""

from __future__ import annotations

from appealing_world import AppealingWorld
from signed_world import SignedWorld, key, make_job

from anynode.rounds import effects, events
from anynode.rounds.appeals import Appeal

TRAITOR, ACCUSED = key("member 3").address, key("member 1").address
BETRAYS, ERRS = 2, 1


class AppealedWorld(AppealingWorld, SignedWorld):
    """The auditor errs about the first work of one member; another is honest until round ``BETRAYS``."""

    accused = frozenset({ACCUSED})
    errs = ERRS

    def honest_in(self, node: str, round_: int) -> bool:
        return node != TRAITOR or round_ < BETRAYS

    def signed_appeal(self, node: str, round_: int) -> Appeal:
        appeal: Appeal = self.sign(node, super().signed_appeal(node, round_))
        return appeal

    def _replay(self, effect: effects.Replay) -> events.Replayed:
        node = effect.open.members[effect.slot].node
        self.peers[node].role = type(self.peers[node].role)(cheats=not self.honest_in(node, effect.open.round))
        return super()._replay(effect)


def appealed_world(first_seed: int = 17, seeds: int = 20) -> AppealedWorld:
    """The world of the first seed whose audits look into the round of the betrayal: they are drawn by chance."""
    for seed in range(first_seed, first_seed + seeds):
        world = AppealedWorld(make_job(rounds=6), seed, members=4)
        world.run(900.0)
        assert world.finished(), f"the job of seed {seed} did not finish"
        if any((ruling.round, ruling.node) == (BETRAYS, TRAITOR) for ruling in world.rulings):
            return world
    raise AssertionError(f"none of {seeds} seeds from {first_seed} on has drawn the betrayal")
