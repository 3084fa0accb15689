"""Checks a job's record chain as an auditor: every signature, deal, place and count. Pure but for hashing.

The coordinator is not trusted here: whatever it may decide has to follow from the records before. What cannot follow
from them is checked elsewhere (state roots and updates by replay) or needs the chain (beacons, the audit draw).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from anynode.exact.layout import chunk_specs, refresh_due
from anynode.jobs.job import Job
from anynode.rounds.appeals import Appeal, Rejections, after_excision, after_ruling, note, objection
from anynode.rounds.audit_secrets import opens
from anynode.rounds.audits import Audit
from anynode.rounds.books import close_books, counted_samples
from anynode.rounds.certificates import check_words
from anynode.rounds.corrections import History, complaint
from anynode.rounds.course import Assign, Begin, Close, Finish, Open, Result, Seal
from anynode.rounds.deal import deal, take, work_seed
from anynode.rounds.events import Drawn
from anynode.rounds.giving import SEALS_KEPT
from anynode.rounds.ids import Range
from anynode.rounds.judgements import Correct, Ruling, Verdict
from anynode.rounds.messages import PROTOCOL, StateReport
from anynode.rounds.quotas import quota_max
from anynode.rounds.records import Record
from anynode.rounds.reductions import after_reductions, unreadable_nodes
from anynode.rounds.standing import (
    Standing,
    after_admission,
    after_judgement,
    after_refusal,
    after_rejection,
    after_task,
    least_rate_ppm,
)
from anynode.rounds.statements import commitment_of, statement
from anynode.rounds.table import Table
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import SigningDomain, check
from anynode_verifier.evidence_checks import fault_of_evidence
from anynode_verifier.reduction_checks import fault_of_reductions, fault_of_signatures, fault_of_unreadable
from anynode_verifier.sampling import drawn_of
from anynode_verifier.task_checks import check_tasks

InRound = TypeVar("InRound", Open, Seal, Assign, Result)


@dataclass(frozen=True, slots=True)
class Round:
    """The records of one round that has closed.

    ``ended``: rejected slots whose nodes an earlier audit had excluded by then; their work was not judged again.
    """

    open: Open
    seal: Seal
    assign: Assign
    assigns: tuple[Assign, ...]
    result: Result
    close: Close
    ended: frozenset[int] = frozenset()


@dataclass
class Lineage:
    """A record chain whose statements fit each other. ``start_root`` is the state that round 0 opened from."""

    start_root: str = ""
    rounds: dict[int, Round] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)


def follow(records: Iterable[Record], job: Job, domain: SigningDomain) -> Lineage:
    """Check the whole chain. Raises ``RefusedError`` with the first statement that does not follow."""
    reader = Reader(job, domain)
    for record in records:
        reader.take(record)
    return reader.lineage


@dataclass
class Reader:
    """How far the chain has been read. ``standings`` are those of all nodes, as the records so far make them."""

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
    standings: dict[str, Standing] = field(default_factory=dict)
    opened: Open | None = None
    seal: Seal | None = None
    seals: tuple[Seal, ...] = ()
    assign: Assign | None = None
    assigns: tuple[Assign, ...] = ()
    result: Result | None = None
    ended: frozenset[int] = frozenset()
    history: History = field(default_factory=History)
    rejections: Rejections = field(default_factory=Table)

    def fork(self) -> Reader:
        """A reader that has read as much, and may be tried on a record without harm to this one."""
        read = Lineage(self.lineage.start_root, dict(self.lineage.rounds), dict(self.lineage.verdicts))
        return replace(self, lineage=read, standings=dict(self.standings), history=self.history.fork())

    def is_excluded(self, node: str) -> bool:
        """Whether a verdict so far has banned this node."""
        standing = self.standings.get(node)
        return standing is not None and bool(standing.banned)

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
                self.seal, self.seals = body, (*self.seals, body)[-SEALS_KEPT:]
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
            case Correct():
                self._check_correct(body, record)
                self._note_correct(body)
            case Ruling():
                self._take_ruling(body, record)
            case Finish():
                training = self.job.training
                auto_done = training.inner_steps == "auto" and self.steps >= training.total_steps
                all_done = body.rounds >= training.rounds or auto_done
                spent = self.job.samples_max - self.samples < training.inner_steps_most * training.batch_size
                done = self.opened is None and self.history.number == body.rounds and (all_done or spent or body.ended)
                _require(done and body.state_root == self.root, record, "ends the job elsewhere than its rounds do")
                self.finished = True
        self.history.take(record)
        self.rejections = note(self.rejections, record)

    # ------------------------------------------------------------ open, seal

    def _check_open(self, opened: Open, record: Record) -> None:
        job, number = self.job, self.history.number
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
            excluded = self._standing(member.node).banned
            _require(not excluded, record, f"gives slot {member.slot} to an excluded node")
        numbered = [member.slot for member in opened.members] == list(range(len(nodes)))
        _require(numbered and nodes == sorted(set(nodes)), record, "does not give each member one slot")
        for member in opened.members:
            fits = 1 <= member.quota_steps <= quota_max(opened.inner_steps * training.parts)
            _require(fits, record, f"gives slot {member.slot} a quota out of bounds")
            fits = member.proven == self._standing(member.node).proven
            _require(fits, record, f"says of slot {member.slot} what no audit has shown")
            fits = member.proven or member.quota_steps <= training.newcomer_steps * training.parts
            _require(fits, record, f"gives the newcomer in slot {member.slot} more than newcomers' work")
        samples = [member.quota_steps * training.share_samples for member in opened.members]
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
            samples_fit = item.samples == item.steps * self.job.training.share_samples
            _require(
                member.node == item.node and steps_fit and samples_fit, record, "seals a commitment that fits no slot"
            )
            said = statement(self.job.job_id, commitment_of(item, seal.round))
            check(self.domain, said, item.signature, item.node)
        check_words(seal, self.job.job_id, self.domain, {seal.sealer})
        least = [least_rate_ppm(self._standing(item.node)) for item in seal.commitments]
        rated = len(least) == len(seal.rates_ppm) and all(
            rate_ppm >= at_least for rate_ppm, at_least in zip(seal.rates_ppm, least, strict=False)
        )
        _require(rated, record, "audits a worker less often than its audits allow")

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
        absent = assign.absent == tuple(sorted(set(assign.absent) & set(assign.accepted)))
        _require(absent, record, "counts a sender as absent that was not accepted")
        fault = fault_of_unreadable(assign, self.assign, opened, self.domain, self.job.job_id)
        _require(not fault, record, fault)
        if self.assign is not None:
            same = (self.assign.accepted, self.assign.rejected, self.assign.weightless)
            follows = assign.attempt == self.assign.attempt + 1
            unchanged = (assign.accepted, assign.rejected, assign.weightless) == same
            _require(follows and unchanged, record, "changes more than who reduces")
            return
        _require(assign.attempt == 0, record, "comes out of order")
        standing = {*assign.accepted, *assign.weightless}
        shown = all(item.proof or self._standing(nodes[item.slot]).banned for item in assign.rejected)
        _require(shown, record, "rejects work without a fraud proof")
        excluded = any(self._standing(nodes[slot]).banned for slot in standing)
        _require(not excluded, record, "counts the work of an excluded node")
        proven = {slot for slot in standing if opened.members[slot].proven}
        weights = proven <= set(assign.accepted) and (not proven or proven == set(assign.accepted))
        _require(weights, record, "gives weight to a newcomer beside proven members")

    def _check_reducers(self, assign: Assign, opened: Open, record: Record) -> None:
        """Those who reduce or witness are accepted and can be reached; a reducer has one witness, if it can another."""
        able = {slot for slot in assign.accepted if opened.members[slot].reduces}
        _require(all(item.slot in assign.accepted for item in assign.reducers), record, "lets a stranger reduce")
        witnesses = {item.slot: item.witness for item in assign.reducers}
        both = {slot for item in assign.reducers for slot in (item.slot, item.witness)}
        _require(both <= able, record, "lets a member reduce or witness that does not reduce")
        one = all(witnesses[item.slot] == item.witness for item in assign.reducers)
        _require(one, record, "gives a reducer two witnesses")

    def _note_assign(self, assign: Assign) -> None:
        nodes = {item.slot: item.node for item in self.seal.commitments} if self.seal else {}
        if self.assign is None:
            self.samples += counted_samples(self.seal, assign) if self.seal else 0
            ended = (item.slot for item in assign.rejected if self._standing(nodes[item.slot]).banned)
            self.ended = frozenset(ended)
        self.assign, self.assigns = assign, (*self.assigns, assign)
        members = self.opened.members if self.opened else ()
        for slot in (slot for slot in assign.accepted if not members[slot].proven):
            self.standings[nodes[slot]] = after_admission(self._standing(nodes[slot]))
        for item in assign.rejected:
            self.standings[nodes[item.slot]] = after_refusal(self._standing(nodes[item.slot]), item.reason)
        for node, reason in (unreadable_nodes(self.opened, assign) if self.opened else {}).items():
            self.standings[node] = after_rejection(self._standing(node), reason)

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
        fault = fault_of_signatures(result, opened, self.domain, self.job.job_id)
        _require(not fault, record, fault)
        books = close_books(opened, seal, result.chunks)
        fits = (result.steps, result.cursor, result.returned) == (books.steps, books.cursor, books.returned)
        _require(fits, record, "counts other steps or samples than were included")

    def _close(self, close: Close, record: Record) -> None:
        opened, seal = _of_round(self.opened, close.round, record), _of_round(self.seal, close.round, record)
        assign, result = _of_round(self.assign, close.round, record), _of_round(self.result, close.round, record)
        for report in close.reports:
            said = StateReport("state_report", report.node, close.round, close.state_root)
            check(self.domain, statement(self.job.job_id, said), report.signature, report.node)
        self.lineage.rounds[close.round] = Round(opened, seal, assign, self.assigns, result, close, self.ended)
        self.steps += result.steps
        self.root, self.cursor, self.returned = close.state_root, result.cursor, result.returned
        self.has_moments = self.has_moments or (opened.refresh and bool(result.chunks))
        self.opened = self.seal = self.assign = self.result = None
        self.assigns = ()

    # ------------------------------------------------------------ verdict

    def _check_verdict(self, verdict: Verdict, record: Record) -> None:
        _require(verdict.round in self.lineage.rounds, record, "judges a round that has not closed")
        _require(verdict.round not in self.lineage.verdicts, record, "judges its round a second time")
        round_ = self.lineage.rounds[verdict.round]
        if verdict.secret:
            fits = opens(verdict.secret, round_.seal.secret_hash)
            _require(fits, record, "reveals another secret than was sealed")
        judged = [(item.slot, item.node) for item in verdict.judged]
        committed = [(item.slot, item.node) for item in round_.seal.commitments]
        _require(judged == committed, record, "does not judge every commitment exactly once")
        self._check_draw(verdict, round_, record)
        fault = fault_of_evidence(verdict, round_, self.job.training.segment_steps)
        _require(not fault, record, fault)
        fault = fault_of_reductions(verdict, round_, self.seals, self.domain, self.job.job_id)
        _require(not fault, record, fault)

    def _check_draw(self, verdict: Verdict, round_: Round, record: Record) -> None:
        """Each is audited whom the draw names, and nobody else."""
        named = drawn_of(round_.seal, verdict.secret, verdict.block_hash)
        picked = Drawn(verdict.round, verdict.secret, verdict.block_hash, tuple(sorted(named)))
        audit = Audit(round_.open, round_.seal, round_.assign, round_.result, picked)
        check_tasks(verdict, audit, self.job.job_id, self.domain)
        drawn = named | set(round_.assign.weightless)
        for item in verdict.judged:
            if item.slot in audit.admitted:
                fits = item.evidence == "admission"
            elif item.slot in drawn:
                fits = item.outcome == "void" or item.evidence in ("exact", "tolerant")
            else:
                fits = (item.outcome, item.evidence) == ("accepted", "none")
            _require(fits, record, f"audits slot {item.slot} otherwise than the draw says")

    def _note_verdict(self, verdict: Verdict) -> None:
        self.lineage.verdicts[verdict.round] = verdict
        for item in verdict.judged:
            self.standings[item.node] = after_judgement(self._standing(item.node), item)
        self.standings |= after_reductions(self.standings, verdict)
        for task in verdict.tasks:
            self.standings[task.auditor] = after_task(self._standing(task.auditor), task)

    # ------------------------------------------------------------ correction

    def _check_correct(self, correct: Correct, record: Record) -> None:
        _require(self.opened is None and not self.finished, record, "comes out of order")
        why = complaint(self.history, correct)
        _require(not why, record, why)

    def _note_correct(self, correct: Correct) -> None:
        self.root, self.returned, self.steps = correct.state_root, correct.returned, correct.steps
        self.has_moments = correct.has_moments
        for item in correct.excised:
            self.standings[item.node] = after_excision(self._standing(item.node), self.rejections, item)

    def _take_ruling(self, ruling: Ruling, record: Record) -> None:
        node, key = ruling.node, (ruling.round, ruling.node)
        why = objection(self.rejections.get(key), ruling, self._standing(node))
        _require(not why, record, why)
        check(self.domain, statement(self.job.job_id, Appeal("appeal", node, ruling.round)), ruling.appeal, node)
        self.standings[node] = after_ruling(self._standing(node), self.rejections[key], granted=ruling.granted)

    def _standing(self, node: str) -> Standing:
        return self.standings.get(node, Standing())


def _require(condition: bool, record: Record, what: str) -> None:
    if not condition:
        raise RefusedError(f"record {record.height} ({record.body.kind}) {what}")


def _of_round(body: InRound | None, round_: int, record: Record) -> InRound:
    """The earlier record of the same round that ``record`` builds on."""
    if body is None or body.round != round_:
        raise RefusedError(f"record {record.height} ({record.body.kind}) comes out of order")
    return body
