"""Replay: do a worker's work again, all of it or one disputed segment, and say in words whether the bits are equal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from anynode.exact.quantise import DivergedError
from anynode.exact.state import State
from anynode.training.bisection import difference, in_words
from anynode.training.fingerprint import state_fingerprint
from anynode.training.inner import InnerRun, Report, Workload
from anynode.training.messages import Claim, Dispute, ReplayVerdict, WorkSpec
from anynode.training.trace import TraceLeaf, trace_root
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import RefusedError

Keep = Callable[[Sequence[Tensor]], str]
"""Stores the vectors [values] of an inner state and gives its root."""

DIVERGES = "a loss that is no number"


def replay(
    workload: Workload,
    state: State,
    spec: WorkSpec,
    claim: Claim,
    *,
    keep: Keep | None = None,
    report: Report = lambda _: None,
    now_s: Callable[[], float] = time.monotonic,
) -> ReplayVerdict:
    """Replay ``spec`` from ``state`` and compare with ``claim``, segment by segment where its leaves are given.

    It stops at the first segment that differs; ``keep`` stores the state before it, on which both agree. A ``spec``
    that does not fit the state raises ``RefusedError``: that is the asker's fault, not the worker's.
    """
    began_s = now_s()
    if spec.micro_batch and spec.micro_batch not in (workload.sizes or (workload.settings.share_samples,)):
        return ReplayVerdict(
            False, f"the model takes no {spec.micro_batch} samples at a time, as is claimed", None, 0, 0.0
        )
    run = InnerRun(workload, state, spec)

    def verdict(accepted: bool, reason: str, dispute: Dispute | None = None) -> ReplayVerdict:
        return ReplayVerdict(accepted, reason, dispute, run.steps_done, now_s() - began_s)

    def disputed(found: Dispute, agreed: Sequence[Tensor], words: str = "") -> ReplayVerdict:
        kept = keep(agreed) if keep is not None and agreed else ""
        said = words or in_words(found, workload.settings.segment_steps, spec.steps)
        return verdict(False, said, replace(found, agreed=kept))

    if claim.leaves is None:
        return _replay_blind(run, spec, claim, verdict, report)
    if trace_root(claim.leaves) != claim.trace_root:
        return verdict(False, f"the trace shown is not the one committed to ({claim.trace_root[:16]}…)")
    if found := _other_count(workload, spec, claim.leaves):
        return disputed(found, ())
    agreed: tuple[Tensor, ...] = ()
    segment = 0
    try:
        for leaf in run.segments(report, lambda: False):
            segment = leaf.segment
            if found := difference(leaf, claim.leaves[segment]):
                return disputed(found, agreed)
            segment += 1
            if keep is not None:
                agreed = tuple(vector.to("cpu", copy=True) for vector in run.vectors)
        update = run.update_root(hash_hex)
    except DivergedError as error:
        found = _diverged(segment, claim)
        return disputed(found, agreed, f"the work cannot be done as claimed: {error}")
    if update != claim.update_root:
        return disputed(Dispute(segment, "update", update, claim.update_root), agreed)
    return verdict(True, f"{spec.steps} steps in {segment} segments replayed with equal bits")


def replay_disputed(
    workload: Workload,
    state: State,
    spec: WorkSpec,
    claim: Claim,
    segment: int,
    *,
    agreed: Sequence[Tensor] = (),
    report: Report = lambda _: None,
    now_s: Callable[[], float] = time.monotonic,
) -> ReplayVerdict:
    """Decide a dispute by that segment alone; number ``count of segments`` is the update.

    ``agreed`` [values] is the state before it, empty where that is ``state``: it need not be trusted, since the trace
    binds it. Raises ``RefusedError`` where it is another, or the leaves are not those committed to.
    """
    began_s = now_s()
    leaves, settings = claim.leaves, workload.settings
    if leaves is None or trace_root(leaves) != claim.trace_root:
        raise RefusedError("the leaves of a disputed trace are not those committed to; replay the whole round")
    run = InnerRun(workload, state, spec)
    steps = 0

    def verdict(found: Dispute | None, reason: str = "") -> ReplayVerdict:
        said = reason or (in_words(found, settings.segment_steps, spec.steps) if found else "")
        return ReplayVerdict(found is None, said, found, steps, now_s() - began_s)

    if found := _other_count(workload, spec, leaves):
        return verdict(found)
    if segment > len(leaves):
        raise RefusedError(f"segment {segment} is disputed of work that has {len(leaves)}; replay the whole round")
    before = leaves[segment - 1].after if segment else state_fingerprint(*run.vectors)
    first = segment * settings.segment_steps
    last = segment == len(leaves)
    if not last:
        steps = min(settings.segment_steps, spec.steps - first)
        rates = tuple(rate.hex() for rate in run.planned_rates())[first : first + steps]
        theirs = leaves[segment]
        mine = TraceLeaf(segment, first, steps, before, theirs.after, run.inputs_of(first, steps), rates)
        found = difference(mine, theirs)
        if found:
            steps = 0
            return verdict(found)
    if agreed:
        run.resume(spec.steps if last else first, agreed)
    if state_fingerprint(*run.vectors) != before:
        raise RefusedError(f"the state before segment {segment} is not the one that the trace binds; replay the round")
    try:
        if last:
            update = run.update_root(hash_hex)
            same = update == claim.update_root
            found = None if same else Dispute(segment, "update", update, claim.update_root)
            return verdict(found, "the update follows from the last state" if same else "")
        run.advance(steps, report)
    except DivergedError as error:
        return verdict(_diverged(segment, claim), f"the work cannot be done as claimed: {error}")
    found = difference(replace(mine, after=state_fingerprint(*run.vectors)), theirs)
    return verdict(found, "" if found else f"segment {segment} replayed from the state before it with equal bits")


def _replay_blind(
    run: InnerRun, spec: WorkSpec, claim: Claim, verdict: Callable[[bool, str], ReplayVerdict], report: Report
) -> ReplayVerdict:
    """Without the leaves only the ends of the work can be compared."""
    try:
        leaves = list(run.segments(report, lambda: False))
        update = run.update_root(hash_hex)
    except DivergedError as error:
        return verdict(False, f"the work cannot be done as claimed: {error}")
    root = trace_root(leaves)
    if root != claim.trace_root:
        words = f"recomputed {root[:16]}…, claimed {claim.trace_root[:16]}…"
        return verdict(False, f"the trace of {len(leaves)} segments differs: {words}")
    if update != claim.update_root:
        found = Dispute(len(leaves), "update", update, claim.update_root)
        return verdict(False, in_words(found, spec.steps, spec.steps))
    return verdict(True, f"{spec.steps} steps in {len(leaves)} segments replayed with equal bits")


def _other_count(workload: Workload, spec: WorkSpec, leaves: Sequence[TraceLeaf]) -> Dispute | None:
    count = -(-spec.steps // workload.settings.segment_steps)
    return None if len(leaves) == count else Dispute(min(len(leaves), count), "segments", str(count), str(len(leaves)))


def _diverged(segment: int, claim: Claim) -> Dispute:
    leaves = claim.leaves or ()
    if segment < len(leaves):
        return Dispute(segment, "after", DIVERGES, leaves[segment].after)
    return Dispute(segment, "update", DIVERGES, claim.update_root)
