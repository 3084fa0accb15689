"""The verifier: one process that coordinates jobs, audits work, keeps the ledger and serves the HTTP API."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from eth_account.signers.local import LocalAccount
from requests.exceptions import RequestException
from starlette.applications import Starlette
from web3 import Web3
from web3.exceptions import Web3Exception

from anynode.blobs.store import BlobStore
from anynode.exact.layout import chunk_specs
from anynode.jobs.job import Job
from anynode.rounds import coordinator, wire
from anynode.rounds.records import Record
from anynode.swarm.blob_exchange import serve_blobs
from anynode.swarm.payloads import serve_payloads
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Limits
from anynode.training.process import TrainerSettings
from anynode.watch.logs import enter_job
from anynode.worker.directory import COORDINATOR_TTL_S, announce_coordinator
from anynode.worker.link import JOB, JOBS, REGISTER, ROUND
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_contracts.files import write_aside
from anynode_contracts.networks import Network
from anynode_contracts.signing import SigningDomain
from anynode_contracts.typed_data import sign_registration
from anynode_ledger.api import ledger_routes
from anynode_ledger.book import Book
from anynode_ledger.intake import Intake
from anynode_ledger.outbox import Outbox
from anynode_ledger.public import public_ledger
from anynode_verifier.blocks import Blocks
from anynode_verifier.http_api import verifier_routes
from anynode_verifier.job_desk import JobDesk
from anynode_verifier.job_run import JobRun
from anynode_verifier.registrar import Registrar
from anynode_verifier.replays import Replayer
from anynode_verifier.status import dropped, job_status, money_status
from anynode_verifier.treasury import JobAccount, Treasury

log = logging.getLogger(__name__)

CHAIN_PAUSE_S = 1.0
REGISTRATION_LIFE_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class VerifierSettings:
    """How a verifier runs. ``audit_floor`` is the rate at which proven workers are audited in the end."""

    folder: Path
    database_url: str
    audit_floor: float = 0.1
    alive_s: float = 15.0
    batch_interval_s: float = 86_400.0


class Verifier:
    """Everything of one verifier. ``node`` is its node key and pays for registrations; ``poster`` posts roots."""

    def __init__(
        self,
        settings: VerifierSettings,
        network: Network,
        w3: Web3,
        peer: Peer,
        *,
        node: LocalAccount,
        poster: LocalAccount,
    ) -> None:
        self.settings, self.network = settings, network
        self.runs: dict[str, JobRun] = {}
        self.peer = peer
        self._w3, self._peer, self._node = w3, peer, node
        self._store = BlobStore(settings.folder / "blobs")
        self._book = Book.open(settings.database_url)
        self._outbox = Outbox(self._book, w3, poster)
        self._intake = Intake(self._book, w3, network)
        self._desk = JobDesk(settings.folder / "jobs", self._store, w3, network)
        self._registrar = Registrar(w3, network, node)
        self._treasury = Treasury(self._book, network, node.address, settings.batch_interval_s)
        self._accounts: dict[str, JobAccount] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._loaded = asyncio.Event()
        self._chain_note = "not read yet"
        self._waiting_for = ""

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._serve_swarm()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._keep_announcing())
                tasks.create_task(self._follow_chain())
                for job in await asyncio.to_thread(self._desk.started):
                    tasks.create_task(self._run_job(await self._prepare(job)))
                self._loaded.set()
        finally:
            self._book.close()

    def http_app(self) -> Starlette:
        """The HTTP API, over this verifier."""
        return Starlette(routes=[*verifier_routes(self), *ledger_routes(self._book)])

    # ------------------------------------------------------------ jobs

    async def announce(self, data: bytes) -> dict[str, object]:
        job, missing = await self._desk.announce(data)
        return {"job_id": job.job_id, "missing": missing, "started": job.job_id in self.runs}

    async def put_blob(self, job_id: str, digest: str, data: bytes) -> dict[str, object]:
        return {"missing": await self._desk.put_blob(job_id, digest, data)}

    async def start_job(self, job_id: str) -> dict[str, object]:
        """All files are here: check that the job trains at all, then coordinate it."""
        if job_id not in self.runs:
            job = await self._desk.complete(job_id)
            run = await self._prepare(job)
            self._desk.mark_started(job)
            if self._tasks is None:
                raise RefusedError("the verifier is still starting; submit again in a moment")
            self._tasks.create_task(self._run_job(run))
        return {"job_id": job_id, "started": True}

    async def _prepare(self, job: Job) -> JobRun:
        """Load a job in its own process. Raises ``UserError`` if its model or data do not fit together."""
        on_chain = await self._desk.on_chain(job) if job.job_id not in self._started_ids() else None
        if on_chain is not None:
            await asyncio.to_thread(
                self._book.open_job,
                job.job_id,
                owner=on_chain.owner,
                budget_wei=job.pay.budget_wei,
                cap_per_batch_wei=on_chain.cap_per_batch_wei,
                price_wei_per_million_samples=job.pay.price_wei_per_sample * 1_000_000,
            )
        home = self._desk.home(job.job_id)
        trainers = self._trainers(job.job_id, "coordinator.log", nice=0)
        try:
            trainer = await trainers.get()
            state_root, hardware = await trainer.initial_state(), trainer.hardware_class
        except BaseException:
            await trainers.close()
            raise
        run = JobRun(
            job=job,
            rules=self._rules(job, state_root, hardware),
            home=home,
            store=self._store,
            peer=self._peer,
            account=self._node,
            domain=SigningDomain(self.network.chain_id, self.network.registry),
            blocks=Blocks(self._w3, self.network.rpc_url),
            trainers=trainers,
            replayer=Replayer(job, self._peer, self._trainers(job.job_id, "auditor.log", nice=5)),
            audit_floor=self.settings.audit_floor,
            on_record=self._on_record,
            is_registered=lambda name: self._registrar.knows(name) or self._book.node_index(name) is not None,
        )
        self._accounts[job.job_id] = JobAccount(job, run.log.bodies)
        self.runs[job.job_id] = run
        return run

    async def _run_job(self, run: JobRun) -> None:
        enter_job(run.job.job_id)
        log.info("job %s (%s): coordinating from round %d", run.job.job_id[:16], run.job.name, run.driver.state.round)
        await run.run()

    def _started_ids(self) -> set[str]:
        return {job.job_id for job in self._desk.started()}

    def _trainers(self, job_id: str, log_name: str, nice: int) -> TrainerKeeper:
        home = self._desk.home(job_id)
        settings = TrainerSettings(log_path=home.folder / log_name, limits=Limits(nice=nice))
        return TrainerKeeper(self._store.folder, home.files, settings)

    def _rules(self, job: Job, state_root: str, hardware: str) -> coordinator.Rules:
        training, workers = job.training, job.workers
        return coordinator.Rules(
            job=job.job_id,
            state_root=state_root,
            rounds=training.rounds,
            inner_steps_min=training.inner_steps_least,
            inner_steps_max=training.inner_steps_most,
            newcomer_steps=training.newcomer_steps,
            batch_size=training.batch_size,
            refresh_rounds=training.refresh_rounds,
            chunks=len(chunk_specs(job.model.parameters, False)),
            chunks_on_refresh=len(chunk_specs(job.model.parameters, True)),
            audit_key=self._audit_key(),
            publishes_moments=training.publishes_moments,
            total_steps=training.total_steps if training.inner_steps == "auto" else 1 << 62,
            samples_max=job.samples_max,
            hardware=hardware,
            members_min=workers.min_workers,
            members_max=workers.max_workers,
            work_s=workers.round_deadline_s,
            exchange_s=workers.exchange_deadline_s,
            alive_s=self.settings.alive_s,
        )

    def _audit_key(self) -> bytes:
        """The secret behind all audit secrets; lost, it would only cost the draws that are not revealed yet."""
        path = self.settings.folder / "audit.key"
        if not path.exists():
            write_aside(path, secrets.token_bytes(32))
            path.chmod(0o600)
        return path.read_bytes()

    def _on_record(self, run: JobRun, record: Record) -> None:
        self._accounts[run.job.job_id].add(record)

    # ------------------------------------------------------------ swarm

    async def _serve_swarm(self) -> None:
        await serve_blobs(self._peer, self._store, allow=lambda _, __: True)
        await serve_payloads(self._peer, self._store, allow=lambda _, __: True)
        await self._peer.serve(ROUND, self._on_round, limit_bytes=wire.REQUEST_BYTES_MAX)
        await self._peer.serve(JOBS, self._on_jobs, limit_bytes=0)
        await self._peer.serve(JOB, self._on_job, limit_bytes=64)
        await self._peer.serve(REGISTER, self._on_register, limit_bytes=4096)

    async def _on_round(self, peer_id: str, request: bytes) -> bytes:
        return await (await self._run_of(request[:64])).on_message(peer_id, request[64:])

    async def _on_job(self, peer_id: str, request: bytes) -> bytes:
        return (await self._run_of(request)).job.to_bytes()

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
        return await asyncio.to_thread(self._registrar.hand_in, request, self._book.node_index)

    async def _run_of(self, job_id: bytes) -> JobRun:
        """The job that a peer names. After a restart, peers wait until the jobs of before are loaded."""
        await self._loaded.wait()
        run = self.runs.get(job_id.decode(errors="replace"))
        if run is None:
            raise RefusedError("this verifier does not coordinate that job; choose one that it lists")
        return run

    async def _keep_announcing(self) -> None:
        while True:
            await announce_coordinator(self._peer, self.network, self._node)
            await asyncio.sleep(COORDINATOR_TTL_S / 4)

    # ------------------------------------------------------------ chain and ledger

    async def _follow_chain(self) -> None:
        """Read the chain, book, settle, send; an RPC that is down makes all of it wait and nothing else."""
        own = sign_registration(
            self._node,
            payout=self._node.address,
            deadline_s=int(time.time()) + REGISTRATION_LIFE_S,
            chain_id=self.network.chain_id,
            registry=self.network.registry,
        )
        body = {
            "node": own.node,
            "payout": own.payout,
            "deadline_s": own.deadline_s,
            "signature": "0x" + own.signature.hex(),
        }
        await asyncio.to_thread(self._registrar.hand_in, json.dumps(body).encode(), self._book.node_index)
        while True:
            await asyncio.to_thread(self._advance_chain)
            await asyncio.sleep(CHAIN_PAUSE_S)

    def _advance_chain(self) -> None:
        try:
            reading = self._intake.advance()
            self._registrar.advance()
            self._chain_note = f"block {reading.head}, booked up to block {reading.posted}"
        except (UnreachableError, RequestException, Web3Exception, OSError) as error:
            note = f"no answer from the RPC at {self.network.rpc_url}; everything that waits for it goes on by itself"
            if self._chain_note != note:
                log.warning("%s (%s)", note, error)
            self._chain_note = note
        try:
            self._treasury.advance(list(self._accounts.values()))
            waiting = self._outbox.advance()
            self._waiting_for = waiting[0].note if waiting else ""
        except RefusedError as error:
            log.warning("%s", error)
            self._waiting_for = str(error)

    # ------------------------------------------------------------ what is public

    def status(self) -> dict[str, object]:
        now = time.monotonic()
        return {
            "network": self.network.name,
            "verifier": self._node.address,
            "peer_id": self._peer.peer_id,
            "chain": self._chain_note,
            "waiting_for": self._waiting_for,
            "dropped": dropped(self._peer.conduct),
            "jobs": [job_status(run, now) for run in list(self.runs.values())],
            "ledger": money_status(self._book, list(self.runs)),
        }

    def public_blob(self, digest: str) -> bytes:
        return self._store.get(digest)

    def public_ledger(self) -> bytes:
        return canonical_json(public_ledger(self._book).model_dump(mode="json"))
