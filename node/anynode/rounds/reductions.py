"""Audits of averaged chunks: how often each is averaged again, and what follows for its reducer. Pure: all agree.

The rate of a reducer's chunks follows from what is sealed: a rate p of its work says that at least so much is at risk
that p meets the inequality of docs/security.md (Economics) for the pay of that work. The same stake stands behind what
it reduces. With k times that pay for reducing, the inequality asks for k p / (1 - p + k p).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from anynode.rounds.course import Assign, Open, Result, Seal
from anynode.rounds.judgements import ReductionJudged, Verdict
from anynode.rounds.standing import EVERY_TIME_PPM, Standing, after_rejection, after_void
from anynode_contracts.pay_split import PaySplit

FLOOR_PPM = 20_000
"""No reducer's chunks are averaged again less often than this."""
SMALL_FLOOR_PPM, SMALL_MEMBERS_MAX, SMALL_CHUNKS_MAX = 250_000, 8, 256
"""The floor in a swarm of so few members, where each reduces much of the model, unless a round has more chunks. There a
reducer's chunks are not looked at less often than its work either.
"""


def chunk_rates_ppm(opened: Open, seal: Seal, result: Result) -> dict[int, int]:
    """By chunk, the probability in parts per million with which it is averaged again."""
    is_small = len(opened.members) <= SMALL_MEMBERS_MAX and len(result.chunks) <= SMALL_CHUNKS_MAX
    sealed = zip(seal.commitments, seal.rates_ppm, strict=True)
    work = {item.slot: (item.samples, rate_ppm) for item, rate_ppm in sealed}
    samples = sum(count for count, _ in work.values())
    split = PaySplit()
    reduced = Counter(entry.reducer for entry in result.chunks)
    rates = {
        slot: reducer_rate_ppm(
            work[slot][1],
            split.reducing * samples * chunks,
            split.samples * work[slot][0] * len(result.chunks),
            max(SMALL_FLOOR_PPM, work[slot][1]) if is_small else FLOOR_PPM,
        )
        for slot, chunks in reduced.items()
    }
    return {entry.chunk: rates[entry.reducer] for entry in result.chunks}


def reducer_rate_ppm(work_ppm: int, reducing_pay: int, work_pay: int, floor_ppm: int = FLOOR_PPM) -> int:
    """The rate for the chunks of one reducer, whose work has the rate ``work_ppm``; both pays in the same unit."""
    asked = reducing_pay * work_ppm
    rest = work_pay * (EVERY_TIME_PPM - work_ppm)
    return max(floor_ppm, -(-EVERY_TIME_PPM * asked // (rest + asked))) if rest + asked else EVERY_TIME_PPM


def rejected_reducers(verdict: Verdict) -> dict[str, str]:
    """By node, why what it reduced in the round does not count: the first reason of each. To withhold what would show a
    wrong sum is no better than the sum.
    """
    found: dict[str, str] = {}
    for item in verdict.reductions:
        if item.outcome != "void":
            found.setdefault(item.node, item.reason)
    return found


def unreadable_nodes(opened: Open, assign: Assign) -> dict[str, str]:
    """By node, why what it reduced in the round does not count: it has signed what is no average."""
    return {
        opened.members[item.reducer].node: (
            f"as the reducer of chunk {item.entries[0].chunk} of round {opened.round} it signed what is no average"
        )
        for item in assign.unreadable
    }


def after_reductions(standings: Mapping[str, Standing], verdict: Verdict) -> dict[str, Standing]:
    """The standings that the reducers of a verdict have from then on, by node: rejected ones are out, and what nobody
    could average again counts like void work.
    """
    rejected = rejected_reducers(verdict)
    void = dict.fromkeys(item.node for item in verdict.reductions if item.node not in rejected)
    before = {node: standings.get(node, Standing()) for node in (*rejected, *void)}
    out = {node: after_rejection(before[node], reason) for node, reason in rejected.items()}
    return out | {node: after_void(before[node]) for node in void}


def unpaid_chunks(assign: Assign, result: Result, verdict: Verdict) -> frozenset[int]:
    """The chunks whose reducing is not paid: void ones, and all of a reducer of whom one was rejected or unreadable."""
    rejected = {item.slot for item in verdict.reductions if item.outcome != "void"}
    rejected.update(item.reducer for item in assign.unreadable)
    void = {item.chunk for item in verdict.reductions if item.outcome == "void"}
    return frozenset(entry.chunk for entry in result.chunks if entry.reducer in rejected or entry.chunk in void)


def faults_of(reductions: Sequence[ReductionJudged], opened: Open, result: Result) -> str:
    """What is wrong with the form of a verdict on ``result``'s chunks; empty if nothing is."""
    entries = {entry.chunk: entry for entry in result.chunks}
    named = [item.chunk for item in reductions]
    if named != sorted(set(named)) or not entries.keys() >= set(named):
        return "does not name each of its chunks once"
    for item in reductions:
        if (item.slot, item.node) != (entries[item.chunk].reducer, opened.members[entries[item.chunk].reducer].node):
            return f"blames another than its reducer for chunk {item.chunk}"
    return ""
