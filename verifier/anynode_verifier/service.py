"""The verifier: one process that coordinates jobs, audits work, keeps the ledger and serves the HTTP API."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from eth_account.signers.local import LocalAccount
from starlette.applications import Starlette
from web3 import Web3

from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.rounds import coordinator, wire
from anynode.rounds.certificates import Verifiers
from anynode.rounds.records import Record
from anynode.rounds.votes import Equivocation
from anynode.swarm.blob_exchange import serve_blobs
from anynode.swarm.hashes import HASH_HEX_BYTES, parse_hash, split_hash
from anynode.swarm.payloads import serve_payloads
from anynode.swarm.peer import Peer
from anynode.training.messages import Limits
from anynode.watch.logs import enter_job
from anynode.worker.directory import keep_announcing
from anynode.worker.early import EarlyTrainers
from anynode.worker.link import ASK_RATE, JOB, JOBS, PUSH, REGISTER, ROUND, TALK_RATE
from anynode_contracts.canonical import canonical_json
from anynode_contracts.clients import JobOnChain
from anynode_contracts.errors import RefusedError
from anynode_contracts.networks import Network
from anynode_contracts.signing import SigningDomain
from anynode_ledger.api import ledger_routes
from anynode_ledger.book import Book
from anynode_ledger.public import public_ledger
from anynode_verifier.agreement import QUORUM, QUORUM_BYTES_MAX, QUORUM_RATE
from anynode_verifier.asking_auditors import Asking
from anynode_verifier.auditors import Auditors
from anynode_verifier.blocks import Blocks
from anynode_verifier.bookkeeping import Bookkeeping
from anynode_verifier.calibration import THRESHOLDS_FILE, frozen
from anynode_verifier.drawing import audit_key
from anynode_verifier.hearings import serve_appeals
from anynode_verifier.http_api import verifier_routes
from anynode_verifier.job_desk import JobDesk
from anynode_verifier.job_rules import rules_of
from anynode_verifier.job_run import JobRun
from anynode_verifier.others import job_of, jobs_of, keep_connected, other_verifiers
from anynode_verifier.replays import Replayer
from anynode_verifier.residual import RESIDUALS_FILE, Residuals
from anynode_verifier.resuming import coordinator_keeper, trainer_keeper
from anynode_verifier.root_collector import RootCollector
from anynode_verifier.root_signer import RootSigner
from anynode_verifier.stakes import Stakes
from anynode_verifier.status import dropped, job_status
from anynode_verifier.taking_up import TURN_S, TakingUp
from anynode_verifier.tolerant import Opener
from anynode_verifier.treasury import JobAccount
from anynode_verifier.withholding import Withheld, serve_secrets, withheld_in

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VerifierSettings:
    """How a verifier runs. ``audit_floor`` is the rate below which none falls, whatever is at
    risk.
    """

    folder: Path
    database_url: str
    audit_floor: float = 0.02
    alive_s: float = 15.0
    batch_interval_s: float = 86_400.0


class Verifier:
    """Everything of one verifier. ``node`` is its node key and pays for registrations; ``poster`` posts roots,
    ``slasher`` proposes slashes.
    """

    def __init__(
        self,
        settings: VerifierSettings,
        network: Network,
        w3: Web3,
        peer: Peer,
        *,
        node: LocalAccount,
        poster: LocalAccount | None,
        slasher: Callable[[], LocalAccount] | None,
        early: EarlyTrainers,
    ) -> None:
        self._early = early
        self.settings, self.network = settings, network
        self.runs: dict[str, JobRun] = {}
        self.peer = peer
        self._w3, self._peer, self._node = w3, peer, node
        self._store = BlobStore(settings.folder / "blobs")
        self._book = Book.open(settings.database_url)
        signer = RootSigner(self._book, network, w3, account=node, folder=settings.folder, jobs=self._job_records)
        others = other_verifiers(network, node.address)
        self._roots = RootCollector(self._book, network, w3, signer, peer=peer, me=node.address, peer_of=others)
        self._bookkeeping = Bookkeeping(
            self._book,
            network,
            w3,
            node=node,
            poster=poster,
            root_signatures=self._roots.signatures,
            slasher=slasher,
            secret_of=lambda job, round_: coordinator.audit_secret(self.runs[job].rules, round_),
            batch_interval_s=settings.batch_interval_s,
        )
        self._desk = JobDesk(settings.folder / "jobs", self._store, w3, network)
        self._tasks: asyncio.TaskGroup | None = None
        self._loaded = asyncio.Event()
        self._beginning: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._serve_swarm()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(keep_announcing(self._peer, self.network, self._node))
                tasks.create_task(self._bookkeeping.run(self._proofs, self._withheld))
                tasks.create_task(self._roots.run())
                others = self._verifier_peers().values()
                tasks.create_task(keep_connected(self._peer, self.network.initial_peers, others))
                for source in others:
                    tasks.create_task(self._follow(source))
                for job in await asyncio.to_thread(self._desk.started):
                    tasks.create_task(self._run_job(await self._prepare(job)))
                self._loaded.set()
        finally:
            self._book.close()

    def http_app(self) -> Starlette:
        """The HTTP API, over this verifier."""
        return Starlette(routes=[*verifier_routes(self), *ledger_routes(self._book, self.settings.folder / "trees")])

    # ------------------------------------------------------------ jobs

    async def announce(self, data: bytes) -> dict[str, object]:
        job, missing = await self._desk.announce(data)
        return {"job_id": job.job_id, "missing": missing, "started": job.job_id in self.runs}

    async def put_blob(self, job_id: str, digest: str, data: bytes) -> dict[str, object]:
        return {"missing": await self._desk.put_blob(job_id, digest, data)}

    async def start_job(self, job_id: str) -> dict[str, object]:
        """All files are here: check that the job trains at all, then coordinate it."""
        if not self._loaded.is_set():
            raise RefusedError("the verifier is still starting; submit again in a moment")
        async with self._alone_with(job_id):
            if job_id not in self.runs:
                job = await self._desk.complete(job_id)
                await self._begin(job, await self._desk.on_chain(job))
        return {"job_id": job_id, "started": True}

    def _alone_with(self, job_id: str) -> asyncio.Lock:
        """An owner may bring a job while it is taken up from others, of whom two may have it."""
        return self._beginning.setdefault(job_id, asyncio.Lock())

    async def _begin(self, job: Job, on_chain: JobOnChain) -> None:
        """Coordinate or follow a job whose files are here."""
        await asyncio.to_thread(
            self._book.open_job,
            job.job_id,
            owner=on_chain.owner,
            budget_wei=job.pay.budget_wei,
            cap_per_batch_wei=on_chain.cap_per_batch_wei,
            price_wei_per_million_samples=job.pay.price_wei_per_sample * 1_000_000,
        )
        run = await self._prepare(job)
        self._desk.mark_started(job)
        if self._tasks is not None:
            self._tasks.create_task(self._run_job(run))

    async def _prepare(self, job: Job) -> JobRun:
        """Load a job in its own process. Raises ``UserError`` if its model or data do not fit together."""
        home = self._desk.home(job.job_id)
        trainers = self._early.take(job.job_id) or coordinator_keeper(self.settings.folder, home)
        try:
            trainer = await trainers.get()
            state_root, hardware = await trainer.initial_state(), trainer.hardware_class
            await asyncio.to_thread(self._store.sync_blob, state_root, "state")
        except BaseException:
            await trainers.close()
            raise
        domain = SigningDomain(self.network.chain_id, self.network.registry)
        auditors = Auditors(
            hardware, Limits(nice=5), lambda limits: trainer_keeper(self._store.folder, home, "auditor.log", limits)
        )
        thresholds = await asyncio.to_thread(
            frozen, self.settings.folder / THRESHOLDS_FILE, self.network.verifiers, domain
        )
        admitted = auditors.own.union(*(thresholds.workers(line, job.training) for line in auditors.own))
        key = audit_key(self.settings.folder / "audit.key")
        rules = rules_of(
            job,
            state_root,
            admitted,
            thresholds=thresholds.digest if thresholds.entries else "",
            audit_key=key,
            alive_s=self.settings.alive_s,
        )
        run = JobRun(
            job=job,
            rules=rules,
            home=home,
            store=self._store,
            peer=self._peer,
            account=self._node,
            domain=domain,
            verifiers=Verifiers.of(self.network),
            blocks=Blocks.of(self._w3, self.network),
            trainers=trainers,
            replayer=Replayer(
                job,
                self._peer,
                auditors=auditors,
                opener=Opener(job, self._peer, self._node, domain, time.monotonic),
                asking=Asking(job, self._peer, self._node, domain, time.monotonic),
                thresholds=thresholds,
                secret_of=lambda round_: coordinator.audit_secret(rules, round_),
                suspected=lambda name: run.driver.state.nodes[name].standing.lean.crossed,
                residuals=Residuals(home.folder / RESIDUALS_FILE),
                folder=home.folder / "disputes",
                store=self._store,
                publishes=bool(self._verifier_peers()),
            ),
            audit_floor=self.settings.audit_floor,
            stakes=Stakes(self._book, job.job_id, self.network.chain_id),
            verifier_peers=self._verifier_peers(),
            on_record=lambda run, record: self._bookkeeping.note(run.job.job_id, record),
            is_registered=self._bookkeeping.can_pay,
        )
        self._bookkeeping.follow(JobAccount(job, run.log.bodies, lambda: run.appeals.waiting))
        self.runs[job.job_id] = run
        return run

    async def _run_job(self, run: JobRun) -> None:
        enter_job(run.job.job_id)
        log.info("job %s (%s): coordinating from round %d", run.job.job_id[:16], run.job.name, run.driver.state.round)
        await run.run()

    def _proofs(self) -> list[Equivocation]:
        """What proves that a verifier has broken its word in a job of ours."""
        return [proof for run in list(self.runs.values()) for proof in run.agreement.state.proofs.values()]

    def _job_records(self) -> dict[str, tuple[Job, list[Record]]]:
        """What this verifier has followed itself."""
        return {run.job.job_id: (run.job, run.log.bodies) for run in list(self.runs.values())}

    def _withheld(self) -> list[Withheld]:
        """The audit secrets that verdicts on jobs of ours had to do without."""
        return [item for run in list(self.runs.values()) for item in withheld_in(run.job.job_id, list(run.log.bodies))]

    # ------------------------------------------------------------ swarm

    async def _serve_swarm(self) -> None:
        await serve_blobs(self._peer, self._store, allow=lambda _, __: True)
        await serve_payloads(self._peer, self._store, allow=lambda _, __: True)
        await self._peer.serve(ROUND, self._on_round, limit_bytes=wire.REQUEST_BYTES_MAX, rate=TALK_RATE)
        if self._verifier_peers():
            await self._peer.serve(QUORUM, self._on_quorum, limit_bytes=QUORUM_BYTES_MAX, rate=QUORUM_RATE)
            await serve_secrets(self._peer, self._verifier_peers().values(), self._run_of)
            await serve_appeals(self._peer, self._verifier_peers().values(), self._run_of)
            await self._roots.serve()
            await self._peer.serve(PUSH, self._on_push, limit_bytes=wire.RECORDS_BYTES_MAX, rate=QUORUM_RATE)
        await self._peer.serve(JOBS, self._on_jobs, limit_bytes=0, rate=ASK_RATE)
        await self._peer.serve(JOB, self._on_job, limit_bytes=HASH_HEX_BYTES, rate=ASK_RATE)
        await self._peer.serve(REGISTER, self._on_register, limit_bytes=4096, rate=ASK_RATE)

    async def _on_round(self, peer_id: str, request: bytes) -> bytes:
        job_id, message = split_hash(request)
        return await (await self._run_of(job_id)).members.on_message(peer_id, message)

    async def _on_quorum(self, peer_id: str, request: bytes) -> bytes:
        self._require_verifier(peer_id)
        job_id, message = split_hash(request)
        return await (await self._run_of(job_id)).agreement.on_message(peer_id, message)

    async def _on_push(self, peer_id: str, request: bytes) -> bytes:
        self._require_verifier(peer_id)
        job_id, records = split_hash(request)
        run = await self._run_of(job_id)
        run.agreement.feed(wire.parse_push(records, run.log.roster))
        return b""

    def _require_verifier(self, peer_id: str) -> None:
        if peer_id not in self._verifier_peers().values():
            raise RefusedError("only the other verifiers of the network may say this; it is ignored")

    def _verifier_peers(self) -> dict[str, str]:
        """The libp2p peers of the other verifiers: the network file lists both in one order."""
        return other_verifiers(self.network, self._node.address)

    async def _on_job(self, peer_id: str, request: bytes) -> bytes:
        return (await self._run_of(parse_hash(request))).job.to_bytes()

    async def _on_jobs(self, peer_id: str, request: bytes) -> bytes:
        await self._loaded.wait()
        listings = [
            {
                "job_id": run.job.job_id,
                "name": run.job.name,
                "phase": run.driver.state.phase.value,
                "round": run.driver.state.round,
                "rounds": run.rules.rounds,
                "price_wei_per_sample": str(run.job.pay.price_wei_per_sample),
                "members": sum(node.joined for node in run.driver.state.nodes.values()),
            }
            for run in self.runs.values()
        ]
        return json.dumps(listings).encode()

    async def _on_register(self, peer_id: str, request: bytes) -> bytes:
        return await asyncio.to_thread(self._bookkeeping.hand_in, request)

    async def _run_of(self, job_id: str) -> JobRun:
        """The job that a peer names. After a restart, peers wait until the jobs of before are loaded."""
        await self._loaded.wait()
        run = self.runs.get(job_id)
        if run is None:
            raise RefusedError("this verifier does not coordinate that job; choose one that it lists")
        return run

    async def _follow(self, source: str) -> None:
        """Take up the jobs that the verifier at a libp2p peer has."""

        async def unknown() -> list[str]:
            return [job_id for job_id in await jobs_of(self._peer, source) if job_id not in self.runs]

        await self._loaded.wait()
        await TakingUp(unknown, lambda job_id: self._take_up(job_id, source)).run()

    async def _take_up(self, job_id: str, source: str) -> None:
        async with self._alone_with(job_id):
            if job_id in self.runs:
                return
            job = await job_of(self._peer, source, job_id)
            if await self._desk.fetch(job, self._peer, source, TURN_S):
                await self._begin(job, await self._desk.once_on_chain(job))

    # ------------------------------------------------------------ what is public

    def status(self) -> dict[str, object]:
        now = time.monotonic()
        return {
            "network": self.network.name,
            "verifier": self._node.address,
            "peer_id": self._peer.peer_id,
            "dropped": dropped(self._peer.conduct),
            "jobs": [job_status(run, now) for run in list(self.runs.values())],
        } | self._bookkeeping.status()

    def public_blob(self, digest: str) -> bytes:
        return self._store.get(digest)

    def public_ledger(self) -> bytes:
        return canonical_json(public_ledger(self._book).model_dump(mode="json"))
