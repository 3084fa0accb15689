"""Checks a job's record chain as an auditor: every signature, deal, place and count. Pure but for hashing.

The coordinator is not trusted here: whatever it may decide has to follow from the records before. What cannot follow
from them is checked elsewhere (state roots and updates by replay) or needs the chain (beacons, the audit draw).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from blake3 import blake3

from anynode.exact.layout import chunk_specs, refresh_due
from anynode.jobs.job import Job
from anynode.rounds.books import close_books, counted_samples
from anynode.rounds.deal import deal, take, work_seed
from anynode.rounds.ids import Range
from anynode.rounds.messages import PROTOCOL, Average, ChunkDone, StateReport
from anynode.rounds.quotas import quota_max
from anynode.rounds.records import (
    Assign,
    Begin,
    Close,
    Finish,
    Open,
    Record,
    Result,
    Seal,
    Verdict,
)
from anynode.rounds.statements import commitment_of, statement
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import SigningDomain, check

InRound = TypeVar("InRound", Open, Seal, Assign, Result)


@dataclass(frozen=True, slots=True)
class Round:
    """The records of one round that has closed.

    ``ended``: rejected slots whose nodes an earlier audit had excluded by then; their work was not judged again.
    """

    open: Open
    seal: Seal
    assign: Assign
    result: Result
    close: Close
    ended: frozenset[int] = frozenset()


@dataclass
class Lineage:
    """A record chain whose statements fit each other. ``start_root`` is the state that round 0 opened from."""

    start_root: str = ""
    rounds: list[Round] = field(default_factory=list)
    verdicts: dict[int, Verdict] = field(default_factory=dict)


def follow(records: Iterable[Record], job: Job, domain: SigningDomain) -> Lineage:
    """Check the whole chain. Raises ``RefusedError`` with the first statement that does not follow."""
    reader = _Reader(job, domain)
    for record in records:
        reader.take(record)
    return reader.lineage


@dataclass
class _Reader:
    """How far the chain has been read. ``proven`` and ``excluded`` are nodes, as the verdicts so far make them."""

    job: Job
    domain: SigningDomain
    lineage: Lineage = field(default_factory=Lineage)
    root: str = ""
    cursor: int = 0
    returned: tuple[Range, ...] = ()
    has_moments: bool = False
    samples: int = 0
    steps: int = 0
    finished: bool = False
    proven: set[str] = field(default_factory=set)
    excluded: set[str] = field(default_factory=set)
    opened: Open | None = None
    seal: Seal | None = None
    assign: Assign | None = None
    result: Result | None = None
    ended: frozenset[int] = frozenset()

    def take(self, record: Record) -> None:
        """Check one more record, and remember what the next ones build on."""
        body = record.body
        _require(bool(self.root) != isinstance(body, Begin), record, "comes out of order")
        match body:
            case Begin():
                _require(body.protocol == PROTOCOL, record, "speaks another protocol version")
                self.lineage.start_root = self.root = body.state_root
            case Open():
                self._check_open(body, record)
                self.opened = body
            case Seal():
                _require(self.seal is None, record, "seals its round a second time")
                self._check_seal(body, _of_round(self.opened, body.round, record), record)
                self.seal = body
            case Assign():
                _require(self.result is None, record, "comes out of order")
                self._check_assign(body, record)
                self._note_assign(body)
            case Result():
                _require(self.result is None, record, "gives its round a second result")
                self._check_result(body, record)
                self.result = body
            case Close():
                self._close(body, record)
            case Verdict():
                self._check_verdict(body, record)
                self._note_verdict(body)
            case Finish():
                training = self.job.training
                auto_done = training.inner_steps == "auto" and self.steps >= training.total_steps
                all_done = body.rounds == training.rounds or auto_done
                spent = self.job.samples_max - self.samples < training.inner_steps_most * training.batch_size
                done = self.opened is None and len(self.lineage.rounds) == body.rounds and (all_done or spent)
                _require(done and body.state_root == self.root, record, "ends the job elsewhere than its rounds do")
                self.finished = True

    # ------------------------------------------------------------ open, seal

    def _check_open(self, opened: Open, record: Record) -> None:
        job, number = self.job, len(self.lineage.rounds)
        _require(self.opened is None and not self.finished, record, "comes out of order")
        _require(opened.round == number and opened.state_root == self.root, record, "opens from another state")
        _require(number < job.training.rounds, record, "opens more rounds than the job has")
        training = job.training
        _require(
            training.inner_steps_least <= opened.inner_steps <= training.inner_steps_most,
            record,
            "has other inner steps than the job allows",
        )
        longest = opened.work_s <= job.workers.round_deadline_s and opened.exchange_s <= job.workers.exchange_deadline_s
        _require(longest, record, "lasts longer than the job allows")
        refresh = training.publishes_moments and refresh_due(number, job.training.refresh_rounds, self.has_moments)
        _require(opened.refresh == refresh, record, "refreshes the moments at another time than the job says")
        nodes = [member.node for member in opened.members]
        for member in opened.members:
            _require(member.node not in self.excluded, record, f"gives slot {member.slot} to an excluded node")
        numbered = [member.slot for member in opened.members] == list(range(len(nodes)))
        _require(numbered and nodes == sorted(set(nodes)), record, "does not give each member one slot")
        for member in opened.members:
            fits = 1 <= member.quota_steps <= quota_max(opened.inner_steps)
            _require(fits, record, f"gives slot {member.slot} a quota out of bounds")
            fits = member.proven == (member.node in self.proven)
            _require(fits, record, f"says of slot {member.slot} what no audit has shown")
        samples = [member.quota_steps * job.training.batch_size for member in opened.members]
        affordable = self.samples + sum(samples) <= job.samples_max
        _require(affordable, record, "deals more samples than the budget pays")
        pool, after, left = take(self.cursor, self.returned, sum(samples))
        dealt = deal(pool, samples, work_seed(job.job_id, number, opened.beacon))
        fits = (opened.ranges, opened.cursor, opened.returned) == (dealt, after, left)
        _require(fits, record, "deals other samples than its seed gives")

    def _check_seal(self, seal: Seal, opened: Open, record: Record) -> None:
        committed = [item.slot for item in seal.commitments]
        named = sorted([*committed, *(item.slot for item in seal.missing)])
        complete = committed == sorted(committed) and named == list(range(len(opened.members)))
        _require(complete, record, "does not name every slot exactly once")
        for item in seal.commitments:
            member = opened.members[item.slot]
            steps_fit = 0 < item.steps <= member.quota_steps
            samples_fit = item.samples == item.steps * self.job.training.batch_size
            _require(
                member.node == item.node and steps_fit and samples_fit, record, "seals a commitment that fits no slot"
            )
            said = statement(self.job.job_id, commitment_of(item, seal.round))
            check(self.domain, said, item.signature, item.node)

    # ------------------------------------------------------------ assign, result, close

    def _check_assign(self, assign: Assign, record: Record) -> None:
        opened = _of_round(self.opened, assign.round, record)
        nodes = {item.slot: item.node for item in _of_round(self.seal, assign.round, record).commitments}
        placed = [*assign.accepted, *(item.slot for item in assign.rejected), *assign.weightless]
        _require(sorted(placed) == sorted(nodes), record, "does not place every commitment exactly once")
        self._check_reducers(assign, opened, record)
        specs = chunk_specs(self.job.model.parameters, opened.refresh)
        chunks = [item.chunk for item in assign.reducers]
        _require(chunks in ([], [spec.index for spec in specs]), record, "does not assign every chunk exactly once")
        if self.assign is not None:
            same = (self.assign.accepted, self.assign.rejected, self.assign.weightless)
            follows = assign.attempt == self.assign.attempt + 1
            unchanged = (assign.accepted, assign.rejected, assign.weightless) == same
            _require(follows and unchanged, record, "changes more than who reduces")
            return
        _require(assign.attempt == 0, record, "comes out of order")
        standing = {*assign.accepted, *assign.weightless}
        _require(not {nodes[slot] for slot in standing} & self.excluded, record, "counts the work of an excluded node")
        proven = {slot for slot in standing if opened.members[slot].proven}
        weights = proven <= set(assign.accepted) and (not proven or proven == set(assign.accepted))
        _require(weights, record, "gives weight to a newcomer beside proven members")

    def _check_reducers(self, assign: Assign, opened: Open, record: Record) -> None:
        """Those who reduce or witness are accepted and can be reached; a reducer has one witness, if it can another."""
        able = {slot for slot in assign.accepted if opened.members[slot].reduces}
        _require(all(item.slot in assign.accepted for item in assign.reducers), record, "lets a stranger reduce")
        witnesses = {item.slot: item.witness for item in assign.reducers}
        both = {*witnesses, *witnesses.values()}
        _require(both <= able, record, "lets a member reduce or witness that does not reduce")
        one = all(witnesses[item.slot] == item.witness for item in assign.reducers)
        _require(one, record, "gives a reducer two witnesses")

    def _note_assign(self, assign: Assign) -> None:
        nodes = {item.slot: item.node for item in self.seal.commitments} if self.seal else {}
        if self.assign is None:
            self.samples += counted_samples(self.seal, assign) if self.seal else 0
            self.ended = frozenset(item.slot for item in assign.rejected if nodes[item.slot] in self.excluded)
        self.assign = assign
        self.proven |= {nodes[slot] for slot in assign.accepted}
        self.excluded |= {nodes[item.slot] for item in assign.rejected}

    def _check_result(self, result: Result, record: Record) -> None:
        opened, seal = _of_round(self.opened, result.round, record), _of_round(self.seal, result.round, record)
        assign = _of_round(self.assign, result.round, record)
        reduced = [(entry.chunk, entry.reducer) for entry in result.chunks]
        assigned = [(item.chunk, item.slot) for item in assign.reducers]
        _require(reduced in ([], assigned), record, "holds other chunks than were assigned")
        for entry in result.chunks:
            _require(entry.attempt <= assign.attempt, record, "holds a chunk of an attempt that was not made")
            fits = bool(entry.senders) and entry.senders == tuple(sorted(set(entry.senders) & set(assign.accepted)))
            _require(fits, record, "averages an update that was not accepted, or one twice")
        self._check_reductions(result, opened, record)
        books = close_books(opened, seal, result.chunks)
        fits = (result.steps, result.cursor, result.returned) == (books.steps, books.cursor, books.returned)
        _require(fits, record, "counts other steps or samples than were included")

    def _check_reductions(self, result: Result, opened: Open, record: Record) -> None:
        """Each chunk is covered by one signature, the one of its reducer."""
        entries = {entry.chunk: entry for entry in result.chunks}
        covered = [chunk for reduction in result.reductions for chunk in reduction.chunks]
        _require(sorted(covered) == sorted(entries), record, "does not cover every chunk with one signature")
        for reduction in result.reductions:
            of_one = [entries[chunk] for chunk in reduction.chunks]
            fits = all((e.reducer, e.attempt) == (reduction.reducer, reduction.attempt) for e in of_one)
            _require(fits, record, "covers a chunk with another reducer's signature")
            node = opened.members[reduction.reducer].node
            done = ChunkDone(
                kind="chunk_done",
                node=node,
                round=opened.round,
                attempt=reduction.attempt,
                slot=reduction.reducer,
                averages=tuple(Average(entry.chunk, entry.senders, entry.result) for entry in of_one),
            )
            check(self.domain, statement(self.job.job_id, done), reduction.signature, node)

    def _close(self, close: Close, record: Record) -> None:
        opened, seal = _of_round(self.opened, close.round, record), _of_round(self.seal, close.round, record)
        assign, result = _of_round(self.assign, close.round, record), _of_round(self.result, close.round, record)
        for report in close.reports:
            said = StateReport("state_report", report.node, close.round, close.state_root)
            check(self.domain, statement(self.job.job_id, said), report.signature, report.node)
        self.lineage.rounds.append(Round(opened, seal, assign, result, close, self.ended))
        self.steps += result.steps
        self.root, self.cursor, self.returned = close.state_root, result.cursor, result.returned
        self.has_moments = self.has_moments or (opened.refresh and bool(result.chunks))
        self.opened = self.seal = self.assign = self.result = None

    # ------------------------------------------------------------ verdict

    def _check_verdict(self, verdict: Verdict, record: Record) -> None:
        _require(verdict.round < len(self.lineage.rounds), record, "judges a round that has not closed")
        _require(verdict.round not in self.lineage.verdicts, record, "judges its round a second time")
        round_ = self.lineage.rounds[verdict.round]
        secret_hash = blake3(bytes.fromhex(verdict.secret)).hexdigest()
        _require(secret_hash == round_.seal.secret_hash, record, "reveals another secret than was sealed")
        judged = [(item.slot, item.node) for item in verdict.judged]
        committed = [(item.slot, item.node) for item in round_.seal.commitments]
        _require(judged == committed, record, "does not judge every commitment exactly once")
        rejected = {item.slot for item in round_.assign.rejected}
        for item in verdict.judged:
            passed = item.accepted and item.slot in rejected
            _require(not passed, record, f"accepts slot {item.slot}, which was rejected before the exchange")
            unaudited = not item.audited and not (item.accepted and round_.open.members[item.slot].proven)
            _require(not unaudited, record, f"lets the newcomer in slot {item.slot} pass without an audit")

    def _note_verdict(self, verdict: Verdict) -> None:
        self.lineage.verdicts[verdict.round] = verdict
        for item in verdict.judged:
            if not item.accepted:
                self.proven.discard(item.node)
                self.excluded.add(item.node)
            elif item.audited:
                self.proven.add(item.node)


def _require(condition: bool, record: Record, what: str) -> None:
    if not condition:
        raise RefusedError(f"record {record.height} ({record.body.kind}) {what}")


def _of_round(body: InRound | None, round_: int, record: Record) -> InRound:
    """The earlier record of the same round that ``record`` builds on."""
    if body is None or body.round != round_:
        raise RefusedError(f"record {record.height} ({record.body.kind}) comes out of order")
    return body
