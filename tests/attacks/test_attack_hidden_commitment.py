"""A coordinator that hides a commitment."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect, Finding
from signed_world import DOMAIN, SignedWorld, key, make_job
from world_cast import COORDINATOR

from anynode.rounds import messages
from anynode.rounds.certificates import Verifiers, check_proof
from anynode.rounds.course import Seal
from anynode.rounds.left_out import LeftOut
from anynode.rounds.statements import statement
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import sign

ATTACK = Attack(
    "a hidden commitment",
    "A coordinator gives a member its receipt, and leaves the commitment out of the seal so that it is not paid.",
    "caught",
)


class Hiding(SignedWorld):
    """What the victim commits to in round 1 is receipted, and never heard of again."""

    victim = ""

    def _arrive(self, sender: str, to: str, message: object) -> None:
        hidden = isinstance(message, messages.Commitment) and (message.node, message.round) == (self.victim, 1)
        if not hidden or not isinstance(message, messages.Commitment):
            super()._arrive(sender, to, message)
            return
        receipt = messages.Receipt(
            "receipt", message.node, message.round, message.slot, message.update_root, message.trace_root
        )
        self._send(COORDINATOR, message.node, signed_by(COORDINATOR, self.job.job_id, receipt))


def signed_by(name: str, job: str, receipt: messages.Receipt) -> messages.Receipt:
    return replace(receipt, signature=sign(key(name), DOMAIN, statement(job, receipt)))


def test_the_receipt_and_the_seal_prove_it_to_anybody(expect: Expect) -> None:
    world = Hiding(make_job(rounds=4), 3, members=3)
    world.victim = world.members[1].name
    world.run(1_200.0)
    assert world.finished()
    (receipt,) = world.left_out
    assert (receipt.node, receipt.round) == (world.victim, 1)

    job, verifiers = world.job.job_id, [key(COORDINATOR).address]
    evidence = LeftOut.parse(LeftOut(job=job, receipt=receipt).to_bytes())
    proof = evidence.proof(job, world.records, verifiers, DOMAIN)
    assert proof.signer == key(COORDINATOR).address
    check_proof(proof, DOMAIN, Verifiers(tuple(verifiers), 1))  # what certificates and the contract rest on
    seal = next(
        body for body in (record.body for record in world.records) if isinstance(body, Seal) and body.round == 1
    )
    shown = next(item for item in seal.commitments if item.node != world.victim)
    made_up = replace(
        receipt, node=shown.node, slot=shown.slot, update_root=shown.update_root, trace_root=shown.trace_root
    )
    for signer, harmless, reason in (
        (COORDINATOR, LeftOut(job=job, receipt=signed_by(COORDINATOR, job, made_up)), "nothing was left out"),
        (COORDINATOR, LeftOut(job="9" * 64, receipt=receipt), "not of this one"),
        (COORDINATOR, LeftOut(job=job, receipt=replace(receipt, round=99)), "not signed by a verifier"),
        (COORDINATOR, LeftOut(job=job, receipt=replace(receipt, update_root="7" * 64)), "not signed by a verifier"),
        ("another", LeftOut(job=job, receipt=signed_by("another", job, receipt)), "neither has promised"),
    ):
        with pytest.raises(RefusedError, match=reason):
            harmless.proof(job, world.records, [*verifiers, key(signer).address], DOMAIN)
    expect(Finding("caught", "a receipt and a seal without it are a proof: its signer is out, and slashed"))
