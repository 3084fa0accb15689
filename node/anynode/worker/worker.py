"""The shell around the member's core: it carries out what the core decides for one job on one node."""

from __future__ import annotations

import asyncio
import logging
import time

from eth_account.signers.local import LocalAccount

from anynode import __version__
from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.rounds import member
from anynode.rounds.chain import RecordLog, verify
from anynode.rounds.course import Open, Seal
from anynode.rounds.driver import Driver
from anynode.rounds.effects import (
    Acknowledge,
    Apply,
    Deliver,
    Fault,
    FetchState,
    KeepEvidence,
    MemberEffect,
    Reduce,
    Send,
    StartWork,
    StopWork,
)
from anynode.rounds.events import Answering, Applied, RecordsArrived, StateFetched, WorkDone
from anynode.rounds.judgements import Verdict
from anynode.rounds.left_out import LeftOut
from anynode.rounds.messages import Accusation, Claim, Elsewhere
from anynode.rounds.records import SignedRecord
from anynode.rounds.retention import Retention
from anynode.rounds.words import broken
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Progress, WorkSpec
from anynode.watch.activity import Activity
from anynode.watch.logs import enter_round
from anynode.worker.auditing import Auditing
from anynode.worker.exchange import Exchange
from anynode.worker.home import JobHome
from anynode.worker.keeping import Keeping
from anynode.worker.link import CoordinatorLink
from anynode.worker.notices import Notice, Notify, notices_of
from anynode.worker.openings import Openings
from anynode.worker.orders import apply_order, work_order
from anynode.worker.receipt_book import Fixed, Held, ReceiptBook
from anynode.worker.reductions import Reductions
from anynode.worker.serving import Serving
from anynode.worker.states import fetch_state
from anynode.worker.waits import MemberDriver, failure_key, is_over
from anynode_contracts.errors import RefusedError, StorageError, UnreachableError, UserError
from anynode_contracts.files import write_aside

log = logging.getLogger(__name__)


class Worker:
    """One node's part in one job. `run` returns when the job has finished or the node is refused. It takes audit tasks
    where there are ``auditors`` to do them.
    """

    def __init__(
        self,
        *,
        job: Job,
        home: JobHome,
        store: BlobStore,
        peer: Peer,
        link: CoordinatorLink,
        trainers: TrainerKeeper,
        openers: TrainerKeeper,
        auditors: TrainerKeeper | None,
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
        turn = asyncio.Lock()  # beside its rounds, this machine does one thing at a time
        self._openings = Openings(
            job=job,
            home=home,
            store=store,
            peer=peer,
            link=link,
            node=account.address,
            openers=openers,
            turn=turn,
            records=lambda: self._log.bodies,
        )
        self._auditing = (
            None
            if auditors is None
            else Auditing(
                job=job,
                store=store,
                peer=peer,
                link=link,
                account=account,
                trainers=auditors,
                turn=turn,
                records=lambda: self._log.bodies,
            )
        )
        self._book = ReceiptBook(home.folder / "receipts.jsonl")
        self._private: frozenset[str] = frozenset()
        self._serving = Serving(
            job.job_id,
            peer=peer,
            store=store,
            link=link,
            exchange=self._exchange,
            book=self._book,
            traces=self._openings.traces,
            driver=self._driver,
            ingest=self._ingest,
            records=self._log,
            may_give=lambda digest: digest not in self._private,
        )
        self._ingesting = asyncio.Lock()
        self._work: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._silent = False
        self._trouble = ""
        self.driver: MemberDriver | None = None

    async def run(self) -> member.State:
        """Take part until the job has finished or this node is refused; the last state of the core."""
        domain, verifiers = self._link.domain, self._link.verifiers
        self._log.load(domain, verifiers)
        held_round, held_root = await asyncio.to_thread(self._keeping.newest_whole, self._log.bodies, self._home.held())
        if held_round < 0:
            held_round, held_root = 0, await (await self._trainers.get()).initial_state()
            await self._save(held_round, held_root, None)
        await asyncio.to_thread(self._keeping.note, self._log.bodies, [held_root])
        me = member.Self(
            job=self._job.job_id,
            node=self._account.address,
            peer=self._peer.peer_id,
            hardware=await self._trainers.proven_class(held_root),
            code_version=__version__,
            reduces=self._activity.reduces,
            audits=self._auditing is not None,
        )
        fresh = member.State(me, held_round=held_round, held_root=held_root)
        state = member.restore(fresh, self._log.bodies, time.monotonic(), self._book.promises())
        driver = Driver(state, member.apply, carry_out=self._carry_out, failure_key=failure_key, clock=time.monotonic)
        self.driver = driver
        await self._serving.serve()
        await self._openings.serve()
        if self._auditing is not None:
            await self._auditing.serve()
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
            if self._saving is not None:
                await self._saving
            await self._openings.close()
            if self._auditing is not None:
                await self._auditing.close()
        return driver.state

    async def _until_over(self, driver: MemberDriver) -> None:
        while not await driver.wait_for(is_over, 3600.0):
            pass

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
            case KeepEvidence():
                await self._keep_evidence(effect)
            case Acknowledge():
                pass  # answered where the chunk came in

    async def _send(self, effect: Send) -> None:
        if isinstance(effect.message, Claim):
            # Who judges the round must not be the only one that knows.
            await self._link.tell_all(self._job.job_id, effect.message, besides=self._link.coordinator_peer)
        try:
            answer = await self._link.send(self._job.job_id, effect.message, self._log.roster)
        except UnreachableError:
            if not self._silent:
                self._silent = True
                self._notify(Notice("silent", "the verifier does not answer; work goes on by itself when it does"))
            raise
        answers_again, self._silent = self._silent, False
        if answers_again:
            self._notify(Notice("answers", "the verifier answers again"))
        if answer.answer is not None and not isinstance(answer.answer, Elsewhere):
            await self._driver().feed(answer.answer)
        try:
            await self._ingest(answer.records)
        except RefusedError as error:
            # From the coordinator itself: no other answer is to be expected, and nothing can be built on this one.
            self._driver().fail(error)
        if answers_again:
            await self._driver().feed(Answering())

    async def _keep_evidence(self, effect: KeepEvidence) -> None:
        """The receipt outlives the round: verifiers are told, and whoever audits the job can be shown it."""
        receipt, path = effect.receipt, self._home.evidence_path(effect.receipt.round)
        await asyncio.to_thread(write_aside, path, LeftOut(job=self._job.job_id, receipt=receipt).to_bytes())
        proof = broken(self._job.job_id, receipt, effect.seal)
        signer = await asyncio.to_thread(self._link.signer_of, self._job.job_id, receipt)
        if proof is None or proof.signer != signer:
            sentence = (
                f"our work of round {receipt.round} is not in its seal and not paid: the duty to coordinate had moved "
                "on from the verifier that had it; nobody has broken a promise"
            )
            self._notify(Notice("fault", sentence))
            return
        sentence = (
            f"the coordinator had our work of round {receipt.round} and left it out, which is not paid; its receipt is "
            f"a proof, which all verifiers are told: `anynode audit RESULT --receipt {path}`"
        )
        self._notify(Notice("fault", sentence))
        await self._link.tell_all(self._job.job_id, Accusation("accusation", receipt.node, proof))

    async def _ingest(self, records: tuple[SignedRecord, ...]) -> None:
        """Check new records, keep them, tell the core."""
        async with self._ingesting:
            new = tuple(item for item in records if item.record.height >= len(self._log.records))
            if not new:
                return
            height, head = len(self._log.records), self._log.head
            if new[0].record.height != height:
                return  # a gap: the next sync fills it
            domain, verifiers = self._link.domain, self._link.verifiers
            await asyncio.to_thread(verify, new, self._job.job_id, domain, verifiers, height=height, previous=head)
            await asyncio.to_thread(self._log.append, new)
            for item in new:
                self._announce(item)
            await self._driver().feed(RecordsArrived(tuple(item.record for item in new)))

    def _announce(self, signed: SignedRecord) -> None:
        self._activity.on_record(signed.record)
        enter_round(self._activity.round)
        match signed.record.body:
            case Open():
                self._exchange.forget()
            case Seal():
                self._private = frozenset()
            case Verdict():
                self._openings.note(signed.record)
        for notice in notices_of(signed.record.body, self._account.address):
            self._notify(notice)

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
        kept = self._openings.keeps_states_in
        result = await trainer.work(spec, kept=kept, time_limit_s=time_limit_s, on_progress=progress)
        self._activity.on_progress(result.steps, self._activity.steps_of_round, None)  # the last may not be reported
        manifest = self._store.manifest(result.update_root, "update")
        # Nothing of an update is given to anyone before the seal, or it could be copied and committed to.
        self._private = frozenset({result.update_root, *(chunk.hash for chunk in manifest.chunks)})
        await asyncio.to_thread(self._openings.traces.keep, spec.round, result.leaves)
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
            await self._driver().feed(delivery.receipt(self._account.address))
        elif effect.slot != self._driver().state.slot:
            await self._driver().feed(await self._exchange.deliver(effect, opened))
        else:
            for piece in await self._exchange.pieces(effect, opened):
                receipt = await self._exchange.deliver(piece, opened)
                self._book.note(Held(round=effect.round, receipt=receipt))
                await self._driver().feed(receipt)

    async def _reduce(self, effect: Reduce) -> None:
        number, attempt = effect.open.round, effect.assign.attempt
        self._book.note(Fixed(round=number, attempt=attempt, chunk=effect.chunk, senders=effect.senders))
        await self._driver().feed(await self._exchange.reduce(effect))

    async def _apply(self, effect: Apply) -> None:
        opened, result = effect.open, effect.result
        await self._exchange.gather(opened, result, self._link.coordinator_peer)
        root = await (await self._trainers.get()).apply(apply_order(opened, result))
        # The others wait for our report and not for our disk. Until it is synced, an older state is the one held.
        self._saving = asyncio.create_task(self._save(result.round + 1, root, self._saving))
        await self._driver().feed(Applied(result.round, root))
        await asyncio.shield(self._saving)
        await asyncio.to_thread(self._keeping.sweep, self._log.bodies, [root])

    async def _save(self, round_: int, root: str, before: asyncio.Task[None] | None) -> None:
        """Make a stored state durable and note that it is held, after the one ``before``."""
        if before is not None:
            await asyncio.wait([before])
        await asyncio.to_thread(self._store.sync_blob, root, "state")
        await asyncio.to_thread(self._home.hold, round_, root)

    async def _fetch_state(self, effect: FetchState) -> None:
        opened = self._driver().state.open
        members = [item.peer for item in opened.members] if opened else []
        sources = [self._link.coordinator_peer, *(peer for peer in members if peer != self._peer.peer_id)]
        self._notify(Notice("state", f"fetching the state of round {effect.state_round} from the swarm"))

        def progress(done: int, total: int) -> None:
            self._notify(Notice("progress", f"state of round {effect.state_round}: {done} of {total} bytes"))

        await fetch_state(self._peer, self._store, effect.state_root, sources, progress)
        await asyncio.to_thread(self._home.hold, effect.state_round, effect.state_root)
        await self._driver().feed(StateFetched(effect.state_round, effect.state_root))
        await asyncio.to_thread(self._keeping.sweep, self._log.bodies, [effect.state_root])

    def _driver(self) -> MemberDriver:
        if self.driver is None:
            raise RefusedError("this node is still starting; ask again in a moment")
        return self.driver
