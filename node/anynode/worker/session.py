"""One node's time in the swarm: from its identity to a job's end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

from eth_account.signers.local import LocalAccount

from anynode.jobs.job import Job
from anynode.jobs.resolve import FILE_KIND, materialise
from anynode.rounds.certificates import Verifiers
from anynode.rounds.messages import Leave
from anynode.rounds.retention import Retention
from anynode.swarm.blob_exchange import fetch_blob, fetch_manifest
from anynode.swarm.daemon import DaemonEndedError
from anynode.swarm.frames import short
from anynode.swarm.identity import ensure_identity
from anynode.swarm.peer import Peer
from anynode.swarm.reachability import Way
from anynode.swarm.strikes import Dropped
from anynode.training.messages import Limits
from anynode.watch.activity import Activity
from anynode.watch.logs import enter_job, name_job
from anynode.worker.directory import directory_rules, find_coordinator
from anynode.worker.early import EarlyTrainers, trainer_keeper
from anynode.worker.home import JobHome, NodeHome
from anynode.worker.link import CoordinatorLink
from anynode.worker.notices import Notice, Notify
from anynode.worker.reach import Reach, way_in_words
from anynode.worker.registering import register
from anynode.worker.worker import Worker
from anynode_contracts.errors import InvariantError, RefusedError, UnreachableError, UserError
from anynode_contracts.files import write_aside
from anynode_contracts.networks import Network, check_chain, connect
from anynode_contracts.signing import SigningDomain

log = logging.getLogger(__name__)

WAY_IN_EVERY_S = 3.0
WAY_IN_PATIENCE_S = 40.0  # what finding out about the router and reserving a relay may take
JOB_FILE_BYTES_MAX = 64 << 30
AUDIT_NICE = 15
"""Audits get what the node's own rounds leave of the machine."""
RETRY_PAUSES_S = (2, 4, 8, 15, 30)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ended: ``refused`` is the reason, or empty when the job has finished."""

    job_id: str
    rounds: int
    state_root: str
    refused: str


@dataclass(frozen=True, slots=True)
class Session:
    """Everything a node needs to take part. `run` returns when there is nothing more to do. ``payout``: where
    rewards shall go if the node is registered now, by default to itself. ``audits``: it takes audit tasks.
    """

    network: Network
    folder: Path
    account: LocalAccount
    payout: str | None
    job_id: str | None
    reach: Reach
    limits: Limits
    audits: bool
    checkpoints: int
    notify: Notify
    activity: Activity
    early: EarlyTrainers

    async def run(self) -> Ending:
        """Join, fetch the job, train until it ends. Raises ``UserError`` with cause and remedy.

        While nobody can be reached, a node whose job is on its disk goes on trying: who waits for it comes back.
        """
        enter_job("")
        await self._check_chain()
        home = NodeHome(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        ensure_identity(home.identity_path)
        if not self.network.initial_peers:
            raise UserError(
                f"network {self.network.name} names no initial peers; ask its operator for the network file"
            )
        for pause_s in itertools.chain(RETRY_PAUSES_S, itertools.repeat(RETRY_PAUSES_S[-1])):
            try:
                return await self._enter(home)
            except DaemonEndedError:
                raise
            except UnreachableError as error:
                if home.unfinished_job(self.job_id) is None:
                    raise
                self._say("silent", f"{error}. The job is on this disk, so the node tries again in {pause_s} s")
                await asyncio.sleep(pause_s)
        raise InvariantError("the pauses have no end")

    async def _enter(self, home: NodeHome) -> Ending:
        """Become a peer of the swarm and take part. Raises ``UnreachableError`` while nobody can be reached."""
        self._say("start", "starting the libp2p daemon")
        peer = await Peer.start(
            home.identity_path,
            self.reach.port,
            self.network.initial_peers,
            host=self.reach.listen_host(self.network.initial_peers),
            state_dir=home.daemon_folder,
            network=self.network.name,
            settings=self.reach.daemon_settings(),
            record_rules=directory_rules(self.network),
            say=lambda text: self._say("start", text),
        )
        self.activity.traffic, self.activity.conduct = peer.traffic, peer.conduct
        peer.conduct.on_drop = self._on_drop
        async with peer:
            self._say("start", "looking for the coordinator")
            link = CoordinatorLink(
                peer,
                await find_coordinator(peer, self.network, lambda text: self._say("start", text)),
                Verifiers.of(self.network),
                SigningDomain(self.network.chain_id, self.network.registry),
                self.account,
                others=[address.rpartition("/p2p/")[2] for address in self.network.initial_peers],
            )
            settled = asyncio.Event()
            registering = asyncio.create_task(
                register(link, self.network, self.account, self.payout, lambda text: self._say("registered", text))
            )
            taking_part = asyncio.create_task(self._take_part(peer, link, home, settled))
            watching = asyncio.create_task(peer.watch())
            looking = asyncio.create_task(self._watch_way_in(peer, settled))
            try:
                await asyncio.wait({taking_part, watching}, return_when=asyncio.FIRST_COMPLETED)
                return await (taking_part if taking_part.done() else watching)
            finally:
                for task in (registering, taking_part, watching, looking):
                    task.cancel()
                await asyncio.gather(registering, taking_part, watching, looking, return_exceptions=True)

    async def _take_part(self, peer: Peer, link: CoordinatorLink, home: NodeHome, settled: asyncio.Event) -> Ending:
        job = await self._choose(link)
        name_job(job.job_id)
        self.activity.job = job.job_id
        place = home.job(job.job_id)
        self._say("job", f"job {job.name} ({job.job_id[:16]}…): {job.model.parameters} parameters")
        await self._fetch_files(peer, link, job, home, place)
        self._say("load", "loading the model")
        trainers = self.early.take(job.job_id) or trainer_keeper(home, job.job_id, self.limits)
        openers = trainer_keeper(home, job.job_id, self.limits, "opener.log")
        behind = replace(self.limits, nice=AUDIT_NICE)
        auditors = trainer_keeper(home, job.job_id, behind, "audits.log") if self.audits else None
        await self.early.close_rest()
        await settled.wait()
        worker = Worker(
            job=job,
            home=place,
            store=home.store,
            peer=peer,
            link=link,
            trainers=trainers,
            openers=openers,
            auditors=auditors,
            account=self.account,
            notify=self.notify,
            activity=self.activity,
            retention=Retention(states=self.checkpoints),
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
            await self._fetch_file(peer, home, reference.root, name, [link.coordinator_peer])
        await asyncio.to_thread(materialise, job, home.store, place.files)
        await asyncio.to_thread(write_aside, place.job_path, job.to_bytes())

    async def _fetch_file(self, peer: Peer, home: NodeHome, root: str, name: str, sources: list[str]) -> None:
        """One file, for as long as any of it arrives: a fetch that breaks off after some chunks is taken up again."""
        arrived = -1

        def progress(done: int, total: int) -> None:
            nonlocal arrived
            arrived = done
            self._say("progress", f"fetching {name}: {done} of {total} bytes")

        manifest = await fetch_manifest(peer, home.store, root, FILE_KIND, sources, size_max_bytes=JOB_FILE_BYTES_MAX)
        while True:
            before = arrived
            try:
                await fetch_blob(peer, home.store, manifest, sources, progress)
                return
            except UnreachableError as error:
                if arrived <= before:
                    raise
                log.info("fetching %s goes on after %d bytes: %s", name, arrived, error)

    async def _watch_way_in(self, peer: Peer, settled: asyncio.Event) -> None:
        """Tell how others reach this node, whenever that changes, and set ``settled`` once it is known whether it may
        reduce. Nothing to tell of a network on this machine."""
        initial, told, started_s = self.network.initial_peers, None, time.monotonic()
        silent = self.reach.on_this_machine(initial) and not self.reach.client_only
        while True:
            way = self.activity.way_in = await peer.way_in()
            self.activity.reduces = self.reach.may_reduce(way, initial)
            patient = time.monotonic() - started_s < WAY_IN_PATIENCE_S
            if way is not Way.LOCAL or self.activity.reduces or not patient:
                settled.set()
                if way is not told and not silent:
                    self._say("reach", way_in_words(way, peer.addresses, self.reach.port))
                told = way
            await asyncio.sleep(WAY_IN_EVERY_S)

    def _on_drop(self, drop: Dropped) -> None:
        self._say("dropped", f"peer {short(drop.peer_id)} is dropped for a while: it keeps sending {drop.offence}")

    def _say(self, kind: str, text: str) -> None:
        self.notify(Notice(kind, text))
