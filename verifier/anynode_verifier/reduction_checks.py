"""What an auditor checks of a verdict on averaged chunks: who was drawn, what claims prove, whose receipts they are."""

from __future__ import annotations

from typing import Protocol

from anynode.rounds.claims import blamed, fault_of, receipt_of
from anynode.rounds.course import Assign, Open, Result, Seal
from anynode.rounds.judgements import Verdict
from anynode.rounds.reductions import faults_of
from anynode.rounds.statements import statement
from anynode_contracts.signing import SigningDomain, check
from anynode_verifier.sampling import drawn_chunks


class Reduced(Protocol):
    """The records of a round that its averages rest on."""

    @property
    def open(self) -> Open: ...
    @property
    def seal(self) -> Seal: ...
    @property
    def assigns(self) -> tuple[Assign, ...]: ...
    @property
    def result(self) -> Result: ...


def fault_of_reductions(verdict: Verdict, round_: Reduced, domain: SigningDomain, job_id: str) -> str:
    """What does not follow in a verdict on averaged chunks; empty if all does: only those are judged that the draw
    names, or that a claim proves to be wrong. Raises ``BreachError`` for a receipt that another has signed.
    """
    fault = faults_of(verdict.reductions, round_.open, round_.result)
    if fault:
        return fault
    if len(set(verdict.claims)) < len(verdict.claims):
        return "counts a claim twice"
    for claim in verdict.claims:
        fault = fault_of(claim, round_.open, round_.assigns, round_.result)
        if fault:
            return f"counts a claim that {fault}"
        receipt = receipt_of(claim, round_.open)
        check(domain, statement(job_id, receipt), claim.signature, receipt.node)
    proven = blamed(verdict.claims, round_.open, round_.result)
    rejected = {item.chunk for item in verdict.reductions if item.outcome == "rejected"}
    if not proven.keys() <= rejected:
        return "passes over what a claim proves"
    drawn = drawn_chunks(round_.open, round_.seal, round_.result, verdict.secret, verdict.block_hash)
    strange = [item.chunk for item in verdict.reductions if item.chunk not in drawn and item.chunk not in proven]
    return f"judges chunk {strange[0]}, which was not drawn" if strange else ""
