"""A claim that is buried under receipts of little worth."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect, Finding
from false_reducing import FalselyReduced
from signed_world import DOMAIN
from test_attack_false_claim import audits

from anynode.rounds.audits import Audit, verdict_of
from anynode.rounds.claims import blamed, claimable, receipt_of
from anynode.rounds.events import Drawn
from anynode.rounds.judgements import Claimed
from anynode.rounds.messages import RECEIPTS_MAX, Claim, DeliveryReceipt
from anynode.rounds.statements import statement
from anynode.rounds.witnesses import witnesses_of
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import BreachError, RefusedError
from anynode_contracts.signing import sign
from anynode_verifier.claim_checks import check_claim
from anynode_verifier.lineage import follow

ATTACK = Attack(
    "a claim buried under receipts",
    "A reducer's friend, a witness, signs receipts until a claim is full, and claims with them in the sender's name.",
    "prevented",
)


class Buried:
    """A claim that a verdict carries, and what a drawn witness can sign for the same chunks."""

    def __init__(self) -> None:
        self.world = FalselyReduced("omits", rounds=6, seed=9)
        self.world.run_to_its_end()
        known = audits(self.world.records)
        self.verdict = next(body for body in self.world.verdicts if body.claims)
        self.audit: Audit = known[self.verdict.round]
        self.item: Claimed = next(item for item in self.verdict.claims if item.signer == item.reducer)
        opened, assign = self.audit.open, self.audit.assigns[self.item.attempt]
        self.witness = witnesses_of(opened, assign, self.item.reducer, self.item.slot)[0]
        self.sender = opened.members[self.item.slot].node
        self.genuine = receipt_of(self.item, opened)
        self.variants = [self.signed(number) for number in range(RECEIPTS_MAX)]

    def signed(self, number: int) -> DeliveryReceipt:
        """A receipt of the witness for the same delivery, each with other payloads."""
        node = self.audit.open.members[self.witness].node
        payloads = tuple(hash_hex(f"{number} {chunk}".encode()) for chunk in self.genuine.chunks)
        said = replace(self.genuine, node=node, payloads=payloads, signature="")
        job = self.world.job.job_id
        return replace(said, signature=sign(self.world.accounts[node], DOMAIN, statement(job, said)))

    def claim(self, *receipts: DeliveryReceipt, by: str) -> Claim:
        said = Claim("claim", self.sender, self.verdict.round, self.item.slot, receipts)
        return replace(said, signature=sign(self.world.accounts[by], DOMAIN, statement(self.world.job.job_id, said)))

    def check(self, claim: Claim) -> None:
        check_claim(claim, self.audit, DOMAIN, self.world.job.job_id)


@pytest.fixture(scope="module")
def buried() -> Buried:
    return Buried()


def test_only_the_sender_claims_in_its_name(buried: Buried, expect: Expect) -> None:
    friend = buried.audit.open.members[buried.witness].node
    for signer in (friend, buried.genuine.node):
        with pytest.raises(BreachError):
            buried.check(buried.claim(*buried.variants, by=signer))
    buried.check(buried.claim(buried.genuine, by=buried.sender))
    expect(Finding("prevented", f"{RECEIPTS_MAX} receipts of a witness count as one, the reducer's own come first"))


def test_receipts_of_a_witness_leave_room_for_those_that_accuse(buried: Buried) -> None:
    """Also where the sender itself has been given all of them, and shows them first."""
    audit = buried.audit.with_claim(buried.claim(*buried.variants, by=buried.sender))
    assert len(audit.claims[buried.item.slot]) == 1, "they all show the same"
    audit = audit.with_claim(buried.claim(buried.genuine, by=buried.sender))
    (kept, *others) = audit.claims[buried.item.slot]
    assert kept.signer == kept.reducer and not others
    claims = tuple(item for items in audit.claims.values() for item in items)
    assert blamed(claims, audit.open, audit.result)
    assert verdict_of(audit, Drawn(buried.verdict.round, "", "", ())).claims == (kept,)
    receipts = (*buried.variants, buried.genuine)
    assert claimable(buried.item.slot, audit.open, audit.result, receipts) == (buried.genuine,)


def test_a_receipt_that_names_another_number_of_payloads_shows_nothing(buried: Buried) -> None:
    few = replace(buried.genuine, payloads=(*buried.genuine.payloads, "e" * 64), signature="")
    account = buried.world.accounts[few.node]
    few = replace(few, signature=sign(account, DOMAIN, statement(buried.world.job.job_id, few)))
    with pytest.raises(BreachError, match="payload"):
        buried.check(buried.claim(few, by=buried.sender))


def test_a_verdict_that_is_filled_with_variants_is_not_followed(buried: Buried) -> None:
    records = buried.world.records
    place = next(n for n, record in enumerate(records) if record.body == buried.verdict)
    copies = tuple(
        replace(buried.item, signer=buried.witness, payloads=item.payloads, signature=item.signature)
        for item in buried.variants
    )
    for claims in ((*buried.verdict.claims, *copies), (*copies, *buried.verdict.claims)):
        body = replace(buried.verdict, claims=claims)
        with pytest.raises(RefusedError, match="counts a claim twice"):
            follow([*records[:place], replace(records[place], body=body)], buried.world.job, DOMAIN)
