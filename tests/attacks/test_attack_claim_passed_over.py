"""A coordinator that passes over a claim."""

from __future__ import annotations

from dataclasses import replace

from attack import Attack, Expect, Finding
from false_reducing import FalselyReduced

from anynode.rounds import coordinator
from anynode.rounds.audits import CLAIM_S
from anynode.rounds.claims import passed_over, receipt_of
from anynode.rounds.course import Close
from anynode.rounds.judgements import Verdict
from anynode.rounds.messages import Claim

ATTACK = Attack(
    "a claim passed over",
    "A coordinator is a friend of a reducer that left out a sender, and judges the round as if nobody had claimed.",
    "prevented",
)


def follower_of(world: FalselyReduced, round_: int) -> coordinator.State:
    """What a verifier that follows knows when the round has closed."""
    bodies = [record.body for record in world.records]
    closed = next(n for n, body in enumerate(bodies) if isinstance(body, Close) and body.round == round_)
    return coordinator.restore(world.rules, world.records[: closed + 1], 0.0)


def test_verifiers_that_know_of_it_do_not_sign(expect: Expect) -> None:
    world = FalselyReduced("omits", rounds=6, seed=7)
    world.run_to_its_end()
    judged = [verdict for verdict in world.verdicts if verdict.claims]
    assert judged
    for verdict in judged:
        fresh = follower_of(world, verdict.round)
        audit = fresh.audits[verdict.round]
        heard = fresh
        for item in verdict.claims:
            node = audit.open.members[item.slot].node
            claim = Claim("claim", node, verdict.round, item.slot, (receipt_of(item, audit.open),))
            late = coordinator.overhear(fresh, claim, CLAIM_S / 2)
            assert late is fresh, "what may have come too late to the coordinator is not held against it"
            heard = coordinator.overhear(heard, claim, CLAIM_S / 2 - 0.1)
            assert coordinator.overhear(heard, claim, 0.0) is heard, "it is told of once"
        known = heard.audits[verdict.round].claims
        assert not passed_over(known, verdict, audit.open, audit.result)
        for silent in (replace(verdict, claims=()), replace(verdict, claims=(), reductions=())):
            assert passed_over(known, silent, audit.open, audit.result) == _sentence(verdict)
            assert not passed_over({}, silent, audit.open, audit.result), "a verifier that was told of nothing signs"
        again = coordinator.carry_over(follower_of(world, verdict.round), heard)
        assert again.audits[verdict.round].claims == known, "who takes over the duty has not forgotten it"
    expect(Finding("prevented", f"{len(judged)} verdicts; a verifier that was told of the claim signs none without it"))


def _sentence(verdict: Verdict) -> str:
    return f"passes over the claim of slot {min(item.slot for item in verdict.claims)}"
