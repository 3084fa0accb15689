"""Signed statements: worthless in another job, on another network, for another kind or with another value."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import Any

import pytest
from round_actors import ALICE, BOB, BODIES, DOMAIN, JOB, OTHER_JOB, PEER_ID, SIGNATURE, chain_of, key

from anynode.rounds.course import Seal
from anynode.rounds.messages import Average, ChunkDone, Claim, Commitment, DeliveryReceipt, Join, Receipt, StateReport
from anynode.rounds.statements import commitment_of, statement
from anynode.rounds.votes import Vote
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import SigningDomain, check, sign

ROOT, TRACE = "3" * 64, "4" * 64
RECEIPTED = DeliveryReceipt("delivery_receipt", BOB, 1, 0, 3, 2, (5,), (ROOT,), (), SIGNATURE)
MESSAGES: dict[str, Any] = {
    "join": Join("join", ALICE, PEER_ID, "class", "1", True, False),
    "commitment": Commitment("commitment", ALICE, 1, 2, 3, 6, 2, ROOT, TRACE, "class", "1", 7),
    "receipt": Receipt("receipt", ALICE, 1, 2, ROOT, TRACE),
    "delivery_receipt": DeliveryReceipt("delivery_receipt", ALICE, 1, 0, 3, 2, (5,), (ROOT,), (5,)),
    "chunk_done": ChunkDone("chunk_done", ALICE, 1, 0, 3, (Average(5, (0, 2), ROOT),)),
    "claim": Claim("claim", ALICE, 1, 3, (RECEIPTED,)),
    "state_report": StateReport("state_report", ALICE, 1, ROOT),
    "vote": Vote(2, 3, "prepare", ROOT),
}
UNSIGNED = {"kind", "signature"}
"""Not in the struct: its name says the kind."""
SIGNER_NAMED = {"join", "commitment", "chunk_done", "claim", "state_report", "delivery_receipt"}
"""Where the signer is the node itself, its address comes out of the signature."""


def signature_of(message: Any, job: str = JOB, domain: SigningDomain = DOMAIN) -> str:
    return sign(key("alice"), domain, statement(job, message))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_signature_holds_for_what_was_signed(name: str) -> None:
    check(DOMAIN, statement(JOB, MESSAGES[name]), signature_of(MESSAGES[name]), ALICE)
    check(DOMAIN, statement(JOB, MESSAGES[name]), signature_of(MESSAGES[name]), ALICE.lower())


@pytest.mark.parametrize("name", MESSAGES)
def test_it_does_not_hold_for_another_job_network_or_signer(name: str) -> None:
    message = MESSAGES[name]
    good = signature_of(message)
    elsewhere = [
        (DOMAIN, OTHER_JOB, ALICE),
        (SigningDomain(1, DOMAIN.registry), JOB, ALICE),
        (SigningDomain(DOMAIN.chain_id, f"0x{903:040d}"), JOB, ALICE),
        (DOMAIN, JOB, BOB),
    ]
    for domain, job, signer in elsewhere:
        with pytest.raises(RefusedError, match="not signed by"):
            check(domain, statement(job, message), good, signer)


@pytest.mark.parametrize("name", MESSAGES)
def test_any_wallet_signs_the_same(name: str) -> None:
    """What is signed is EIP-712, as the library encodes it."""
    said = statement(JOB, MESSAGES[name])
    types = {said.name: [{"name": field, "type": kind} for field, kind in said.types]}
    signed = key("alice").sign_typed_data(DOMAIN.fields(), types, dict(said.values))
    assert signature_of(MESSAGES[name]) == "0x" + bytes(signed.signature).hex()


@pytest.mark.parametrize(("name", "other"), list(itertools.permutations(MESSAGES, 2)))
def test_it_does_not_hold_for_another_kind(name: str, other: str) -> None:
    with pytest.raises(RefusedError, match="not signed by"):
        check(DOMAIN, statement(JOB, MESSAGES[other]), signature_of(MESSAGES[name]), ALICE)


def changes(message: Any) -> list[tuple[str, Any]]:
    """Each signed field with another value."""
    found = []
    for field in fields(message):
        value = getattr(message, field.name)
        if field.name in UNSIGNED or (field.name == "node" and message.kind in SIGNER_NAMED):
            continue
        other: Any = {
            bool: lambda v: not v,
            int: lambda v: v + 1,
            str: lambda v: "certify" if v == "prepare" else v.replace(v[-1], "8"),
            tuple: lambda v: (*v, v[0]),
        }[type(value)](value)
        found.append((field.name, BOB if field.name == "node" else other))
    return found


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_it_covers_every_field(name: str) -> None:
    message = MESSAGES[name]
    good = signature_of(message)
    assert changes(message)
    for field, other in changes(message):
        changed = replace(message, **{field: other})
        assert changed != message
        with pytest.raises(RefusedError, match="not signed by"):
            check(DOMAIN, statement(JOB, changed), good, ALICE)
            pytest.fail(f"{field} is not covered")


def test_a_records_signature_covers_its_place_and_its_body() -> None:
    """By its hash, which covers everything in it."""
    record = chain_of(*BODIES)[2]
    body = record.body
    assert isinstance(body, Seal)
    for changed in (
        replace(record, job=OTHER_JOB),
        replace(record, height=3),
        replace(record, previous="8" * 64),
        replace(record, body=replace(body, audit_height=8)),
        replace(record, body=replace(body, commitments=())),
    ):
        assert changed.hash != record.hash


@pytest.mark.parametrize("bad", ["", "0x", "0x" + "0" * 130, "0x" + "f" * 130, SIGNATURE, "0x" + "5" * 128])
def test_bytes_that_are_no_signature_are_refused(bad: str) -> None:
    with pytest.raises(RefusedError):
        check(DOMAIN, statement(JOB, MESSAGES["commitment"]), bad, ALICE)


def test_what_a_seal_lists_is_what_was_signed() -> None:
    """The entry of a seal, turned back into a commitment, carries its worker's signature unchanged."""
    message = MESSAGES["commitment"]
    sealed = BODIES[2]
    assert isinstance(sealed, Seal)
    item = replace(
        sealed.commitments[0],
        slot=message.slot,
        steps=message.steps,
        samples=message.samples,
        energy_mj=message.energy_mj,
        signature=signature_of(message),
    )
    again = commitment_of(item, message.round)
    assert again == replace(message, signature=item.signature)
    check(DOMAIN, statement(JOB, again), again.signature, ALICE)
    with pytest.raises(RefusedError):
        check(DOMAIN, statement(JOB, commitment_of(item, message.round + 1)), again.signature, ALICE)
