"""How many verifiers must sign a record, and what a proof of two records changes about it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from round_actors import BODIES, DOMAIN, JOB, OTHER_JOB, chain_of, key

from anynode.rounds.certificates import Verifiers, check_certificate, check_proof, is_signed
from anynode.rounds.packing import pack, unpack
from anynode.rounds.records import SignedRecord
from anynode.rounds.roster import Roster
from anynode.rounds.statements import statement
from anynode.rounds.votes import Equivocation, Phase, Vote
from anynode_contracts.errors import BreachError
from anynode_contracts.signing import SigningDomain, sign

NAMES = ("one", "two", "three", "four")
FOUR = Verifiers(tuple(key(name).address for name in NAMES), 3)
RECORD = chain_of(*BODIES)[2]


def signatures(names: tuple[str, ...], view: int = 5, phase: Phase = "certify") -> tuple[str, ...]:
    said = statement(JOB, Vote(RECORD.height, view, phase, RECORD.hash))
    return tuple(sign(key(name), DOMAIN, said) for name in names)


def proof(name: str, view: int = 5, *, domain: SigningDomain = DOMAIN) -> Equivocation:
    votes = Vote(7, view, "prepare", "1" * 64), Vote(7, view, "prepare", "2" * 64)
    first, second = (sign(key(name), domain, statement(JOB, vote)) for vote in votes)
    return Equivocation(JOB, key(name).address, 7, view, "prepare", ("1" * 64, "2" * 64), (first, second))


def test_any_three_of_four_certify_and_no_two_do() -> None:
    for names in combinations(NAMES, 3):
        check_certificate(SignedRecord(RECORD, 5, signatures(names)), DOMAIN, FOUR)
    for names in combinations(NAMES, 2):
        with pytest.raises(BreachError, match=r"record 2 .* is not signed by enough verifiers"):
            check_certificate(SignedRecord(RECORD, 5, signatures(names)), DOMAIN, FOUR)


def test_what_does_not_count_as_three() -> None:
    three = signatures(NAMES[:3])
    for bad in (
        SignedRecord(RECORD, 6, three),
        SignedRecord(replace(RECORD, height=3), 5, three),
        SignedRecord(RECORD, 5, (*three[:2], three[1])),
        SignedRecord(RECORD, 5, (*three[:2], *signatures(("stranger",)))),
        SignedRecord(RECORD, 5, (*three[:2], *signatures(("three",), phase="prepare"))),
        SignedRecord(RECORD, 5, (*three[:2], "")),
    ):
        assert not is_signed(bad, "certify", DOMAIN, FOUR)
    assert not is_signed(SignedRecord(RECORD, 5, three), "prepare", DOMAIN, FOUR)


def test_who_is_proven_to_equivocate_is_out_and_two_of_three_remain() -> None:
    two = signatures(("two", "four"))
    check_certificate(SignedRecord(RECORD, 5, two, (proof("one"),)), DOMAIN, FOUR)
    for bad in (
        SignedRecord(RECORD, 5, signatures(("two",)), (proof("one"),)),
        SignedRecord(RECORD, 5, signatures(("one", "two")), (proof("one"),)),
        SignedRecord(RECORD, 5, two, (proof("stranger"),)),
        SignedRecord(RECORD, 5, two, (replace(proof("one"), view=6),)),
        SignedRecord(RECORD, 5, two, (replace(proof("one"), job=OTHER_JOB),)),
        SignedRecord(RECORD, 5, two, (proof("one", domain=SigningDomain(1, DOMAIN.registry)),)),
        SignedRecord(RECORD, 5, signatures(("two",)), (proof("one"), proof("one"))),
    ):
        assert not is_signed(bad, "certify", DOMAIN, FOUR)


def test_one_record_signed_twice_proves_nothing() -> None:
    good = proof("one")
    same = replace(good, records=(good.records[0],) * 2, signatures=(good.signatures[0],) * 2)
    with pytest.raises(BreachError, match="shows nothing"):
        check_proof(same, DOMAIN, FOUR)


@pytest.mark.parametrize(
    ("count", "quorum", "needed"),
    [(1, 1, [1, 1]), (2, 2, [2, 1]), (3, 2, [2, 2]), (4, 3, [3, 2, 2]), (7, 5, [5, 4, 3]), (7, 4, [4, 4, 3])],
)
def test_each_exclusion_takes_one_but_never_to_a_half(count: int, quorum: int, needed: list[int]) -> None:
    verifiers = Verifiers(tuple(key(str(number)).address for number in range(count)), quorum)
    found = [verifiers.needed(frozenset(verifiers.addresses[:gone])) for gone in range(len(needed))]
    assert found == needed


def test_certificates_with_several_signatures_and_proofs_travel_packed() -> None:
    signed = [
        SignedRecord(chain_of(*BODIES)[0], 0, signatures(NAMES[:3])),
        SignedRecord(chain_of(*BODIES)[1], 5, signatures(("two", "four")), (proof("one"),)),
    ]
    roster = Roster(item.record for item in signed)
    assert list(unpack(pack(signed, roster), Roster())) == signed
