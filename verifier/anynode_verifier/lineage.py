"""Checks a job's record chain as an auditor: every signature, every deal, every draw. Pure but for hashing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from blake3 import blake3

from anynode.jobs.job import Job
from anynode.rounds.books import close_books
from anynode.rounds.deal import deal, take, work_seed
from anynode.rounds.messages import ChunkDone, StateReport
from anynode.rounds.records import Assign, Begin, Close, Open, Record, Result, Seal, Verdict
from anynode.rounds.statements import commitment_of, statement
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import SigningDomain, check

InRound = TypeVar("InRound", Open, Seal, Assign, Result)


@dataclass
class Round:
    """The records of one round that has closed."""

    open: Open
    seal: Seal
    assign: Assign
    result: Result
    close: Close


@dataclass
class Lineage:
    """A record chain whose statements fit each other. ``start_root`` is the state that round 0 opened from."""

    start_root: str = ""
    rounds: list[Round] = field(default_factory=list)
    verdicts: dict[int, Verdict] = field(default_factory=dict)


def follow(records: Iterable[Record], job: Job, domain: SigningDomain) -> Lineage:
    """Check the whole chain. Raises ``RefusedError`` with the first statement that does not follow."""
    lineage = Lineage()
    opened: Open | None = None
    seal: Seal | None = None
    assign: Assign | None = None
    result: Result | None = None
    cursor, returned = 0, tuple[tuple[int, int], ...]()
    root, number = "", 0
    for record in records:
        body = record.body
        match body:
            case Begin():
                lineage.start_root = root = body.state_root
            case Open():
                _require(body.round == number and body.state_root == root, record, "opens from another state")
                _check_deal(body, job, cursor, returned, record)
                opened, seal, assign, result = body, None, None, None
            case Seal():
                _check_commitments(body, _of_round(opened, body.round, record), job, domain)
                seal = body
            case Assign():
                _check_assign(body, _of_round(seal, body.round, record), record)
                assign = body
            case Result():
                at, sealed = _of_round(opened, body.round, record), _of_round(seal, body.round, record)
                _check_result(body, at, _of_round(assign, body.round, record), job.job_id, domain)
                _check_books(body, at, sealed, record)
                result = body
            case Close():
                at = _of_round(opened, body.round, record)
                closed = _of_round(result, body.round, record)
                _check_reports(body, job.job_id, domain)
                lineage.rounds.append(
                    Round(at, _of_round(seal, body.round, record), _of_round(assign, body.round, record), closed, body)
                )
                root, number = body.state_root, number + 1
                cursor, returned = closed.cursor, closed.returned
            case Verdict():
                _check_verdict(body, lineage, record)
                lineage.verdicts[body.round] = body
            case _:
                pass
    return lineage


def _check_deal(opened: Open, job: Job, cursor: int, returned: tuple[tuple[int, int], ...], record: Record) -> None:
    samples = [member.quota_steps * job.training.batch_size for member in opened.members]
    pool, after, left = take(cursor, returned, sum(samples))
    dealt = deal(pool, samples, work_seed(job.job_id, opened.round, opened.beacon))
    fits = (opened.ranges, opened.cursor, opened.returned) == (dealt, after, left)
    _require(fits, record, "deals other samples than its seed gives")


def _check_commitments(seal: Seal, opened: Open, job: Job, domain: SigningDomain) -> None:
    for item in seal.commitments:
        member = opened.members[item.slot] if item.slot < len(opened.members) else None
        if member is None or member.node != item.node or item.samples != item.steps * job.training.batch_size:
            raise RefusedError(f"round {seal.round} seals a commitment that fits no slot")
        check(domain, statement(job.job_id, commitment_of(item, seal.round)), item.signature, item.node)


def _check_assign(assign: Assign, seal: Seal, record: Record) -> None:
    committed = {item.slot for item in seal.commitments}
    named = [*assign.accepted, *(item.slot for item in assign.rejected), *assign.weightless]
    _require(sorted(named) == sorted(committed), record, "does not place every commitment exactly once")
    _require(all(item.slot in assign.accepted for item in assign.reducers), record, "lets a stranger reduce")


def _check_result(result: Result, opened: Open, assign: Assign, job_id: str, domain: SigningDomain) -> None:
    for entry in result.chunks:
        if not set(entry.senders) <= set(assign.accepted):
            raise RefusedError(f"round {result.round} averages an update that was not accepted")
        node = opened.members[entry.reducer].node
        done = ChunkDone(
            kind="chunk_done",
            node=node,
            round=result.round,
            attempt=entry.attempt,
            chunk=entry.chunk,
            slot=entry.reducer,
            senders=entry.senders,
            result=entry.result,
        )
        check(domain, statement(job_id, done), entry.signature, node)


def _check_books(result: Result, opened: Open, seal: Seal, record: Record) -> None:
    """The step count and the pool follow from what was included."""
    books = close_books(opened, seal, result.chunks)
    fits = (result.steps, result.cursor, result.returned) == (books.steps, books.cursor, books.returned)
    _require(fits, record, "counts other steps or samples than were included")


def _check_reports(close: Close, job_id: str, domain: SigningDomain) -> None:
    for report in close.reports:
        said = StateReport("state_report", report.node, close.round, close.state_root)
        check(domain, statement(job_id, said), report.signature, report.node)


def _check_verdict(verdict: Verdict, lineage: Lineage, record: Record) -> None:
    _require(verdict.round < len(lineage.rounds), record, "judges a round that has not closed")
    round_ = lineage.rounds[verdict.round]
    secret_hash = blake3(bytes.fromhex(verdict.secret)).hexdigest()
    _require(secret_hash == round_.seal.secret_hash, record, "reveals another secret than was sealed")
    judged = [item.slot for item in verdict.judged]
    committed = [item.slot for item in round_.seal.commitments]
    _require(judged == committed, record, "does not judge every commitment exactly once")
    for item in verdict.judged:
        must = not round_.open.members[item.slot].proven
        _require(item.audited or not must, record, f"lets the newcomer in slot {item.slot} pass without an audit")


def _require(condition: bool, record: Record, what: str) -> None:
    if not condition:
        raise RefusedError(f"record {record.height} ({record.body.kind}) {what}")


def _of_round(body: InRound | None, round_: int, record: Record) -> InRound:
    """The earlier record of the same round that ``record`` builds on."""
    if body is None or body.round != round_:
        raise RefusedError(f"record {record.height} ({record.body.kind}) comes out of order")
    return body
