"""Signatures of another job or network used again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest
from attack import Attack, Expect, Finding
from signed_world import DOMAIN, SignedWorld, key, make_job

from anynode.rounds.appeals import Appeal
from anynode.rounds.ballots import Standing
from anynode.rounds.course import Close, Result, Seal
from anynode.rounds.judgements import Redone
from anynode.rounds.messages import Average, ChunkDone, Claim, DeliveryReceipt, Join, Receipt, StateReport
from anynode.rounds.statements import Signed, answer_statement, commitment_of, statement
from anynode.rounds.votes import Vote
from anynode.worker.audit_request import AuditRequest
from anynode.worker.open_request import OpenRequest
from anynode_contracts.errors import BreachError
from anynode_contracts.signing import Kind, SigningDomain, Statement, check, sign
from anynode_verifier.calibration import Entry, Limit, Thresholds, thresholds_statement
from anynode_verifier.excision import excision_statement

ATTACK = Attack(
    "signatures of another job or network",
    "Somebody takes what a node has signed in one job, round or network, and shows it in another.",
    "prevented",
)
OTHER_NETWORKS = (SigningDomain(1, DOMAIN.registry), SigningDomain(DOMAIN.chain_id, f"0x{999:040d}"))
VERIFIER, HASH = key("verifier"), "ab" * 32
OF_THE_NETWORK: frozenset[Kind] = frozenset({"Thresholds"})
"""What is about no job."""
AT_ANY_TIME: frozenset[Kind] = frozenset({"Join", *OF_THE_NETWORK})
"""What is about no round, and no place of a record chain."""

Shown = tuple[Statement, str, str]
"""A statement, its signature, and who signed."""


def of_a_round(world: SignedWorld) -> list[tuple[Signed, str, str]]:
    """What members and coordinator have signed in the rounds of a job, and what they may have: message, signature and
    signer.
    """
    bodies = [record.body for record in world.records]
    seal = next(body for body in bodies if isinstance(body, Seal))
    result = next(body for body in bodies if isinstance(body, Result))
    close = next(body for body in bodies if isinstance(body, Close))
    item, reduction, report = seal.commitments[0], result.reductions[0], close.reports[0]
    reducer = next(place.node for place in seal.commitments if place.slot == reduction.reducer)
    entries = {entry.chunk: entry for entry in result.chunks}
    averages = tuple(Average(c, entries[c].senders, entries[c].result) for c in reduction.chunks)
    done = ChunkDone("chunk_done", reducer, result.round, reduction.attempt, reduction.reducer, averages)
    told = StateReport("state_report", report.node, close.round, close.state_root)
    last = world.signed[-1]
    vote = Vote(last.record.height, last.view, "certify", last.record.hash)
    mine = item.node
    receipt = DeliveryReceipt("delivery_receipt", mine, seal.round, 0, 1, 0, (0, 1), (HASH, HASH), (1,))
    unsigned: list[Signed] = [
        Join("join", mine, "peer", "class", "1", True, False),
        Receipt("receipt", mine, seal.round, 0, item.update_root, item.trace_root),
        receipt,
        Claim("claim", mine, seal.round, 0, (receipt,)),
        Appeal("appeal", mine, seal.round),
        Standing("standing", mine, 3, 7),
    ]
    return [
        (commitment_of(item, seal.round), item.signature, mine),
        (done, reduction.signature, reducer),
        (told, report.signature, report.node),
        (vote, last.signatures[0], key("coordinator").address),
        *((one, sign(world.accounts[mine], DOMAIN, statement(world.job.job_id, one)), mine) for one in unsigned),
    ]


def genuine(world: SignedWorld) -> Iterator[Shown]:
    """At least one statement of each kind, signed as it should be."""
    job = world.job.job_id
    for message, signature, signer in of_a_round(world):
        yield statement(job, message), signature, signer
    redone = Redone(HASH, HASH, HASH)
    entry = Entry("class", "other", "fresh", 100, 3, (HASH,), (Limit("parameters", 1, 2, 3),))
    for said in (
        answer_statement(job, redone, round_=1, slot=2, steps=3, key=HASH),
        AuditRequest(job, 1, "peer", 2, 3, 4, HASH).statement,
        OpenRequest(job, 1, "peer", (0, 2)).statement,
        excision_statement(job, ((1, 2),), 9),
        thresholds_statement(Thresholds((entry,))),
    ):
        yield said, sign(VERIFIER, DOMAIN, said), VERIFIER.address


def other(value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return value + "x"
        case _:
            return bytes([value[0] ^ 1, *value[1:]])


def elsewhere(said: Statement) -> Iterator[tuple[SigningDomain, Statement]]:
    """The same words on other networks, in another field each (job, round, slot, …), and as another kind."""
    for domain in OTHER_NETWORKS:
        yield domain, said
    for field, _ in said.types:
        yield DOMAIN, replace(said, values={**said.values, field: other(said.values[field])})
    for kind in get_args(Kind):
        if kind != said.name:
            yield DOMAIN, replace(said, name=kind)


@pytest.fixture(scope="module")
def world() -> SignedWorld:
    made = SignedWorld(make_job(rounds=1), 7, members=3)
    made.run(600.0)
    return made


def test_each_signature_holds_in_one_place_only(world: SignedWorld, expect: Expect) -> None:
    tried = 0
    for said, signature, signer in genuine(world):
        check(DOMAIN, said, signature, signer)
        for domain, changed in elsewhere(said):
            tried += 1
            with pytest.raises(BreachError):
                check(domain, changed, signature, signer)
    expect(Finding("prevented", f"{tried} signatures shown elsewhere, none holds"))


def test_no_kind_of_statement_is_left_out(world: SignedWorld) -> None:
    """Whoever adds one adds it above, and binds it to its job and its place."""
    fields = {said.name: {field for field, _ in said.types} for said, _, _ in genuine(world)}
    assert fields.keys() == set(get_args(Kind))
    assert {type(message) for message, _, _ in of_a_round(world)} == set(get_args(Signed))
    for name, found in fields.items():
        assert "job" in found or name in OF_THE_NETWORK, name
        assert found & {"round", "height"} or name in AT_ANY_TIME, name
