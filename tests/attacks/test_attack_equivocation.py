"""An equivocating coordinator."""

from __future__ import annotations

import pytest
from attack import Attack, Expect, Finding
from signed_world import DOMAIN, key

from anynode.rounds.certificates import Verifiers, check_certificate, check_proof
from anynode.rounds.course import Begin
from anynode.rounds.records import GENESIS, Record, SignedRecord
from anynode.rounds.statements import statement
from anynode.rounds.votes import Equivocation, Vote
from anynode_contracts.errors import BreachError
from anynode_contracts.signing import sign

ATTACK = Attack(
    "an equivocating coordinator",
    "A verifier signs two records of one height, and shows one to some and the other to the rest.",
    "caught",
)
JOB = "5" * 64
NAMES = ("first", "second", "third", "fourth")
VERIFIERS = Verifiers(tuple(key(name).address for name in NAMES), 3)


def vote(record: Record, name: str) -> str:
    return sign(key(name), DOMAIN, statement(JOB, Vote(record.height, 0, "certify", record.hash)))


def certified(record: Record, names: tuple[str, ...], *proofs: Equivocation) -> SignedRecord:
    return SignedRecord(record, 0, tuple(vote(record, name) for name in names), proofs)


def test_the_two_signatures_prove_it_to_anybody(expect: Expect) -> None:
    one, other = (Record(JOB, 0, GENESIS, Begin("begin", number, "0" * 64)) for number in (1, 2))
    signatures = vote(one, "first"), vote(other, "first")
    proof = Equivocation(JOB, key("first").address, 0, 0, "certify", (one.hash, other.hash), signatures)
    check_proof(proof, DOMAIN, VERIFIERS)
    with pytest.raises(BreachError):  # nobody can be accused of what he has not signed
        blamed = Equivocation(JOB, key("second").address, 0, 0, "certify", (one.hash, other.hash), signatures)
        check_proof(blamed, DOMAIN, VERIFIERS)
    check_certificate(certified(one, NAMES[:3]), DOMAIN, VERIFIERS)
    with pytest.raises(BreachError):  # with its proof, its signature no longer counts
        check_certificate(certified(other, ("first", "second"), proof), DOMAIN, VERIFIERS)
    check_certificate(certified(other, NAMES[1:], proof), DOMAIN, VERIFIERS)
    expect(Finding("caught", "two signatures of one height are a proof; its signer counts no longer"))
