"""Noise from a hardware class that no verifier makes."""

from __future__ import annotations

from attack import Attack, Expect, Finding
from purse import BetrayedWorld, Purse

from anynode.rounds import coordinator, effects, events
from anynode.rounds.judgements import Verdict
from anynode_verifier.rates import audit_rate, reward_wei

ATTACK = Attack(
    "noise from a class that nobody makes",
    "A worker whose class no verifier makes, so that a difference is void and slashes nothing, sends noise.",
    "unprofitable",
)
ROUNDS, BETRAYS, FLOOR_PPM = 24, 6, 20_000
HELD_BACK_ROUNDS = 33


class Undecided(BetrayedWorld):
    """Whatever differs is void. Everybody has all held back that can be, and is audited as the verifier would."""

    def _replay(self, effect: effects.Replay) -> events.Replayed:
        found = super()._replay(effect)
        if found.outcome == "accepted":
            return found
        return events.Replayed(found.round, found.slot, "void", "none", "no auditor has its class", found.again)

    def _carry_out(self, peer: object, effect: object) -> None:
        if not isinstance(effect, effects.GetRates):
            super()._carry_out(peer, effect)  # type: ignore[arg-type]
            return
        centre = self.peers["coordinator"]
        assert isinstance(centre.state, coordinator.State)
        rates = []
        for member in effect.open.members:
            reward = reward_wei(self.job, member.quota_steps)
            standing, decided = centre.state.nodes[member.node].standing, member.node != self.traitor
            rates.append(audit_rate(standing, reward, HELD_BACK_ROUNDS * reward, FLOOR_PPM, decided=decided).ppm)
        self._later(centre, 0.1, events.AuditRates(effect.open.round, tuple(rates)))


def test_each_round_of_it_costs_the_pay_of_that_round(purse: Purse, expect: Expect) -> None:
    world = Undecided(BETRAYS, ROUNDS, seed=5)
    world.run(3_000.0)
    assert world.finished()
    judged = {
        record.body.round: next((item for item in record.body.judged if item.node == world.traitor), None)
        for record in world.records
        if isinstance(record.body, Verdict)
    }
    false = [item for number, item in judged.items() if number >= BETRAYS and item is not None]
    honest = [item for number, item in judged.items() if number < BETRAYS and item is not None]
    assert all(item.accepted for item in honest) and len(false) >= 10
    assert {item.outcome for item in false} == {"void"}, "each is seen, and nobody can prove it"
    paid_wei, slashed_wei = purse.of(world)
    assert (paid_wei, slashed_wei) == (0, 0), "honest work would have earned more than it costs"
    expect(Finding("unprofitable", f"{len(false)} rounds of noise seen, void and unpaid", paid_wei, slashed_wei))
