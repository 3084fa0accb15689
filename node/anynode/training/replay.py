"""Replay: do a worker's work again and say, in words, whether it gives the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields

from anynode.exact.quantise import DivergedError
from anynode.exact.state import State
from anynode.training.inner import InnerRun, Report, Workload
from anynode.training.messages import Claim, ReplayVerdict, WorkSpec
from anynode.training.trace import TraceLeaf, trace_root
from anynode_contracts.canonical import hash_hex

_NAMES = {
    "before": "the state before it",
    "after": "the state after it",
    "inputs": "the samples fed in",
    "rates": "the learning rates",
}


def replay(
    workload: Workload,
    state: State,
    spec: WorkSpec,
    claim: Claim,
    *,
    report: Report = lambda _: None,
    now_s: Callable[[], float] = time.monotonic,
) -> ReplayVerdict:
    """Replay ``spec`` from ``state`` and compare with ``claim``, segment by segment where its leaves are
    given.

    It stops at the first segment that differs. Nothing is stored. A ``spec`` that does not fit the state
    raises ``RefusedError``: that is the asker's fault, not the worker's.
    """
    began_s = now_s()
    if spec.micro_batch and spec.micro_batch not in (workload.sizes or (workload.settings.batch_size,)):
        return ReplayVerdict(
            False, f"the model takes no {spec.micro_batch} samples at a time, as is claimed", None, 0, 0.0
        )
    run = InnerRun(workload, state, spec)

    def verdict(accepted: bool, reason: str, segment: int | None = None) -> ReplayVerdict:
        return ReplayVerdict(accepted, reason, segment, run.steps_done, now_s() - began_s)

    if claim.leaves is not None and trace_root(claim.leaves) != claim.trace_root:
        return verdict(False, f"the trace shown is not the one committed to ({_short(claim.trace_root)})")
    leaves: list[TraceLeaf] = []
    try:
        for leaf in run.segments(report, lambda: False):
            leaves.append(leaf)
            found = _difference(leaf, claim.leaves)
            if found:
                return verdict(False, found, leaf.segment)
        found = _trace_difference(leaves, claim)
        if found:
            return verdict(False, found, len(leaves) if claim.leaves is not None else None)
        update = run.update_root(hash_hex)
    except DivergedError as error:
        return verdict(False, f"the work cannot be done as claimed: {error}", len(leaves))
    if update != claim.update_root:
        return verdict(
            False,
            f"training was done as claimed but the update sent is another: recomputed {_short(update)}, "
            f"claimed {_short(claim.update_root)}",
        )
    return verdict(True, f"{spec.steps} steps in {len(leaves)} segments replayed with equal bits")


def _trace_difference(leaves: list[TraceLeaf], claim: Claim) -> str:
    """What is wrong with the trace as a whole when each segment that was compared is right, or nothing."""
    if claim.leaves is not None and len(claim.leaves) > len(leaves):
        return f"{len(claim.leaves)} segments are claimed, the work has {len(leaves)}"
    root = trace_root(leaves)
    if root == claim.trace_root:
        return ""
    return f"the trace of {len(leaves)} segments differs: recomputed {_short(root)}, claimed {_short(claim.trace_root)}"


def _difference(leaf: TraceLeaf, claimed: tuple[TraceLeaf, ...] | None) -> str:
    """What is wrong with a segment's claim, in words, or nothing."""
    if claimed is None:
        return ""
    where = f"segment {leaf.segment} (steps {leaf.first_step} to {leaf.first_step + leaf.steps - 1})"
    if leaf.segment >= len(claimed):
        return f"{where} is missing from the trace, which has {len(claimed)} segments"
    other = claimed[leaf.segment]
    for field in fields(leaf):
        mine, theirs = getattr(leaf, field.name), getattr(other, field.name)
        if mine != theirs:
            name = _NAMES.get(field.name, field.name)
            return f"{where} differs in {name}: recomputed {_short(mine)}, claimed {_short(theirs)}"
    return ""


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 24 else text[:16] + "…"
