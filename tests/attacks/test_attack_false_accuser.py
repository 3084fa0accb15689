"""A false accuser."""

from __future__ import annotations

from dataclasses import replace

from attack import Attack, Expect, Finding
from signed_world import SignedWorld, make_job

from anynode.rounds import effects, events
from anynode.rounds.course import Assign
from anynode.rounds.judgements import Verdict

ATTACK = Attack(
    "a false accuser",
    "An auditor says of every honest piece of work that it differs.",
    "prevented",
)


class Accused(SignedWorld):
    """The first auditor accuses everybody. The second, which knows nothing of it, is honest."""

    accusations = 0

    def _replay(self, effect: effects.Replay) -> events.Replayed:
        honest = super()._replay(effect)
        if effect.again:
            return honest
        self.accusations += 1
        return replace(honest, outcome="rejected", reason="differs in segment 0")


def test_one_auditor_alone_rejects_nobody(expect: Expect) -> None:
    world = Accused(make_job(rounds=4), 29, members=4)
    world.run(1_200.0)
    assert world.finished() and world.accusations >= 4
    judged = [item for record in world.records if isinstance(record.body, Verdict) for item in record.body.judged]
    assert judged and all(item.accepted for item in judged)
    assert not any(record.body.rejected for record in world.records if isinstance(record.body, Assign))
    expect(Finding("prevented", f"{world.accusations} accusations, none confirmed, nobody rejected"))
