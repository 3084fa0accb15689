"""A claim that lies: a sender says that a reducer has left it out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect, Finding
from signed_world import DOMAIN, SignedWorld, key, make_job
from world_cast import Role

from anynode.rounds.audits import Audit
from anynode.rounds.claims import receipt_of
from anynode.rounds.course import Assign, Close, Open, Result, Seal
from anynode.rounds.judgements import Verdict
from anynode.rounds.messages import Claim, DeliveryReceipt
from anynode.rounds.records import Record
from anynode.rounds.statements import statement
from anynode_contracts.errors import BreachError, RefusedError
from anynode_contracts.signing import sign
from anynode_verifier.claim_checks import check_claim
from anynode_verifier.lineage import follow

ATTACK = Attack(
    "a false omission claim",
    "A sender claims with a forged receipt, or one of another round, job, sender or chunk, that it was left out.",
    "prevented",
)


def audits(records: list[Record]) -> dict[int, Audit]:
    """What the coordinator knew of each round when it had closed."""
    found: dict[int, Audit] = {}
    opened: Open | None = None
    seal: Seal | None = None
    result: Result | None = None
    assigns: tuple[Assign, ...] = ()
    for record in records:
        match record.body:
            case Open() as opened:
                assigns = ()
            case Seal() as seal:
                pass
            case Assign() as assign:
                assigns = (*assigns, assign)
            case Result() as result:
                pass
            case Close(round=number) if opened and seal and result:
                found[number] = Audit(opened, seal, assigns[-1], result, assigns=assigns)
    return found


def test_it_is_a_strike_and_counts_for_nothing(expect: Expect) -> None:
    world = SignedWorld(make_job(rounds=6), 7, members=4)
    world.peers[key("member 3").address].role = Role(vice="omits")
    world.run(1_500.0)
    assert world.finished()
    known = audits(world.records)
    verdict = next(r.body for r in world.records if isinstance(r.body, Verdict) and r.body.claims)
    audit, item = known[verdict.round], verdict.claims[0]
    genuine = receipt_of(item, audit.open)
    sender, job = audit.open.members[item.slot].node, world.job.job_id

    def claim(receipt: DeliveryReceipt, node: str = sender) -> None:
        said = Claim("claim", node, verdict.round, item.slot, (receipt,))
        signature = sign(world.accounts[node], DOMAIN, statement(job, said))
        check_claim(replace(said, signature=signature), audit, DOMAIN, job)

    def signed_by(name: str, receipt: DeliveryReceipt, of_job: str = job) -> DeliveryReceipt:
        return replace(receipt, signature=sign(world.accounts[name], DOMAIN, statement(of_job, receipt)))

    claim(genuine)
    friend = next(name for name in world.accounts if name not in (sender, genuine.node))
    lies = {
        "signed by the sender itself": signed_by(sender, genuine),
        "changed": replace(genuine, payloads=("e" * 64,) * len(genuine.payloads)),
        "of another job": signed_by(genuine.node, genuine, "f" * 64),
        "of another round": signed_by(genuine.node, replace(genuine, round=genuine.round + 1)),
        "of another sender": signed_by(genuine.node, replace(genuine, slot=genuine.reducer)),
        "late": signed_by(genuine.node, replace(genuine, late=genuine.chunks)),
        "after the average": signed_by(genuine.node, replace(genuine, attempt=4)),
        "of a friend that reduced nothing": signed_by(friend, replace(genuine, node=friend, reducer=99)),
    }
    for what, lie in lies.items():
        with pytest.raises(BreachError):
            claim(lie)
            pytest.fail(f"a receipt {what} was taken")
    with pytest.raises(BreachError):
        claim(genuine, friend)
    # Nor can a coordinator count one: nobody would follow its verdict.
    false = replace(verdict, claims=(*verdict.claims, replace(item, signature="0x" + "1" * 130)))
    place = next(place for place, record in enumerate(world.records) if record.body == verdict)
    with pytest.raises(RefusedError):
        follow([*world.records[:place], replace(world.records[place], body=false)], world.job, DOMAIN)
    expect(Finding("prevented", f"{len(lies)} false receipts, each a strike against who showed it"))
