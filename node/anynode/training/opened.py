"""Opened states: inner states as blobs, so that an auditor of another hardware class can replay from them.

A state's manifest has kind "inner-state"; its chunks are the float32 vectors of the inner state one after the other
(parameters and what the optimizer remembers, little endian), each cut by itself into chunks of 1 MiB. Their
fingerprint is what a trace leaf binds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from anynode.blobs.manifest import CHUNK_BYTES_MAX, ChunkRef, Manifest, cut
from anynode.blobs.store import BlobStore
from anynode.exact.finite import all_finite
from anynode.exact.state import State
from anynode.training.fingerprint import state_fingerprint
from anynode.training.inner import InnerRun, Report, Workload
from anynode.training.kept import Recall, no_recall
from anynode.training.messages import Opened, OpenedState, WorkSpec
from anynode.training.trace import TraceLeaf
from anynode_contracts.errors import RefusedError, UserError

KIND = "inner-state"

Save = Callable[[Sequence[Tensor]], str]
"""Stores the vectors [values] of a state and gives its root."""


def boundaries(segments: Sequence[int], count: int) -> frozenset[int]:
    """The states to open for a replay of ``segments`` of ``count``: around each, and the last. The first is S_r's."""
    return frozenset({end for segment in segments for end in (segment, segment + 1)} | {count}) - {0}


def save_vectors(store: BlobStore, vectors: Sequence[Tensor]) -> str:
    """Store an inner state's vectors [values] and its manifest; its root."""
    chunks = []
    for vector in vectors:
        data = vector.cpu().numpy().astype("<f4", copy=False).view(np.uint8).data
        chunks += [ChunkRef(store.put(piece), len(piece)) for piece in cut(data)]
    meta = {"vectors": len(vectors), "values": vectors[0].numel()}
    return store.put_manifest(Manifest(KIND, meta, tuple(chunks)))


def check_manifest(manifest: Manifest, vectors: int, values: int) -> None:
    """Raise ``RefusedError`` unless ``manifest`` is that of ``vectors`` vectors of ``values`` values."""
    size = 4 * values
    pieces = [min(CHUNK_BYTES_MAX, size - start) for start in range(0, size, CHUNK_BYTES_MAX)]
    expected = {"vectors": vectors, "values": values}
    if manifest.meta != expected or [chunk.size_bytes for chunk in manifest.chunks] != pieces * vectors:
        raise RefusedError(f"opened state {manifest.root[:16]}… is not of {vectors} vectors of {values} values")


def load_vectors(store: BlobStore, root: str, vectors: int, values: int) -> tuple[Tensor, ...]:
    """The vectors [values] of an opened state. Raises ``RefusedError`` for one that is missing, of another form or not
    finite.
    """
    manifest = store.manifest(root, KIND)
    check_manifest(manifest, vectors, values)
    flat = np.empty(vectors * values, "<f4")
    store.read_into(manifest, flat.view(np.uint8).data)
    found = torch.from_numpy(flat.astype(np.float32, copy=False))
    if not all_finite(found):
        raise RefusedError(f"opened state {root[:16]}… holds values that are not finite")
    return torch.split(found, values)


def open_segments(
    workload: Workload,
    state: State,
    spec: WorkSpec,
    claimed: Sequence[TraceLeaf],
    segments: Sequence[int],
    *,
    save: Save,
    recall: Recall = no_recall,
    report: Report = lambda _: None,
) -> Opened:
    """Do the work again and ``save`` the states around ``segments`` and the last one, one at a time.

    ``claimed`` is the trace that was committed to, or empty where it is lost: with it, only what lies between the
    states that ``recall`` has is done again. Raises ``UserError`` where this machine does not give the same bits again:
    then nothing that it opens would be believed.
    """
    run = InnerRun(workload, state, spec)
    wanted = boundaries(segments, -(-spec.steps // workload.settings.segment_steps))
    if len(claimed) >= max(wanted):
        reached = _reached(run, claimed, sorted(wanted), recall, report)
        return Opened(tuple(claimed), tuple(OpenedState(boundary, save(run.vectors)) for boundary in reached))
    leaves: list[TraceLeaf] = []
    states = []
    for leaf in run.segments(report, lambda: False):
        leaves.append(leaf)
        if leaf.segment + 1 in wanted:
            states.append(OpenedState(leaf.segment + 1, save(run.vectors)))
    return Opened(tuple(leaves), tuple(states))


def open_kept(claimed: Sequence[TraceLeaf], segments: Sequence[int], save: Save, recall: Recall) -> Opened | None:
    """The same where all the states are kept and whole, for which nothing needs to be done again; else None."""
    states = []
    for boundary in sorted(boundaries(segments, len(claimed))) if claimed else ():
        if boundary > len(claimed) or (vectors := recall(boundary, claimed[boundary - 1].after)) is None:
            return None
        states.append(OpenedState(boundary, save(vectors)))
    return Opened(tuple(claimed), tuple(states)) if states else None


def _reached(
    run: InnerRun, claimed: Sequence[TraceLeaf], wanted: Sequence[int], recall: Recall, report: Report
) -> Iterator[int]:
    """Bring ``run`` to each of the boundaries ``wanted``, from the nearest kept state before it."""
    at = 0
    for boundary in wanted:
        for near in range(boundary, at, -1):
            leaf = claimed[near - 1]
            vectors = recall(near, leaf.after)
            if vectors is not None:
                run.resume(leaf.first_step + leaf.steps, vectors)
                at = near
                break
        for leaf in claimed[at:boundary]:
            run.advance(leaf.steps, report)
            if state_fingerprint(*run.vectors) != leaf.after:
                raise UserError(
                    f"this machine does not give the same bits again (segment {leaf.segment}), so its work cannot be "
                    "audited; train on another device or with one thread"
                )
        at = boundary
        yield boundary
