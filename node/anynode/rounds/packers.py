"""The bodies of records as columns, without what the receiver can work out for itself. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby, pairwise
from typing import Any

from anynode.rounds.columns import RATE_BYTES, column, flat, runs, text
from anynode.rounds.course import Assign, Close, Open, Reason, Result, Seal
from anynode.rounds.deal import deal, merge, work_seed
from anynode.rounds.ids import Range
from anynode.rounds.judgements import Claimed, Verdict
from anynode.rounds.roster import Roster, entry_of
from anynode_contracts.canonical import canonical_json


def _pack_open(body: Open, job: str, roster: Roster) -> list[Any]:
    samples = [sum(end - start for start, end in ranges) for ranges in body.ranges]
    batch = sum(samples) // max(1, sum(member.quota_steps for member in body.members))
    seed = work_seed(job, body.round, body.beacon)
    pool = _pool(body.ranges)
    if deal(pool, samples, seed) != body.ranges:
        raise ValueError("ranges")
    return [
        body.round,
        bytes.fromhex(body.state_root),
        text(body.beacon),
        body.refresh,
        [roster.number(entry_of(member)) for member in body.members],
        [member.quota_steps for member in body.members],
        runs(member.slot for member in body.members if member.proven),
        runs(member.slot for member in body.members if member.reduces),
        runs(member.slot for member in body.members if member.audits),
        batch,
        flat(pool),
        body.cursor,
        flat(body.returned),
        body.inner_steps,
        body.work_s,
        body.exchange_s,
        bytes.fromhex(body.thresholds),
    ]


def _pool(ranges: Sequence[Sequence[Range]]) -> tuple[Range, ...]:
    """The pool that was dealt: all ranges joined, but cut where a slot's own ranges meet without being one."""
    cuts = {end for mine in ranges for (_, end), (start, _) in pairwise(mine) if start == end}
    pool: list[Range] = []
    for start, end in merge([item for mine in ranges for item in mine]):
        begin = start
        for cut in sorted(cut for cut in cuts if start < cut < end):
            pool.append((begin, cut))
            begin = cut
        pool.append((begin, end))
    return tuple(pool)


def _pack_seal(body: Seal, job: str, roster: Roster) -> list[Any]:
    items = body.commitments
    batch = items[0].samples // items[0].steps if items else 0
    return [
        body.round,
        runs(item.slot for item in items),
        [item.steps for item in items],
        batch,
        column([item.micro_batch for item in items]),
        b"".join(bytes.fromhex(item.update_root) for item in items),
        b"".join(bytes.fromhex(item.trace_root) for item in items),
        column([item.code_version for item in items]),
        column([item.energy_mj for item in items]),
        b"".join(bytes.fromhex(item.signature[2:]) for item in items),
        _pack_reasons(body.missing),
        bytes.fromhex(body.secret_hash),
        body.audit_height,
        b"".join(rate_ppm.to_bytes(RATE_BYTES, "big") for rate_ppm in body.rates_ppm),
        bytes.fromhex(body.sealer[2:]),
        b"".join(bytes.fromhex(signature[2:]) for signature in body.absences),
    ]


def _pack_assign(body: Assign, job: str, roster: Roster) -> list[Any]:
    groups = [(*key, len(list(group))) for key, group in groupby(body.reducers, lambda item: (item.slot, item.witness))]
    return [
        body.round,
        body.attempt,
        runs(body.accepted),
        _pack_reasons(body.rejected),
        runs(body.weightless),
        runs(body.absent),
        [number for group in groups for number in group],
        canonical_json([asdict(item) for item in body.unreadable]) if body.unreadable else b"",
    ]


def _pack_result(body: Result, job: str, roster: Roster) -> list[Any]:
    sets = list(dict.fromkeys(entry.senders for entry in body.chunks))
    number = {senders: place for place, senders in enumerate(sets)}
    groups = [
        (*key, len(list(group)))
        for key, group in groupby(body.chunks, lambda entry: (entry.attempt, entry.reducer, number[entry.senders]))
    ]
    return [
        body.round,
        [item for group in groups for item in group],
        [runs(senders) for senders in sets],
        b"".join(bytes.fromhex(entry.result) for entry in body.chunks),
        [
            [item.reducer, item.attempt, runs(item.chunks), bytes.fromhex(item.signature[2:])]
            for item in body.reductions
        ],
        body.steps,
        body.cursor,
        flat(body.returned),
    ]


def _pack_close(body: Close, job: str, roster: Roster) -> list[Any]:
    slot_of = {member.node: member.slot for member in roster.opens[body.round].members}
    inside = [report for report in body.reports if report.node in slot_of]
    outside = [report for report in body.reports if report.node not in slot_of]
    return [
        body.round,
        bytes.fromhex(body.state_root),
        runs(slot_of[report.node] for report in inside),
        b"".join(bytes.fromhex(report.node[2:]) for report in outside),
        b"".join(bytes.fromhex(report.signature[2:]) for report in (*inside, *outside)),
        b"".join(bytes.fromhex(node[2:]) for node in body.forks),
    ]


def _pack_verdict(body: Verdict, job: str, roster: Roster) -> list[Any]:
    return [
        body.round,
        bytes.fromhex(body.secret),
        text(body.block_hash),
        runs(item.slot for item in body.judged),
        column(
            [
                (item.outcome, item.evidence, item.reason, item.proof, item.residuals, item.segments)
                for item in body.judged
            ]
        ),
        runs(item.chunk for item in body.reductions),
        column([(item.slot, item.outcome, item.reason) for item in body.reductions]),
        canonical_json([asdict(task) for task in body.tasks]) if body.tasks else b"",
        [_pack_claim(item) for item in body.claims],
    ]


def _pack_claim(item: Claimed) -> list[Any]:
    payloads = b"".join(bytes.fromhex(payload) for payload in item.payloads)
    late, signature = list(item.late), bytes.fromhex(item.signature[2:])
    return [item.slot, item.signer, item.reducer, item.attempt, list(item.chunks), payloads, late, signature]


def _pack_reasons(reasons: Sequence[Reason]) -> list[Any]:
    return [runs(item.slot for item in reasons), column([(item.reason, item.proof) for item in reasons])]


PACKERS: dict[str, Callable[[Any, str, Roster], list[Any]]] = {
    "open": _pack_open,
    "seal": _pack_seal,
    "assign": _pack_assign,
    "result": _pack_result,
    "close": _pack_close,
    "verdict": _pack_verdict,
}
