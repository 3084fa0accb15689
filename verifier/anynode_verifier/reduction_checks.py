"""What an auditor checks of averaged chunks: who has signed for them, and what a verdict says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from anynode.rounds.claims import blamed, fault_of, merged, receipt_of
from anynode.rounds.course import Assign, ChunkResult, Open, Result, Seal
from anynode.rounds.giving import is_at_work
from anynode.rounds.judgements import CLAIMS_MAX, Verdict
from anynode.rounds.messages import Average, ChunkDone
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


def fault_of_reductions(
    verdict: Verdict, round_: Reduced, seals: Sequence[Seal], domain: SigningDomain, job_id: str
) -> str:
    """What does not follow in a verdict on averaged chunks; empty if all does: only those are judged that the draw
    names, or that a claim proves to be wrong, and only who goes on to work withholds. ``seals`` are those of the newest
    rounds. Raises ``BreachError`` for a receipt that another has signed.
    """
    fault = faults_of(verdict.reductions, round_.open, round_.result)
    if fault:
        return fault
    withheld = {item.node for item in verdict.reductions if item.outcome == "withheld"}
    if not all(is_at_work(node, verdict.round, seals) for node in withheld):
        return "says of a node that it withholds what it has averaged, and it may have gone"
    for claim in verdict.claims:
        fault = fault_of(claim, round_.open, round_.assigns, round_.result)
        if fault:
            return f"counts a claim that {fault}"
        receipt = receipt_of(claim, round_.open)
        check(domain, statement(job_id, receipt), claim.signature, receipt.node)
    for slot in {item.slot for item in verdict.claims}:
        of_one = [item for item in verdict.claims if item.slot == slot]
        if len(merged((), of_one, round_.result, CLAIMS_MAX)) < len(of_one):
            return "counts a claim twice"
    proven = blamed(verdict.claims, round_.open, round_.result)
    rejected = {item.chunk for item in verdict.reductions if item.outcome == "rejected"}
    if not proven.keys() <= rejected:
        return "passes over what a claim proves"
    drawn = drawn_chunks(round_.open, round_.seal, round_.result, verdict.secret, verdict.block_hash)
    strange = [item.chunk for item in verdict.reductions if item.chunk not in drawn and item.chunk not in proven]
    return f"judges chunk {strange[0]}, which was not drawn" if strange else ""


def fault_of_signatures(result: Result, opened: Open, domain: SigningDomain, job_id: str) -> str:
    """What is wrong with the signatures over a result; empty if each chunk is covered by one, that of its reducer.
    Raises ``BreachError`` for one of somebody else.
    """
    entries = {entry.chunk: entry for entry in result.chunks}
    covered = [chunk for reduction in result.reductions for chunk in reduction.chunks]
    if sorted(covered) != sorted(entries):
        return "does not cover every chunk with one signature"
    for reduction in result.reductions:
        of_one = [entries[chunk] for chunk in reduction.chunks]
        if any((e.reducer, e.attempt) != (reduction.reducer, reduction.attempt) for e in of_one):
            return "covers a chunk with another reducer's signature"
        _check_signed(of_one, reduction.signature, opened, domain, job_id)
    return ""


def fault_of_unreadable(assign: Assign, before: Assign | None, opened: Open, domain: SigningDomain, job_id: str) -> str:
    """What does not follow where an assignment says that reducers have signed what is no average; empty if all does:
    each is blamed once, by its own signature over chunks that it was to reduce, and reduces no more. Whether the bytes
    can be read follows from no record: verifiers try it before they sign. Raises ``BreachError`` for a signature of
    somebody else.
    """
    known = before.unreadable if before is not None else ()
    to_reduce = {item.chunk: item.slot for item in before.reducers} if before is not None else {}
    blamed = [item.reducer for item in assign.unreadable]
    if assign.unreadable[: len(known)] != known or len(set(blamed)) < len(blamed):
        return "does not blame each reducer once"
    if not {item.slot for item in assign.reducers}.isdisjoint(blamed):
        return "lets somebody reduce who has signed what is no average"
    for item in assign.unreadable[len(known) :]:
        said = {(entry.reducer, entry.attempt) for entry in item.entries}
        own = all(to_reduce.get(entry.chunk) == entry.reducer for entry in item.entries)
        if len(said) != 1 or not own or item.entries[0].attempt >= assign.attempt:
            return "blames a slot for what it was not to reduce"
        _check_signed(item.entries, item.signature, opened, domain, job_id)
    return ""


def _check_signed(
    entries: Sequence[ChunkResult], signature: str, opened: Open, domain: SigningDomain, job_id: str
) -> None:
    """One signature of their reducer covers these chunks."""
    node = opened.members[entries[0].reducer].node
    done = ChunkDone(
        kind="chunk_done",
        node=node,
        round=opened.round,
        attempt=entries[0].attempt,
        slot=entries[0].reducer,
        averages=tuple(Average(entry.chunk, entry.senders, entry.result) for entry in entries),
    )
    check(domain, statement(job_id, done), signature, node)
