"""A coordinator that hides the audit secret."""

from __future__ import annotations

from dataclasses import replace

from attack import Attack, Expect, Finding
from signed_world import DOMAIN, SignedWorld, make_job

from anynode.rounds import effects, events
from anynode.rounds.judgements import Verdict
from anynode_verifier.lineage import follow
from anynode_verifier.rework import withheld
from anynode_verifier.sampling import drawn_of
from anynode_verifier.withholding import withheld_in

ATTACK = Attack(
    "a withheld audit secret",
    "A coordinator does not like whom its secret would draw, and says that it has lost it, or is dead.",
    "caught",
)


class Withheld(SignedWorld):
    """In every second round the secret is not revealed; the block hash alone draws, and leaves no choice."""

    def _draw(self, effect: effects.DrawAudits) -> events.Drawn:
        drawn = super()._draw(effect)
        if effect.open.round % 2 == 0:
            return drawn
        slots = drawn_of(effect.seal, "", drawn.block_hash) & set(effect.candidates)
        return replace(drawn, secret="", slots=tuple(sorted(slots)))


def test_every_member_and_every_auditor_names_round_and_sealer(expect: Expect) -> None:
    world = Withheld(make_job(rounds=4), 31, members=3)
    world.run(1_200.0)
    assert world.finished()
    lineage = follow(world.records, world.job, DOMAIN)
    verdicts = [record.body for record in world.records if isinstance(record.body, Verdict)]
    hidden = [body.round for body in verdicts if not body.secret]
    assert list(withheld(lineage)) == hidden
    named = withheld_in(world.job.job_id, world.records)
    assert [(item.round, item.sealer) for item in named] == [(number, world.rules.sealer) for number in hidden]
    told = [sentence for sentence in world.faults if "withholds the audit secret" in sentence]
    assert hidden == [1, 3] and len(told) >= len(hidden)
    expect(Finding("caught", "the block hash alone draws; the verdict names the sealer, whose bond is proposed for it"))
