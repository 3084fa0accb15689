"""Opened states of a worker, brought here: asked for under a verifier's signature, checked by size, then fetched."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eth_account.signers.local import LocalAccount

from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.swarm.payloads import fetch_payloads
from anynode.swarm.peer import Peer
from anynode.training.messages import Opened
from anynode.training.opened import KIND, boundaries, check_manifest
from anynode.worker.open_request import ANSWER_BYTES_MAX, OpenRequest, parse_answer
from anynode.worker.openings import OPEN
from anynode.worker.states import fetch_opened
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import SigningDomain
from anynode_verifier.polling import Poll


@dataclass(frozen=True, slots=True)
class Opener:
    """Asks workers of one job for states, in a verifier's name. ``clock`` counts seconds."""

    job: Job
    peer: Peer
    account: LocalAccount
    domain: SigningDomain
    clock: Callable[[], float]

    async def opened(self, worker: str, round_: int, segments: tuple[int, ...], folder: Path) -> Opened:
        """The states around ``segments`` of a worker's (peer id) work of a round, below ``folder``, which is emptied
        first. Raises ``UnreachableError`` when the worker is silent, ``RefusedError`` when it does not open.
        """
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        request = OpenRequest(self.job.job_id, round_, self.peer.peer_id, segments)
        data = await asyncio.to_thread(request.signed, self.account, self.domain)
        poll = Poll(self.peer, self.clock)
        opened = await poll.until_ready(worker, OPEN, data, ANSWER_BYTES_MAX, _progress)
        wanted = boundaries(segments, len(opened.leaves))
        if {state.boundary for state in opened.states} != wanted:
            raise RefusedError("the worker has opened other states than were asked for")
        roots = {state.root for state in opened.states}
        await fetch_opened(self.peer, BlobStore(folder), roots, worker, self.job)
        return opened


async def fetch_state(peer: Peer, store: BlobStore, root: str, source: str, job: Job) -> None:
    """Bring an opened state that another verifier keeps here, if it is as large as this job's states are."""
    await fetch_payloads(peer, store, {root: source})
    manifest = store.manifest(root, KIND)
    check_manifest(manifest, len(job.training.inner_vectors), job.model.parameters)
    await fetch_payloads(peer, store, dict.fromkeys((chunk.hash for chunk in manifest.chunks), source))


def _progress(raw: bytes) -> tuple[int, Opened | None]:
    answer = parse_answer(raw)
    return answer.done, answer.opened
