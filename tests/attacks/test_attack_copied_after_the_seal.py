"""A peer's update copied after the seal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attack import Attack, Expect, Finding
from purse import BetrayedWorld, Purse
from signed_world import DOMAIN

from anynode.rounds import effects, messages
from anynode.rounds.course import Seal
from anynode.rounds.statements import commitment_of, statement
from anynode_contracts.signing import sign

ATTACK = Attack(
    "a peer's update, after the seal",
    "A member does nothing until the seal names its peers' updates, and then commits to one of them.",
    "prevented",
)


class Copied(BetrayedWorld):
    """The last member never works; it signs what it reads in each seal."""

    def __init__(self) -> None:
        self.tried = 0
        super().__init__(betrays=0, rounds=3, seed=5)

    def _carry_out(self, peer: Any, effect: object) -> None:
        if not (peer.name == self.traitor and isinstance(effect, effects.StartWork)):
            super()._carry_out(peer, effect)

    def _append(self, record: Any) -> None:
        super()._append(record)
        body = record.body
        if isinstance(body, Seal):
            slots = [item.slot for item in body.missing]
            for slot in slots:
                stolen = replace(commitment_of(body.commitments[0], body.round), node=self.traitor, slot=slot)
                said = statement(self.job.job_id, replace(stolen, signature=""))
                signed = replace(stolen, signature=sign(self.accounts[self.traitor], DOMAIN, said))
                assert isinstance(signed, messages.Commitment)
                self._send(self.traitor, "coordinator", signed)
                self.tried += 1


def test_a_sealed_round_takes_no_more_commitments(purse: Purse, expect: Expect) -> None:
    world = Copied()
    world.run(1_200.0)
    assert world.tried >= 2
    seals = [record.body for record in world.records if isinstance(record.body, Seal)]
    assert all(item.node != world.traitor for seal in seals for item in seal.commitments)
    paid_wei, slashed_wei = purse.of(world)
    assert paid_wei == 0
    expect(Finding("prevented", f"{world.tried} commitments after the seal, none taken", paid_wei, slashed_wei))
