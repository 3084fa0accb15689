"""One node's time in the swarm: from its identity to a job's end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from eth_account.signers.local import LocalAccount

from anynode.jobs.job import Job
from anynode.jobs.resolve import FILE_KIND, materialise
from anynode.rounds.messages import Leave
from anynode.swarm.blob_exchange import fetch_blob, fetch_manifest
from anynode.swarm.identity import ensure_identity
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Limits
from anynode.training.process import TrainerSettings
from anynode.worker.directory import directory_rules, find_coordinator
from anynode.worker.home import JobHome, NodeHome
from anynode.worker.link import CoordinatorLink
from anynode.worker.worker import Notice, Notify, Worker
from anynode_contracts.errors import RefusedError, UnreachableError, UserError
from anynode_contracts.files import write_aside
from anynode_contracts.networks import Network, check_chain, connect
from anynode_contracts.signing import SigningDomain
from anynode_contracts.typed_data import sign_registration

log = logging.getLogger(__name__)

REGISTRATION_LIFE_S = 30 * 86_400
REGISTRATION_PAUSE_S = 5.0
JOB_FILE_BYTES_MAX = 64 << 30


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ended: ``refused`` is the reason, or empty when the job has finished."""

    job_id: str
    rounds: int
    state_root: str
    refused: str


@dataclass(frozen=True, slots=True)
class Session:
    """Everything a node needs to take part. `run` returns when there is nothing more to do."""

    network: Network
    folder: Path
    account: LocalAccount
    payout: str
    job_id: str | None
    host: str
    port: int
    memory_limit_bytes: int
    steps_per_s_max: float | None
    notify: Notify

    async def run(self) -> Ending:
        """Join, fetch the job, train until it ends. Raises ``UserError`` with cause and remedy."""
        await self._check_chain()
        home = NodeHome(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        ensure_identity(home.identity_path)
        if not self.network.initial_peers:
            raise UserError(
                f"network {self.network.name} names no initial peers; ask its operator for the network file"
            )
        self._say("start", "starting the libp2p daemon and looking for the coordinator")
        peer = await Peer.start(
            home.identity_path,
            self.port,
            self.network.initial_peers,
            host=self.host,
            state_dir=home.daemon_folder,
            network=self.network.name,
            record_rules=directory_rules(self.network),
        )
        async with peer:
            link = CoordinatorLink(
                peer,
                await find_coordinator(peer, self.network),
                self.network.verifiers,
                SigningDomain(self.network.chain_id, self.network.registry),
                self.account,
            )
            registering = asyncio.create_task(self._register(link))
            taking_part = asyncio.create_task(self._take_part(peer, link, home))
            watching = asyncio.create_task(peer.watch())
            try:
                await asyncio.wait({taking_part, watching}, return_when=asyncio.FIRST_COMPLETED)
                return await (taking_part if taking_part.done() else watching)
            finally:
                for task in (registering, taking_part, watching):
                    task.cancel()
                await asyncio.gather(registering, taking_part, watching, return_exceptions=True)

    async def _take_part(self, peer: Peer, link: CoordinatorLink, home: NodeHome) -> Ending:
        job = await self._choose(link)
        place = home.job(job.job_id)
        self._say("job", f"job {job.name} ({job.job_id[:16]}…): {job.model.parameters} parameters")
        await self._fetch_files(peer, link, job, home, place)
        self._say("load", "loading the model")
        limits = Limits(memory_limit_bytes=self.memory_limit_bytes, steps_per_s_max=self.steps_per_s_max)
        settings = TrainerSettings(log_path=place.log_path, limits=limits)
        trainers = TrainerKeeper(home.store.folder, place.files, settings)
        worker = Worker(
            job=job,
            home=place,
            store=home.store,
            peer=peer,
            link=link,
            trainers=trainers,
            account=self.account,
            notify=self.notify,
        )
        try:
            state = await worker.run()
        except asyncio.CancelledError:
            with contextlib.suppress(UserError):
                await link.send(job.job_id, Leave("leave", self.account.address))
            raise
        finally:
            await trainers.close()
        return Ending(job.job_id, state.closed_round, state.held_root, state.refused)

    async def _check_chain(self) -> None:
        """A wrong chain ends it here; a silent RPC does not, since training needs no chain."""
        try:
            await asyncio.to_thread(check_chain, connect(self.network.rpc_url), self.network)
        except UnreachableError as error:
            self._say("chain", f"{error}. Training goes on without it.")

    async def _choose(self, link: CoordinatorLink) -> Job:
        listings = await link.jobs()
        if self.job_id is not None:
            return await link.job(self.job_id)
        unfinished = [listing for listing in listings if listing.round < listing.rounds]
        if not unfinished:
            raise RefusedError("the coordinator has no open job now; submit one with `anynode submit`, or try later")
        return await link.job(unfinished[0].job_id)

    async def _fetch_files(self, peer: Peer, link: CoordinatorLink, job: Job, home: NodeHome, place: JobHome) -> None:
        """Bring the job's files here, chunk by chunk, each checked; what is here already is not fetched again."""
        for name, reference in sorted(job.files.items()):
            self._say("file", f"fetching {name} ({reference.size_bytes} bytes)")
            manifest = await fetch_manifest(
                peer, home.store, reference.root, FILE_KIND, [link.coordinator_peer], size_max_bytes=JOB_FILE_BYTES_MAX
            )
            await fetch_blob(peer, home.store, manifest, [link.coordinator_peer])
        await asyncio.to_thread(materialise, job, home.store, place.files)
        await asyncio.to_thread(write_aside, place.job_path, job.to_bytes())

    async def _register(self, link: CoordinatorLink) -> None:
        """Hand in the registration until the chain has it. Work does not wait for it."""
        registration = sign_registration(
            self.account,
            payout=self.payout,
            deadline_s=int(time.time()) + REGISTRATION_LIFE_S,
            chain_id=self.network.chain_id,
            registry=self.network.registry,
        )
        while True:
            try:
                index = await link.register(registration)
                if index is not None:
                    self._say("registered", f"registered on the chain as node {index}; rewards go to {self.payout}")
                    return
            except UserError as error:
                log.info("registration: %s", error)
            await asyncio.sleep(REGISTRATION_PAUSE_S)

    def _say(self, kind: str, text: str) -> None:
        self.notify(Notice(kind, text))
