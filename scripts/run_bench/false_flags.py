"""Honest work of other hardware classes under frozen thresholds, and what cheats of each size show there.

Thresholds are calibrated on the template models of `anynode verifier calibrate`; tested are other seeds and other
models: GPTs of other shapes, each with data of another kind. The short form repeats a part of it; `--deep` keeps what
it has done under ``build/bench`` and goes on from there.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, median_high

from false_flags_cheats import SHARES
from false_flags_runs import Audit, Findings, Pair, findings, pairs
from report import Goal, Report, Say

from anynode.rounds.audit_secrets import SEGMENTS_DRAWN
from anynode.rounds.lean import LEAN, UNIT
from anynode.training.messages import Phase
from anynode_verifier.drift import Distance, excess, worst

KEPT = Path(__file__).parents[2] / "build" / "bench" / "false-flags"
AUDITS_DEEP = 3_000
AUDITS_OF_ONE_THREAD, AUDITS_OF_MORE = 700, 400
"""By class, in the long form: there are two classes of the first kind here, and four of the second."""
AUDITS_SHORT = 40
PHASES: tuple[Phase, ...] = ("fresh", "moments")
VECTORS = ("params", "m", "v", "direction")


def measure(deep: bool, say: Say) -> Report:
    """Calibrate each pair, then audit honest work and cheats of it until there are enough over all pairs."""
    there = pairs() if deep else pairs()[:1]
    with tempfile.TemporaryDirectory(prefix="anynode-false-flags-") as name:
        folder = KEPT if deep else Path(name)
        found = [asyncio.run(findings(pair, _audits_of(pair, deep), folder / pair.folder, say)) for pair in there]
    flags = [words for item in found for words in _flags(item)]
    for words in flags:
        say(words)
    honest = [audit for item in found for audit in item.honest]
    power = {item.pair.name: {share: shown(item, share) for share in SHARES} for item in found}
    rows = [row for item in found for row in _rows(item)]
    return Report(
        keys={
            "false_flags": len(flags),
            "honest_audits": len(honest),
            "class_pairs": len(there),
            "lean_max": max(lean(item) for item in found),
            "tolerant_audit_cost": median_high((item.opening_s + item.replay_s) / item.work_s for item in honest),
            "regeneration_cost": median_high(item.opening_s / item.work_s for item in honest),
            "power": {pair: {_share(share): part for share, part in parts.items()} for pair, parts in power.items()},
        },
        goals=(Goal("false_flags", "==", 0), Goal("honest_audits", ">=", AUDITS_DEEP if deep else AUDITS_SHORT)),
        columns=("pair", "phase", "vector", "segments", "whole", "limit", "tensor", "limit", "norm", "limit"),
        rows=rows,
        notes=(
            f"An honest audit: a worker's round of 20 steps, opened and {SEGMENTS_DRAWN} drawn segments of 5 steps "
            "replayed, of other seeds and models than those calibrated with. whole, tensor: the largest relative L2 "
            "distance of honest changes; norm: the largest |ln| of their norms' ratio.",
            f"power: the part of audits of {SEGMENTS_DRAWN} drawn segments that show work which leaves out so much of "
            "its micro-batches, evenly, with all else in order.",
            "lean_max: the largest mean residual, along or again, of a pair's honest segments, as a part of the "
            f"tolerance; {LEAN / UNIT} of it is taken for honest.",
            "tolerant_audit_cost, regeneration_cost: seconds of the worker's regeneration and of the replay, and of "
            "the regeneration alone, over the seconds of the work itself; medians.",
            *(
                ()
                if deep
                else (f"The short form makes {len(honest)} audits of one pair; --deep {AUDITS_DEEP} of all.",)
            ),
        ),
    )


def _audits_of(pair: Pair, deep: bool) -> int:
    """How many honest audits to make of a pair: more where they are cheap."""
    if not deep:
        return AUDITS_SHORT
    return AUDITS_OF_ONE_THREAD if pair.worker.threads == 1 else AUDITS_OF_MORE


def shown(item: Findings, share: float) -> float:
    """The part of the draws of an audit that show a cheat of this size."""
    draws = [
        any(segment.number in flagged for segment in drawn)
        for audit in item.cheats
        if audit.share == share
        for flagged in [_flagged(item, audit)]
        for drawn in itertools.combinations(audit.segments, SEGMENTS_DRAWN)
    ]
    return sum(draws) / len(draws)


def lean(item: Findings) -> float:
    """How far a pair's honest work leans to one side on the whole, as a part of the tolerance."""
    residuals = [audit.residuals for audit in item.honest]
    kinds = (list(itertools.chain.from_iterable(each[kind::2] for each in residuals)) for kind in (0, 1))
    return max(abs(fmean(kind)) for kind in kinds) / UNIT


def _flagged(item: Findings, audit: Audit) -> set[int]:
    limits = item.limits(audit.phase)
    return {segment.number for segment in audit.segments if excess(segment.number, segment.drift, limits)}


def _flags(item: Findings) -> list[str]:
    """Every honest audit that exceeds a threshold, in words."""
    found = []
    for audit in item.honest:
        words = (excess(segment.number, segment.drift, item.limits(audit.phase)) for segment in audit.segments)
        exceeded = next((said for said in words if said), "")
        if exceeded:
            found.append(f"{item.pair.name}, {audit.model}, {audit.phase}: {exceeded}")
    return found


def _rows(item: Findings) -> Iterable[Sequence[object]]:
    for phase in PHASES:
        limits = item.limits(phase)
        drifts = [segment.drift for audit in item.honest if audit.phase == phase for segment in audit.segments]
        largest = worst(drifts)
        for vector in VECTORS:
            yield item.pair.name, phase, vector, len(drifts), *_cells(largest[vector], limits[vector])


def _cells(found: Distance, limit: Distance) -> tuple[float, ...]:
    return found.whole, limit.whole, found.tensor, limit.tensor, found.norm, limit.norm


def _share(share: float) -> str:
    return f"1/{round(1 / share)}"
