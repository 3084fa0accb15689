"""The shell around the member's core: it carries out what the core decides for one job on one node."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from anynode import __version__
from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.rounds import member, wire
from anynode.rounds.chain import RecordLog, verify
from anynode.rounds.driver import Driver
from anynode.rounds.effects import (
    Acknowledge,
    Apply,
    Deliver,
    Fault,
    FetchState,
    MemberEffect,
    Reduce,
    Send,
    StartWork,
    StopWork,
)
from anynode.rounds.messages import (
    Applied,
    MemberMessage,
    RecordsArrived,
    StateFetched,
    WorkDone,
)
from anynode.rounds.records import SignedRecord
from anynode.rounds.retention import Retention
from anynode.swarm.blob_exchange import fetch_blob, fetch_manifest, serve_blobs
from anynode.swarm.payloads import serve_payloads
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Progress, WorkSpec
from anynode.training.trace import TraceLeaf
from anynode.watch.activity import Activity
from anynode.watch.logs import enter_round
from anynode.worker.exchange import DELIVERY_BYTES_MAX, Exchange, receipt_for, split_delivery
from anynode.worker.home import JobHome
from anynode.worker.keeping import Keeping
from anynode.worker.link import DELIVERY, PUSH, TRACE, CoordinatorLink
from anynode.worker.opening import encode_leaves
from anynode.worker.orders import apply_order, work_order
from anynode.worker.reductions import Reductions
from anynode_contracts.errors import RefusedError, StorageError, UnreachableError, UserError

log = logging.getLogger(__name__)

STATE_BYTES_MAX = 1 << 40
SEAL_WAIT_S = 20.0
TRACE_REQUEST_BYTES_MAX = 256


@dataclass(frozen=True, slots=True)
class Notice:
    """Something for the person at the terminal: ``kind`` names it, ``text`` says it."""

    kind: str
    text: str


Notify = Callable[[Notice], None]


class Worker:
    """One node's part in one job. `run` returns when the job has finished or the node is refused."""

    def __init__(
        self,
        *,
        job: Job,
        home: JobHome,
        store: BlobStore,
        peer: Peer,
        link: CoordinatorLink,
        trainers: TrainerKeeper,
        account: LocalAccount,
        notify: Notify,
        activity: Activity,
        retention: Retention,
    ) -> None:
        self._job, self._home, self._store, self._peer = job, home, store, peer
        self._link, self._trainers, self._account, self._notify = link, trainers, account, notify
        self._activity = activity
        self._log = RecordLog(home.records_path, job.job_id)
        self._exchange = Exchange(
            job.job_id,
            peer=peer,
            store=store,
            domain=link.domain,
            account=account,
            reductions=Reductions(trainers.get),
        )
        self._keeping = Keeping(home, store, retention, [item.root for item in job.files.values()])
        self._ingesting = asyncio.Lock()
        self._leaves: dict[int, tuple[TraceLeaf, ...]] = {}
        self._private: frozenset[str] = frozenset()
        self._work: asyncio.Task[None] | None = None
        self._silent = False
        self._trouble = ""
        self.driver: Driver[member.State, MemberMessage, MemberEffect] | None = None

    async def run(self) -> member.State:
        """Take part until the job has finished or this node is refused; the last state of the core."""
        domain, coordinators = self._link.domain, self._link.coordinators
        self._log.load(domain, coordinators)
        held_round, held_root = await asyncio.to_thread(self._keeping.newest_whole, self._log.bodies, self._home.held())
        if held_round < 0:
            held_round, held_root = 0, await (await self._trainers.get()).initial_state()
            self._home.hold(held_round, held_root)
        await asyncio.to_thread(self._keeping.note, self._log.bodies, [held_root])
        me = member.Self(
            job=self._job.job_id,
            node=self._account.address,
            peer=self._peer.peer_id,
            hardware=(await self._trainers.get()).hardware_class,
            code_version=__version__,
            reduces=self._activity.reduces,
        )
        fresh = member.State(me, held_round=held_round, held_root=held_root)
        state = member.restore(fresh, self._log.bodies, time.monotonic())
        driver = Driver(state, member.apply, carry_out=self._carry_out, failure_key=failure_key, clock=time.monotonic)
        self.driver = driver
        await self._serve()
        running = asyncio.create_task(driver.run())
        ended = asyncio.create_task(self._until_over(driver))
        try:
            await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
            driver.stop()
            await running
        finally:
            for task in (running, ended):
                task.cancel()
            await asyncio.gather(running, ended, return_exceptions=True)
        return driver.state

    async def _until_over(self, driver: Driver[member.State, MemberMessage, MemberEffect]) -> None:
        while not await driver.wait_for(is_over, 3600.0):
            pass

    # ------------------------------------------------------------ what others ask of us

    async def _serve(self) -> None:
        await serve_blobs(self._peer, self._store, allow=lambda _, digest: digest not in self._private)
        await serve_payloads(self._peer, self._store, allow=lambda _, digest: digest not in self._private)
        await self._peer.serve(PUSH, self._on_push, limit_bytes=wire.RECORDS_BYTES_MAX)
        await self._peer.serve(DELIVERY, self._on_delivery, limit_bytes=DELIVERY_BYTES_MAX)
        await self._peer.serve(TRACE, self._on_trace, limit_bytes=TRACE_REQUEST_BYTES_MAX)

    async def _on_push(self, peer_id: str, request: bytes) -> bytes:
        if request[:64].decode(errors="replace") != self._job.job_id:
            raise RefusedError("this node works on another job; it takes no records of this one")
        await self._ingest(wire.parse_push(request[64:], self._log.roster))
        return b""

    async def _on_delivery(self, peer_id: str, request: bytes) -> bytes:
        job_id, delivery, data = split_delivery(request)
        driver = self._driver()
        if job_id != self._job.job_id:
            raise RefusedError("this node works on another job; it takes no chunks of this one")
        # The seal may still be on its way here when the sender has it already.
        await driver.wait_for(lambda state: has_seal(state, delivery.round), SEAL_WAIT_S)
        state = driver.state
        if not has_seal(state, delivery.round) or state.open is None or state.seal is None:
            raise RefusedError(f"round {delivery.round} is not sealed here; send the chunk again later")
        if delivery.slot >= len(state.open.members) or all(item.peer != peer_id for item in state.open.members):
            # Who brings a chunk matters little, since it must be the one its sender committed to: witnesses do as well.
            raise RefusedError("a chunk must come from a member of the round; it is not taken")
        await self._exchange.accept(delivery, data, state.open, state.seal)
        accepted = await driver.feed(delivery, reply=lambda effect: isinstance(effect, Acknowledge))
        if not accepted:
            raise RefusedError(f"round {delivery.round} is over here; the chunk is not needed")
        return await self._exchange.receipt(delivery)

    async def _on_trace(self, peer_id: str, request: bytes) -> bytes:
        """Open the trace of a round to the auditor: what each segment began and ended with."""
        job_id, _, number = request.decode(errors="replace").partition(" ")
        leaves = self._leaves.get(int(number)) if number.isdecimal() else None
        if job_id != self._job.job_id or leaves is None:
            raise RefusedError("this node keeps no trace of that round; replay it without")
        return encode_leaves(leaves)

    # ------------------------------------------------------------ what the core asks of us

    async def _carry_out(self, effect: MemberEffect) -> None:
        try:
            with self._activity.doing(effect):
                await self._do(effect)
        except (StorageError, UnreachableError, RefusedError):
            raise
        except UserError as error:
            # It is tried again, but it may be the user's to mend.
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._notify(Notice("trouble", self._trouble))
            raise

    async def _do(self, effect: MemberEffect) -> None:
        match effect:
            case Send():
                await self._send(effect)
            case StartWork():
                await self._start_work(effect)
            case StopWork():
                await self._stop_work(effect)
            case Deliver():
                await self._deliver(effect)
            case Reduce():
                await self._reduce(effect)
            case Apply():
                await self._apply(effect)
            case FetchState():
                await self._fetch_state(effect)
            case Fault():
                self._notify(Notice("fault", effect.sentence))
            case Acknowledge():
                pass  # answered where the chunk came in

    async def _send(self, effect: Send) -> None:
        try:
            answer = await self._link.send(self._job.job_id, effect.message, self._log.roster)
        except UnreachableError:
            if not self._silent:
                self._silent = True
                self._notify(Notice("silent", "the verifier does not answer; work goes on by itself when it does"))
            raise
        if self._silent:
            self._silent = False
            self._notify(Notice("answers", "the verifier answers again"))
        if answer.answer is not None:
            await self._driver().feed(answer.answer)
        try:
            await self._ingest(answer.records)
        except RefusedError as error:
            # From the coordinator itself: no other answer is to be expected, and nothing can be built on this one.
            self._driver().fail(error)

    async def _ingest(self, records: tuple[SignedRecord, ...]) -> None:
        """Check new records, keep them, tell the core."""
        async with self._ingesting:
            new = tuple(item for item in records if item.record.height >= len(self._log.records))
            if not new:
                return
            height, head = len(self._log.records), self._log.head
            if new[0].record.height != height:
                return  # a gap: the next sync fills it
            domain, coordinators = self._link.domain, self._link.coordinators
            await asyncio.to_thread(verify, new, self._job.job_id, domain, coordinators, height=height, previous=head)
            await asyncio.to_thread(self._log.append, new)
            for item in new:
                self._announce(item)
            await self._driver().feed(RecordsArrived(tuple(item.record for item in new)))

    def _announce(self, signed: SignedRecord) -> None:
        body = signed.record.body
        self._activity.on_record(signed.record)
        enter_round(self._activity.round)
        if body.kind == "open":
            self._exchange.forget()
            slot = next((item.slot for item in body.members if item.node == self._account.address), None)
            place = (
                "no place for this node yet" if slot is None else f"slot {slot}, {body.members[slot].quota_steps} steps"
            )
            self._notify(Notice("round", f"round {body.round} opens with {len(body.members)} members: {place}"))
        elif body.kind == "seal":
            self._private = frozenset()
        elif body.kind == "close":
            self._notify(Notice("close", f"round {body.round} closes, state {body.state_root[:16]}…"))
        elif body.kind == "verdict":
            for item in body.judged:
                if item.node == self._account.address:
                    word = "accepted" if item.accepted else "rejected"
                    self._notify(Notice(word, f"round {body.round}: work {word}: {item.reason}"))
        elif body.kind == "finish":
            self._notify(Notice("finish", f"the job has finished after {body.rounds} rounds"))

    async def _start_work(self, effect: StartWork) -> None:
        opened, slot = effect.open, effect.slot
        quota = opened.members[slot].quota_steps
        spec = work_order(self._job, opened, slot, quota)
        self._work = asyncio.create_task(self._train(spec, effect.time_limit_s))
        try:
            await self._work
        except asyncio.CancelledError:
            log.info("work on round %d was stopped", opened.round)

    async def _train(self, spec: WorkSpec, time_limit_s: float) -> None:
        def progress(at: Progress) -> None:
            self._activity.on_progress(at.done, at.total, at.loss)

        trainer = await self._trainers.get()
        result = await trainer.work(spec, time_limit_s=time_limit_s, on_progress=progress)
        self._activity.on_progress(result.steps, self._activity.steps_of_round, None)  # the last may not be reported
        manifest = self._store.manifest(result.update_root, "update")
        # Nothing of an update is given to anyone before the seal, or it could be copied and committed to.
        self._private = frozenset({result.update_root, *(chunk.hash for chunk in manifest.chunks)})
        self._leaves[spec.round] = result.leaves
        done = WorkDone(
            round=spec.round,
            state_root=spec.state_root,
            steps=result.steps,
            samples=result.samples,
            micro_batch=result.micro_batch,
            update_root=result.update_root,
            trace_root=result.trace_root,
        )
        await self._driver().feed(done)

    async def _stop_work(self, effect: StopWork) -> None:
        if self._work is not None and not self._work.done():
            self._notify(Notice("late", f"round {effect.round} was sealed without this node's work"))
            self._work.cancel()

    async def _deliver(self, effect: Deliver) -> None:
        opened = self._driver().state.open
        if opened is None or opened.round != effect.round:
            return
        if effect.to_slot == effect.slot:
            delivery = await self._exchange.payload(effect, opened)
            await self._driver().feed(delivery, reply=lambda item: isinstance(item, Acknowledge))
            receipt = receipt_for(delivery, self._account.address)
        else:
            receipt = await self._exchange.deliver(effect, opened)
        await self._driver().feed(receipt)

    async def _reduce(self, effect: Reduce) -> None:
        await self._driver().feed(await self._exchange.reduce(effect))

    async def _apply(self, effect: Apply) -> None:
        opened, result = effect.open, effect.result
        await self._exchange.gather(opened, result, self._link.coordinator_peer)
        root = await (await self._trainers.get()).apply(apply_order(opened, result))
        await asyncio.to_thread(self._home.hold, result.round + 1, root)
        await self._driver().feed(Applied(result.round, root))
        await asyncio.to_thread(self._keeping.sweep, self._log.bodies, [root])

    async def _fetch_state(self, effect: FetchState) -> None:
        opened = self._driver().state.open
        members = [item.peer for item in opened.members] if opened else []
        sources = [self._link.coordinator_peer, *(peer for peer in members if peer != self._peer.peer_id)]
        self._notify(Notice("state", f"fetching the state of round {effect.state_round} from the swarm"))

        def progress(done: int, total: int) -> None:
            self._notify(Notice("progress", f"state of round {effect.state_round}: {done} of {total} bytes"))

        manifest = await fetch_manifest(
            self._peer, self._store, effect.state_root, "state", sources, size_max_bytes=STATE_BYTES_MAX
        )
        await fetch_blob(self._peer, self._store, manifest, sources, progress)
        await asyncio.to_thread(self._home.hold, effect.state_round, effect.state_root)
        await self._driver().feed(StateFetched(effect.state_round, effect.state_root))
        await asyncio.to_thread(self._keeping.sweep, self._log.bodies, [effect.state_root])

    def _driver(self) -> Driver[member.State, MemberMessage, MemberEffect]:
        if self.driver is None:
            raise RefusedError("this node is still starting; ask again in a moment")
        return self.driver


def has_seal(state: member.State, round_: int) -> bool:
    """Whether the core knows the seal of ``round_``, or the round is over."""
    return state.open is not None and (
        state.open.round > round_ or (state.open.round == round_ and state.seal is not None)
    )


def is_over(state: member.State) -> bool:
    """The job has finished and its last state is here, or this node has no further part in it."""
    return bool(state.refused) or (state.finished and state.held_round >= state.closed_round)


def failure_key(effect: MemberEffect) -> str:
    """The name under which the core waits for this effect; see `member.py`."""
    match effect:
        case StartWork():
            return f"work {effect.open.round}"
        case Deliver():
            return member.delivery_key(effect)
        case Reduce():
            return f"reduce {effect.chunk} {effect.assign.attempt}"
        case Apply():
            return f"apply {effect.result.round}"
        case FetchState():
            return f"state {effect.state_round}"
        case _:
            return ""
