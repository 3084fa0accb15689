"""What anybody checks of work that was judged within a tolerance: the segments follow from what the verdict reveals."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from signed_world import SignedWorld

from anynode.rounds.audit_secrets import SEGMENTS_DRAWN, draw_segments, segment_seed
from anynode.rounds.course import Assign, Open, Seal
from anynode.rounds.judgements import Judged, Verdict
from anynode_verifier.evidence_checks import fault_of_evidence

ROUND = 1


def judged(
    world: SignedWorld, segments: tuple[int, ...], *, residuals: int = 0, thresholds: str = "ab" * 32, **verdict: Any
) -> str:
    """The fault of round 1, in which slot 0 is judged by ``segments`` of one step each, under ``thresholds``."""
    bodies = [record.body for record in world.records if getattr(record.body, "round", -1) == ROUND]
    kinds = (Open, Seal, Assign, Verdict)
    opened, seal, assign, said = (next(body for body in bodies if isinstance(body, kind)) for kind in kinds)
    assert isinstance(said, Verdict) and isinstance(opened, Open)
    said = replace(said, **verdict)
    item = Judged(0, said.judged[0].node, "accepted", "tolerant", "as close", "", (5,) * residuals, segments)
    round_: Any = SimpleNamespace(
        open=replace(opened, thresholds=thresholds), seal=seal, assign=assign, ended=frozenset()
    )
    return fault_of_evidence(replace(said, judged=(item, *said.judged[1:])), round_, 1)


def test_the_segments_follow_from_secret_and_block(grown: SignedWorld) -> None:
    said = next(r.body for r in grown.records if isinstance(r.body, Verdict) and r.body.round == ROUND)
    drawn = draw_segments(segment_seed(said.secret, said.block_hash), 0, 5)
    assert len(drawn) == SEGMENTS_DRAWN
    assert judged(grown, drawn) == judged(grown, drawn, residuals=2 * SEGMENTS_DRAWN) == ""
    others = [pair for pair in ((0, 1), (2, 3), (1, 4)) if pair != drawn]
    for segments in (*others, (), drawn[:1], (*drawn, 4)):
        assert "other segments than the seed draws" in judged(grown, segments)
    assert "other residuals" in judged(grown, drawn, residuals=2)
    assert "thresholds that its round has not named" in judged(grown, drawn, thresholds="")
    seeds = (said.secret, "0x" + "c" * 64), ("d" * 64, said.block_hash)
    assert all(
        bool(judged(grown, drawn, secret=secret, block_hash=block))
        == (draw_segments(segment_seed(secret, block), 0, 5) != drawn)
        for secret, block in seeds
    )
