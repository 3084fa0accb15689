"""Takes in jobs from their owners: the description, proof that the escrow holds the budget, and every file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3Exception

from anynode.blobs.manifest import Manifest
from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.jobs.resolve import FILE_KIND, materialise
from anynode.swarm.blob_exchange import fetch_blob, fetch_manifest
from anynode.swarm.peer import Peer
from anynode.worker.home import JobHome
from anynode_contracts.canonical import hash_hex
from anynode_contracts.clients import EscrowClient, JobOnChain
from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_contracts.files import write_aside
from anynode_contracts.networks import Network
from anynode_verifier.resuming import started_homes, started_marker

JOB_FILES_BYTES_MAX = 64 << 30
WAITING_MAX = 100


@dataclass
class _Intake:
    """A job whose files are still coming. ``expected`` maps a missing blob to its size, None for a manifest."""

    job: Job
    expected: dict[str, int | None]


class JobDesk:
    """Keeps accepted jobs below ``folder``, one `JobHome` each; files go to ``store``."""

    def __init__(
        self, folder: Path, store: BlobStore, w3: Web3, network: Network, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._store, self._network, self._clock = folder, store, network, clock
        self._escrow = EscrowClient(w3, network.escrow)
        self._intakes: dict[str, _Intake] = {}

    def home(self, job_id: str) -> JobHome:
        return JobHome(self._folder / job_id)

    def started(self) -> list[Job]:
        """The jobs that an earlier run had accepted whole."""
        return [
            Job.from_bytes(home.job_path.read_bytes(), job_id=home.folder.name) for home in started_homes(self._folder)
        ]

    async def announce(self, data: bytes) -> tuple[Job, list[str]]:
        """Take a job's description once its escrow is funded; gives the job and the blobs still missing.

        Raises ``RefusedError`` for a malformed job or an escrow that does not hold the budget.
        """
        job = Job.from_bytes(data)
        if sum(reference.size_bytes for reference in job.files.values()) > JOB_FILES_BYTES_MAX:
            raise RefusedError("the job's files are over this verifier's limit of 64 GiB; use a smaller data set")
        await self.on_chain(job)
        if job.job_id not in self._intakes and len(self._intakes) >= WAITING_MAX:
            raise RefusedError("too many jobs are waiting for their files here; try again later")
        expected = await asyncio.to_thread(self._expected, job)
        self._intakes[job.job_id] = _Intake(job, expected)
        return job, sorted(expected)

    async def on_chain(self, job: Job) -> JobOnChain:
        """The job as the escrow has it. Raises ``RefusedError`` unless it is funded, open and as described."""
        found = await self._look_up(job)
        held = found.remaining_wei if found is not None else 0
        if found is None or held < job.pay.budget_wei:
            raise RefusedError(
                f"the escrow holds {held} wei for job {job.job_id[:16]}… and its budget is {job.pay.budget_wei} wei; "
                "fund it with `anynode submit`"
            )
        if found.cancelled or found.finalised or found.refunded or found.deadline_s <= self._clock():
            raise RefusedError(f"job {job.job_id[:16]}… is over on the chain; submit it under another name")
        return self._capped(found, job)

    async def once_on_chain(self, job: Job) -> JobOnChain:
        """The job as the escrow has it, for one that another verifier has taken in: what was drawn since does not
        matter, nor whether it is over. Raises ``RefusedError`` unless it was funded as described.
        """
        found = await self._look_up(job)
        given = found.funded_wei if found is not None else 0
        if found is None or given < job.pay.budget_wei:
            raise RefusedError(
                f"the escrow was given {given} wei for job {job.job_id[:16]}… and its budget is {job.pay.budget_wei} "
                "wei; no verifier should have taken it in"
            )
        return self._capped(found, job)

    async def _look_up(self, job: Job) -> JobOnChain | None:
        try:
            return await asyncio.to_thread(self._escrow.job, job.job_id)
        except (RequestException, Web3Exception, OSError) as error:
            raise UnreachableError(
                f"the verifier's RPC at {self._network.rpc_shown} does not answer; submit again when it does"
            ) from error

    def _capped(self, found: JobOnChain, job: Job) -> JobOnChain:
        if found.cap_per_batch_wei < min(job.pay.cap_per_batch_wei, job.pay.budget_wei):
            raise RefusedError(
                f"job {job.job_id[:16]}… caps its batches lower on the chain than it says; create it anew"
            )
        return found

    async def put_blob(self, job_id: str, digest: str, data: bytes) -> list[str]:
        """Take one missing blob of an announced job; gives the blobs still missing."""
        intake = self._intakes.get(job_id)
        if intake is None:
            raise RefusedError("this job was not announced here; submit it again")
        if digest not in intake.expected:
            return sorted(intake.expected)
        size = intake.expected[digest]
        if hash_hex(data) != digest or (size is not None and len(data) != size):
            raise RefusedError(f"these bytes are not blob {digest[:16]}…; send it again")
        if size is None:
            manifest = Manifest.from_bytes(data, root=digest, kind=FILE_KIND)
            listed = next(item.size_bytes for item in intake.job.files.values() if item.root == digest)
            if manifest.size_bytes != listed:
                raise RefusedError(f"blob {digest[:16]}… has another size than the job lists; submit it again")
            missing = await asyncio.to_thread(self._store.missing, manifest)
            intake.expected.update({chunk.hash: chunk.size_bytes for chunk in missing})
        await asyncio.to_thread(self._store.put, data)
        intake.expected.pop(digest, None)  # the same blob may have come twice at once
        return sorted(intake.expected)

    async def complete(self, job_id: str) -> Job:
        """All files are here: write them out. Raises ``RefusedError`` while some are missing."""
        intake = self._intakes.get(job_id)
        if intake is None:
            raise RefusedError("this job was not announced here; submit it again")
        if intake.expected:
            raise RefusedError(f"{len(intake.expected)} blobs of the job are still missing; submit it again")
        await self.on_chain(intake.job)
        home = self.home(job_id)
        await asyncio.to_thread(materialise, intake.job, self._store, home.files)
        await asyncio.to_thread(write_aside, home.job_path, intake.job.to_bytes())
        return intake.job

    async def fetch(self, job: Job, peer: Peer, source: str, turn_s: float) -> bool:
        """Bring the files of a job here that another verifier has taken in, and write them out. False when they have
        not all come in ``turn_s``: another call goes on from there.
        """
        if sum(reference.size_bytes for reference in job.files.values()) > JOB_FILES_BYTES_MAX:
            raise RefusedError("the job's files are over this verifier's limit of 64 GiB; use a smaller data set")
        await self.once_on_chain(job)
        try:
            async with asyncio.timeout(turn_s):
                for reference in job.files.values():
                    manifest = await fetch_manifest(
                        peer, self._store, reference.root, FILE_KIND, [source], size_max_bytes=reference.size_bytes
                    )
                    await fetch_blob(peer, self._store, manifest, [source])
        except TimeoutError:
            return False
        home = self.home(job.job_id)
        await asyncio.to_thread(materialise, job, self._store, home.files)
        await asyncio.to_thread(write_aside, home.job_path, job.to_bytes())
        return True

    def mark_started(self, job: Job) -> None:
        """From now on a restart goes on with this job."""
        write_aside(started_marker(self.home(job.job_id)), b"")
        self._intakes.pop(job.job_id, None)

    def _expected(self, job: Job) -> dict[str, int | None]:
        expected: dict[str, int | None] = {}
        for reference in job.files.values():
            if not self._store.has(reference.root):
                expected[reference.root] = None
                continue
            manifest = self._store.manifest(reference.root, FILE_KIND)
            expected.update({chunk.hash: chunk.size_bytes for chunk in self._store.missing(manifest)})
        return expected
