"""A flood of newcomers."""

from __future__ import annotations

from dataclasses import replace

from attack import Attack, Expect, Finding
from world import RULES, World, closes, opens
from world_cast import Role, Weather

from anynode.rounds.course import Seal
from anynode.rounds.newcomers import newcomer_places

ATTACK = Attack(
    "a flood of newcomers",
    "Hundreds of new identities join at once with work that is none, to use up the audits.",
    "prevented",
)
FLOOD, FOUNDERS, ROUNDS, REPLAY_STEPS_PER_S = 300, 4, 6, 12.0


def test_the_job_goes_on_and_audits_keep_to_their_share(expect: Expect) -> None:
    """`tests/sim/test_flood.py` makes it with a thousand."""
    roles = [Role()] * FOUNDERS + [Role(cheats=True, comes_at_s=5.0)] * FLOOD
    world = World(11, roles, Weather(), replace(RULES, rounds=ROUNDS, members_min=FOUNDERS, members_max=64))
    world.replay_steps_per_s = REPLAY_STEPS_PER_S
    world.run(3_000.0)
    assert len(closes(world)) == ROUNDS
    founders = {peer.name for peer in world.members[:FOUNDERS]}
    longest_s = RULES.work_s + 2 * RULES.exchange_s
    places = newcomer_places(REPLAY_STEPS_PER_S, longest_s, RULES.newcomer_steps)
    steps = []
    for record in world.records:
        if isinstance(record.body, Seal) and record.body.round:
            new = [item.steps for item in record.body.commitments if item.node not in founders]
            steps.append(sum(new))
    assert max(steps) <= places * RULES.newcomer_steps
    last = {member.node for member in opens(world)[ROUNDS - 1].members}
    assert founders <= last
    expect(Finding("prevented", f"{FLOOD} identities cost at most {max(steps)} steps of replay a round"))
