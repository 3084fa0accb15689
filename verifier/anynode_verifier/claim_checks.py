"""What of a claim is looked at before the core hears of it: its receipts are genuine, or it is a breach."""

from __future__ import annotations

from anynode.rounds.audits import Audit
from anynode.rounds.claims import claimed_of, fault_of
from anynode.rounds.messages import Claim
from anynode.rounds.statements import statement
from anynode_contracts.errors import BreachError, Offence
from anynode_contracts.signing import SigningDomain, check


def check_claim(claim: Claim, audit: Audit, domain: SigningDomain, job_id: str) -> None:
    """Raise ``BreachError`` for what no correct program claims: in the name of another sender, or with a receipt that
    is forged, of another round or job, for another sender, or for nothing that the result leaves out. What is known
    already is not checked again.
    """
    members = audit.open.members
    if claim.slot >= len(members) or members[claim.slot].node != claim.node:
        raise BreachError("a claim is made for another sender; it is ignored", Offence.SCHEMA)
    check(domain, statement(job_id, claim), claim.signature, claim.node)
    nodes = {member.node for member in members}
    for receipt in claim.receipts:
        if receipt.round != claim.round or receipt.slot != claim.slot or receipt.node not in nodes:
            raise BreachError("a claim rests on a receipt of another round or sender; it is ignored", Offence.SCHEMA)
    known = set(audit.claims.get(claim.slot, ()))
    for receipt, item in zip(claim.receipts, claimed_of(claim, audit.open), strict=True):
        if item in known:
            continue
        fault = fault_of(item, audit.open, audit.assigns, audit.result)
        if fault:
            raise BreachError(f"a claim rests on a receipt that {fault}; it is ignored", Offence.SCHEMA)
        check(domain, statement(job_id, receipt), receipt.signature, receipt.node)
