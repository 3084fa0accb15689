"""Two signed votes of one verifier, or two words, as the agreement keeps them and as the contract takes them."""

from __future__ import annotations

from dataclasses import replace

from deployed import Deployed
from eth_account.signers.local import LocalAccount

from anynode.rounds.course import Reason, Seal
from anynode.rounds.messages import Receipt
from anynode.rounds.statements import statement
from anynode.rounds.votes import Equivocation, Phase, Vote
from anynode.rounds.words import broken, nothing_of
from anynode_contracts.signing import SigningDomain, sign
from anynode_contracts.stakes import TwoVotes

VIEW, RECORDS = 3, ("1" * 64, "2" * 64)


def domain_of(deployed: Deployed) -> SigningDomain:
    """The domain in which the network's verifiers sign."""
    return SigningDomain(deployed.addresses.chain_id, deployed.addresses.registry)


def two_votes(
    liar: LocalAccount, domain: SigningDomain, job: str, *, height: int = 7, phase: Phase = "certify"
) -> Equivocation:
    """As the agreement of verifiers makes it."""
    first, second = (sign(liar, domain, statement(job, Vote(height, VIEW, phase, record))) for record in RECORDS)
    return Equivocation(job, liar.address, height, VIEW, phase, RECORDS, (first, second))


def two_words(liar: LocalAccount, domain: SigningDomain, job: str) -> Equivocation:
    """A receipt for a commitment, and the word in a seal that there is none."""
    said = Receipt("receipt", liar.address, 3, 1, "8" * 64, "9" * 64)
    receipt = replace(said, signature=sign(liar, domain, statement(job, said)))
    absence = sign(liar, domain, statement(job, nothing_of(3, 1)))
    proof = broken(job, receipt, Seal("seal", 3, (), (Reason(1, "late"),), "7" * 64, 9, (), liar.address, (absence,)))
    assert proof is not None
    return proof


def as_argument(proof: Equivocation) -> TwoVotes:
    """As the contract's client takes it."""
    return TwoVotes(proof.job, proof.height, proof.view, proof.phase, proof.records, proof.signatures)
