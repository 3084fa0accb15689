"""A flood of newcomers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

from appealing_world import AppealingWorld
from attack import Attack, Expect, Finding
from world import RULES, closes, opens
from world_cast import Peer, Role, Weather

from anynode.rounds import effects
from anynode.rounds.course import Open
from anynode.rounds.newcomers import AUDIT_SHARE

ATTACK = Attack(
    "a flood of newcomers",
    "Hundreds of new identities join at once with work that is none, to use up the audits, and appeal each time.",
    "prevented",
)
FLOOD, FOUNDERS, ROUNDS, REPLAY_STEPS_PER_S = 300, 4, 6, 12.0


class Flooded(AppealingWorld):
    """Counts the steps that are really replayed for each piece of work, by round and node, each replay as a whole one:
    so it is where no trace is shown.
    """

    def __init__(self) -> None:
        self.replayed: Counter[tuple[int, str]] = Counter()
        self.replays: Counter[tuple[int, str]] = Counter()
        roles = [Role()] * FOUNDERS + [Role(cheats=True, comes_at_s=5.0)] * FLOOD
        rules = replace(RULES, rounds=ROUNDS, members_min=FOUNDERS, members_max=64)
        super().__init__(11, roles, Weather(), rules)
        self.replay_steps_per_s = REPLAY_STEPS_PER_S

    def _carry_out(self, peer: Peer, effect: object) -> None:
        if isinstance(effect, effects.Replay):
            steps = next(item.steps for item in effect.seal.commitments if item.slot == effect.slot)
            self._count(effect.open.round, effect.open.members[effect.slot].node, steps)
        elif isinstance(effect, effects.Hear):
            self._count(effect.appeal.round, effect.appeal.node, RULES.newcomer_steps)
        super()._carry_out(peer, effect)

    def _count(self, round_: int, node: str, steps: int) -> None:
        self.replays[round_, node] += 1
        self.replayed[round_, node] += steps


def test_the_job_goes_on_and_audits_keep_to_their_share(expect: Expect) -> None:
    """`tests/sim/test_flood.py` makes it with a thousand."""
    world = Flooded()
    world.run(3_000.0)
    assert world.finished() and len(closes(world)) == ROUNDS
    founders = {peer.name for peer in world.members[:FOUNDERS]}
    opened_s = [at for at, r in zip(world.recorded_at, world.records, strict=True) if isinstance(r.body, Open)]
    longest_s = max(later - at for at, later in pairwise(opened_s))
    steps = Counter[int]()
    for (round_, node), count in world.replayed.items():
        steps[round_] += count * (node not in founders)
    assert max(steps.values()) <= AUDIT_SHARE * REPLAY_STEPS_PER_S * longest_s, steps
    each = max(count for (_, node), count in world.replays.items() if node not in founders)
    assert each == 3, "they are rejected by two replays, and appeal"
    last = {member.node for member in opens(world)[ROUNDS - 1].members}
    assert founders <= last
    expect(Finding("prevented", f"{FLOOD} identities cost at most {max(steps.values())} steps of replay a round"))
