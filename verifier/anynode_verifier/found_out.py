"""Who is found out by a job's records, and the slash that follows for each: by a verdict, or late. Pure.

Each fraud has a slash of its own, named by round and node. So a correction that takes out work whose verdict was about
something else (the node's reducing or auditing), or was cleared by an appeal, costs its node what it has by then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from anynode.rounds.appeals import Rejections, note, stands
from anynode.rounds.judgements import Correct
from anynode.rounds.records import Record
from anynode.rounds.table import Table
from anynode_verifier.credits import judged_rounds


@dataclass(frozen=True, slots=True, order=True)
class Fraud:
    """A node is found out in a round; ``late``: by a correction."""

    round: int
    node: str
    reason: str
    late: bool = False


def slash_id(job_id: str, round_: int, index: int, *, late: bool = False) -> str:
    """The id of the slash of the node with this index in the registry."""
    return f"{job_id}/{round_}/{index}{'/excised' if late else ''}"


class LateFrauds:
    """Finds the late frauds as the records come."""

    def __init__(self) -> None:
        self._rejections: Rejections = Table()

    def add(self, record: Record) -> list[Fraud]:
        """What a correction finds out. Work whose rejection stands is slashed by its verdict, and once: whoever has it
        taken back by an appeal gets all of it.
        """
        self._rejections = note(self._rejections, record)
        if not isinstance(record.body, Correct):
            return []
        new = (item for item in record.body.excised if not stands(self._rejections, item.round, item.node))
        return [Fraud(item.round, item.node, item.reason, late=True) for item in new]


def found_out(records: Iterable[Record]) -> list[Fraud]:
    """All frauds, in order of round and node."""
    records, late = list(records), LateFrauds()
    in_time = [
        Fraud(round_.open.round, node, reason)
        for round_ in judged_rounds(records)
        for node, reason in round_.rejected.items()
    ]
    return sorted([*in_time, *(fraud for record in records for fraud in late.add(record))])
