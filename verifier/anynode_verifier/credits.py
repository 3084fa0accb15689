"""From a round's records to what it earns whom. Pure: an auditor computes the same from the public records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from anynode.exact.layout import ChunkSpec, chunk_specs
from anynode.jobs.job import Job
from anynode.rounds.records import Assign, Open, Record, Result, Seal, Verdict
from anynode_contracts.errors import invariant
from anynode_ledger.pay import SAMPLES_PER_PRICE, Credit, MemberWork, round_pay


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
        """Why each rejected node's work does not count."""
        return {item.node: item.reason for item in self.verdict.judged if not item.accepted}

    @property
    def paid_nodes(self) -> tuple[str, ...]:
        """The nodes that this round may pay."""
        return tuple(item.node for item in self.verdict.judged if item.accepted) if self.result.chunks else ()


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
    return round_pay(job.job_id, round_.open.round, price, members, {verifier_index: 1})


def _work(index: int, slot: int, samples: int, round_: JudgedRound, specs: list[ChunkSpec]) -> MemberWork:
    chunks = round_.result.chunks
    due = len(chunks) if slot in round_.assign.accepted else 0
    return MemberWork(
        node_index=index,
        samples=samples,
        chunks_delivered=sum(slot in entry.senders for entry in chunks) if due else 0,
        chunks_due=due,
        bytes_reduced=sum(specs[entry.chunk].count * len(entry.senders) for entry in chunks if entry.reducer == slot),
    )
