"""Checks that each judgement of a verdict comes with what its evidence gives: proof, segments, residuals."""

from __future__ import annotations

from typing import Protocol

from anynode.rounds.audit_secrets import draw_segments, segment_seed
from anynode.rounds.course import Assign, Open, Seal
from anynode.rounds.judgements import Judged, Verdict


class Judgeable(Protocol):
    """The records of a closed round that its judgements rest on. ``ended``: see `lineage.Round`."""

    @property
    def open(self) -> Open: ...
    @property
    def seal(self) -> Seal: ...
    @property
    def assign(self) -> Assign: ...
    @property
    def ended(self) -> frozenset[int]: ...


def fault_of_evidence(verdict: Verdict, round_: Judgeable, segment_steps: int) -> str:
    """What is wrong with the judgements of a round whose segments have so many steps; empty where nothing is."""
    return next((fault for item in verdict.judged if (fault := _fault(item, verdict, round_, segment_steps))), "")


def _fault(item: Judged, verdict: Verdict, round_: Judgeable, segment_steps: int) -> str:
    tolerant = item.evidence == "tolerant"
    if not item.rejected and item.slot in {reason.slot for reason in round_.assign.rejected}:
        return f"accepts slot {item.slot}, which was rejected before the exchange"
    if item.rejected and tolerant:
        return f"rejects slot {item.slot} on a tolerance, which only suspends"
    if item.rejected and not item.proof and item.slot not in round_.ended:
        return f"rejects slot {item.slot} without a fraud proof"
    drawn: tuple[int, ...] = ()
    if item.accepted and tolerant:
        steps = next(work.steps for work in round_.seal.commitments if work.slot == item.slot)
        seed = segment_seed(verdict.secret, verdict.block_hash)
        drawn = draw_segments(seed, item.slot, -(-steps // segment_steps))
    if item.segments != drawn:
        return f"judges slot {item.slot} by other segments than the seed draws"
    if len(item.residuals) not in (0, 2 * len(drawn)):
        return f"has other residuals of slot {item.slot} than its evidence gives"
    if tolerant and not round_.open.thresholds:
        return f"judges slot {item.slot} by thresholds that its round has not named"
    return ""
