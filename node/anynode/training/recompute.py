"""Do work again and tell what it gives, without knowing what was claimed: what auditors are asked for.

A trace can be had from the worker; the states behind it cannot, but by training or by carrying them all over. So an
answer holds a fingerprint of them under a key that is drawn when the work has been committed to.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from blake3 import blake3

from anynode.exact.state import State
from anynode.training.fingerprint import state_fingerprint
from anynode.training.inner import InnerRun, Report, Workload
from anynode.training.messages import Recomputation, WorkSpec
from anynode_contracts.canonical import hash_hex


def recompute(
    workload: Workload,
    state: State,
    spec: WorkSpec,
    key: bytes,
    *,
    report: Report = lambda _: None,
    now_s: Callable[[], float] = time.monotonic,
) -> Recomputation:
    """All steps of ``spec`` from ``state``. Raises ``RefusedError`` for a spec that does not fit the state and
    ``DivergedError`` when training diverges.
    """
    began_s = now_s()
    run = InnerRun(workload, state, spec)
    leaves, seen = [], blake3(key=key)
    for leaf in run.segments(report, lambda: False):
        leaves.append(leaf)
        seen.update(bytes.fromhex(state_fingerprint(*run.vectors, key=key)))
    return Recomputation(tuple(leaves), run.update_root(hash_hex), seen.hexdigest(), now_s() - began_s)
