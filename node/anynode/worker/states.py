"""States fetched from others: those that rounds begin from, and those that work was opened at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anynode.blobs.manifest import Manifest
from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.swarm.blob_exchange import OnProgress, fetch_blob, fetch_manifest
from anynode.swarm.payloads import fetch_payloads
from anynode.swarm.peer import Peer
from anynode.training.opened import KIND, check_manifest

OPENED = "opened"
"""The service from which opened states are fetched."""
STATE_BYTES_MAX = 1 << 40


async def fetch_state(
    peer: Peer, store: BlobStore, root: str, sources: Sequence[str], on_progress: OnProgress | None = None
) -> None:
    """Bring the state ``root`` here, as far as it is not here yet."""
    manifest = await fetch_manifest(peer, store, root, "state", sources, size_max_bytes=STATE_BYTES_MAX)
    await fetch_blob(peer, store, manifest, sources, on_progress)


async def fetch_opened(peer: Peer, store: BlobStore, roots: Iterable[str], source: str, job: Job) -> None:
    """Bring opened states here. Manifests first: what they announce is fetched only if it is as large as this job's
    states are.
    """
    wanted = sorted(set(roots))
    await fetch_payloads(peer, store, dict.fromkeys(wanted, source), service=OPENED)
    manifests: list[Manifest] = []
    for root in wanted:
        manifests.append(store.manifest(root, KIND))
        check_manifest(manifests[-1], len(job.training.inner_vectors), job.model.parameters)
    chunks = {chunk.hash: source for manifest in manifests for chunk in manifest.chunks}
    await fetch_payloads(peer, store, chunks, service=OPENED)
