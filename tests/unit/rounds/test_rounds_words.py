"""One word on each slot: a receipt, or nothing; both together are a proof, and a seal carries all of the latter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from round_actors import ALICE, BOB, BODIES, COORDINATOR, DOMAIN, JOB, OTHER_JOB, key

from anynode.rounds.certificates import Verifiers, check_proof, check_words
from anynode.rounds.course import Seal
from anynode.rounds.messages import Receipt
from anynode.rounds.statements import statement
from anynode.rounds.words import NOTHING, WORDS_FROM, broken, nothing_of, receipted, what_was_signed
from anynode_contracts.errors import BreachError
from anynode_contracts.signing import sign

ONE = Verifiers((COORDINATOR,), 1)


def seal() -> Seal:
    body = BODIES[2]
    assert isinstance(body, Seal)
    return body


def receipt(slot: int, by: str = "coordinator", round_: int = 0) -> Receipt:
    said = Receipt("receipt", BOB, round_, slot, "8" * 64, "9" * 64)
    return replace(said, signature=sign(key(by), DOMAIN, statement(JOB, said)))


def test_a_receipt_and_a_seal_without_it_are_a_proof() -> None:
    proof = broken(JOB, receipt(1), seal())
    assert proof is not None
    check_proof(proof, DOMAIN, ONE)
    assert (proof.signer, proof.height, proof.view, proof.records[1]) == (COORDINATOR, WORDS_FROM, 1, NOTHING)
    assert what_was_signed(proof) == "a receipt and a seal without it, round 0, slot 1"
    assert what_was_signed(replace(proof, height=7)) == "two records at height 7"
    assert broken(JOB, receipt(0), seal()) is None, "the seal holds that slot"


@pytest.mark.parametrize("said", [receipt(1, by="alice"), receipt(1, round_=1), replace(receipt(1), node=ALICE)])
def test_nobody_is_proven_by_what_it_has_not_said(said: Receipt) -> None:
    """The receipt is another's, of another round or of another node."""
    proof = broken(JOB, said, seal())
    assert proof is not None
    with pytest.raises(BreachError):
        check_proof(proof, DOMAIN, ONE)


def test_no_record_can_be_taken_for_a_word() -> None:
    assert receipted(receipt(1)).height == nothing_of(0, 1).height == WORDS_FROM
    assert nothing_of(3, 1) != nothing_of(2, 1) != nothing_of(2, 2)


def test_a_seal_has_the_word_of_its_sealer_on_each_missing_slot() -> None:
    check_words(seal(), JOB, DOMAIN, {COORDINATOR})
    others = sign(key("alice"), DOMAIN, statement(JOB, nothing_of(0, 1)))
    for job, bad in (
        (JOB, replace(seal(), absences=())),
        (JOB, replace(seal(), absences=(others,))),
        (JOB, replace(seal(), sealer=ALICE)),
        (JOB, replace(seal(), round=1)),
        (OTHER_JOB, seal()),
    ):
        with pytest.raises(BreachError):
            check_words(bad, job, DOMAIN, {COORDINATOR})
