"""Where the seconds and bytes of AnyNode's rounds go, from when each record appeared at the verifier."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from links_anynode import Event

#: What happens until each record, in the order of a round.
PHASES = {
    "open": "the next round opens",
    "seal": "work, and the last commitment on its way",
    "assign": "who reduces what",
    "result": "chunks to their reducers, sums, and each result to the verifier",
    "close": "results to everybody, the outer step, and everybody's report",
}


@dataclass(frozen=True, slots=True)
class Phase:
    """Medians over rounds: seconds since the record before, and megabytes that each home sent meanwhile."""

    record: str
    seconds: float
    mbytes: float


def timeline(events: Sequence[Event], peers: int, *, refresh: bool) -> list[Phase]:
    """The phases of the rounds that carry moments (``refresh``) or of those that do not, once all have proved
    themselves.
    """
    kept: dict[str, list[tuple[float, float]]] = {record: [] for record in PHASES}
    before, counts = None, False
    for event in events:
        kind = event.body["kind"]
        if kind not in PHASES:
            continue
        if kind == "open":
            proven = all(member["proven"] for member in event.body["members"])
            counts = proven and bool(event.body["refresh"]) == refresh
        if counts and before is not None:
            kept[kind].append((event.at_s - before.at_s, (event.sent_bytes - before.sent_bytes) / peers / 1e6))
        before = event
    return [
        Phase(record, statistics.median(s for s, _ in seen), statistics.median(mb for _, mb in seen))
        for record, seen in kept.items()
        if seen
    ]


def described(phases: Sequence[Phase], title: str) -> str:
    """One sentence for the report's notes."""
    parts = [f"{PHASES[p.record]} {p.seconds:.2f} s, {p.mbytes:.2f} MB" for p in phases]
    return f"{title} (seconds, and megabytes sent by each home): " + "; ".join(parts) + "."
