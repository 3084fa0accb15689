"""From a round's records to what it earns whom. Pure: an auditor computes the same from the public records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from anynode.exact.layout import ChunkSpec, chunk_specs
from anynode.jobs.job import Job
from anynode.rounds.claims import delivered_by_claim
from anynode.rounds.course import Assign, Open, Result, Seal
from anynode.rounds.judgements import Ruling, Task, Verdict
from anynode.rounds.records import Record
from anynode.rounds.reductions import rejected_reducers, unpaid_chunks, unreadable_nodes
from anynode_contracts.errors import invariant
from anynode_ledger.pay import SAMPLES_PER_PRICE, Credit, MemberWork, granted_pay, replay_pay, round_pay


@dataclass(frozen=True, slots=True)
class JudgedRound:
    """The records of one round that its pay follows from."""

    open: Open
    seal: Seal
    assign: Assign
    result: Result
    verdict: Verdict

    @property
    def rejected(self) -> dict[str, str]:
        """Why each node was rejected: for its work, for what it reduced, or as an auditor. What is void, and who has
        not answered a task, is not among them: it is unpaid and that is all.
        """
        as_auditors = {task.auditor: task.reason for task in self.verdict.tasks if task.outcome == "rejected"}
        for_work = {item.node: item.reason for item in self.verdict.judged if item.rejected}
        unreadable = unreadable_nodes(self.open, self.assign)
        return as_auditors | rejected_reducers(self.verdict) | unreadable | for_work

    @property
    def paid_nodes(self) -> tuple[str, ...]:
        """The nodes that this round may pay."""
        if not self.result.chunks:
            return ()
        workers = tuple(item.node for item in self.verdict.judged if item.accepted)
        return tuple(dict.fromkeys((*workers, *(task.auditor for task in self.paid_tasks))))

    @property
    def paid_tasks(self) -> tuple[Task, ...]:
        """The audit tasks that this round pays."""
        return tuple(task for task in self.verdict.tasks if task.outcome == "accepted")


class RoundCollector:
    """Puts the records of each round together as they come; a round is complete with its verdict."""

    def __init__(self) -> None:
        self._opens: dict[int, Open] = {}
        self._seals: dict[int, Seal] = {}
        self._assigns: dict[int, Assign] = {}
        self._results: dict[int, Result] = {}

    def add(self, record: Record) -> JudgedRound | None:
        """The round that ``record`` completes, or None."""
        match record.body:
            case Open() as body:
                self._opens[body.round] = body
            case Seal() as body:
                self._seals[body.round] = body
            case Assign() as body:
                self._assigns[body.round] = body
            case Result() as body:
                self._results[body.round] = body
            case Verdict() as body:
                n = body.round
                return JudgedRound(
                    self._opens.pop(n), self._seals.pop(n), self._assigns.pop(n), self._results.pop(n), body
                )
            case _:
                pass
        return None


@dataclass(frozen=True, slots=True)
class RuledRound:
    """A round with rejected work, and what an appeal against that has come to."""

    judged: JudgedRound
    ruling: Ruling


class RulingCollector:
    """Finds the round of each ruling as the records come."""

    def __init__(self) -> None:
        self._collector = RoundCollector()
        self._rejecting: dict[int, JudgedRound] = {}

    def add(self, record: Record) -> RuledRound | None:
        """The round that ``record`` rules on, or None."""
        if isinstance(record.body, Ruling):
            return RuledRound(self._rejecting[record.body.round], record.body)
        judged = self._collector.add(record)
        if judged is not None and judged.rejected:
            self._rejecting[judged.open.round] = judged
        return None


def ruled_rounds(records: Iterable[Record]) -> list[RuledRound]:
    """What appeals have come to, in order of their rulings."""
    collector = RulingCollector()
    return [ruled for ruled in map(collector.add, records) if ruled is not None]


def judged_rounds(records: Iterable[Record]) -> list[JudgedRound]:
    """The rounds whose verdicts are in, in order of their verdicts."""
    collector = RoundCollector()
    return [round_ for round_ in map(collector.add, records) if round_ is not None]


def round_credits(job: Job, round_: JudgedRound, index_of_node: Mapping[str, int], verifier_index: int) -> list[Credit]:
    """What the round earns each accepted member, and the verifier. A void round earns nothing.

    ``index_of_node`` holds the registry index of every node in ``round_.paid_nodes``.
    """
    if not round_.result.chunks:
        return []
    specs = chunk_specs(job.model.parameters, round_.open.refresh)
    commitments = {item.slot: item for item in round_.seal.commitments}
    accepted = [item for item in round_.verdict.judged if item.accepted]
    members = [
        _work(index_of_node[item.node], item.slot, commitments[item.slot].samples, round_, specs) for item in accepted
    ]
    price = job.pay.price_wei_per_sample * SAMPLES_PER_PRICE
    invariant(verifier_index not in {member.node_index for member in members}, "a verifier is no member")
    weights = _audit_weights(round_, index_of_node, verifier_index)
    return round_pay(job.job_id, round_.open.round, price, members, weights)


def _audit_weights(round_: JudgedRound, index_of_node: Mapping[str, int], verifier_index: int) -> dict[int, int]:
    """The audit share goes by the steps of the work that was replayed: for a paid task to its auditor, known or not,
    decoy or not; for other work to the verifier, which has all of it where nothing was replayed.
    """
    steps = {item.slot: item.steps for item in round_.seal.commitments}
    by_auditor = {task.slot: index_of_node[task.auditor] for task in round_.paid_tasks}
    weights: dict[int, int] = {}
    for item in round_.verdict.judged:
        if item.audited or item.slot in by_auditor:
            index = by_auditor.get(item.slot, verifier_index)
            weights[index] = weights.get(index, 0) + steps[item.slot]
    return weights or {verifier_index: 1}


def ruling_credits(job: Job, ruled: RuledRound, index: int) -> list[Credit]:
    """What a granted appeal earns its node, whose registry index is ``index``: nothing where the round was void."""
    if not ruled.ruling.granted or not ruled.judged.result.chunks:
        return []
    price = job.pay.price_wei_per_sample * SAMPLES_PER_PRICE
    return granted_pay(job.job_id, ruled.ruling.round, price, _member_of(job, ruled, index))


def replay_cost_wei(job: Job, ruled: RuledRound) -> int:
    """What the replay of an appeal costs: as much as doing the work is paid."""
    samples = next(item.samples for item in ruled.judged.seal.commitments if item.slot == ruled.ruling.slot)
    return replay_pay(samples, job.pay.price_wei_per_sample * SAMPLES_PER_PRICE)


def _member_of(job: Job, ruled: RuledRound, index: int) -> MemberWork:
    specs = chunk_specs(job.model.parameters, ruled.judged.open.refresh)
    slot = ruled.ruling.slot
    samples = next(item.samples for item in ruled.judged.seal.commitments if item.slot == slot)
    return _work(index, slot, samples, ruled.judged, specs)


def _work(index: int, slot: int, samples: int, round_: JudgedRound, specs: list[ChunkSpec]) -> MemberWork:
    claimed = delivered_by_claim(round_.verdict, round_.result).get(slot, frozenset())
    chunks, unpaid = round_.result.chunks, unpaid_chunks(round_.assign, round_.result, round_.verdict)
    due = len(chunks) if slot in round_.assign.accepted else 0
    return MemberWork(
        node_index=index,
        samples=samples,
        chunks_delivered=sum(slot in entry.senders or entry.chunk in claimed for entry in chunks) if due else 0,
        chunks_due=due,
        bytes_reduced=sum(
            specs[entry.chunk].count * len(entry.senders)
            for entry in chunks
            if entry.reducer == slot and entry.chunk not in unpaid
        ),
    )
