"""The shell around the coordinator's core: it carries out what the core decides for one job."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace

from eth_account.signers.local import LocalAccount

from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.rounds import coordinator, voting, wire
from anynode.rounds.audit_secrets import opens
from anynode.rounds.certificates import Verifiers
from anynode.rounds.chain import RecordLog
from anynode.rounds.course import Close, Member, Result, Seal
from anynode.rounds.effects import (
    Answer,
    Append,
    Apply,
    AskAuditor,
    AverageAgain,
    CoordinatorEffect,
    DrawAudits,
    Fault,
    FetchResult,
    GetBeacon,
    GetRates,
    Hear,
    MakeCorrection,
    Recompute,
    Replay,
    SendRecords,
)
from anynode.rounds.events import Applied, AuditRates, Beacon, Ended, Gone, ResultFetched
from anynode.rounds.messages import Claim
from anynode.rounds.records import Record, SignedRecord
from anynode.rounds.retention import COORDINATOR
from anynode.rounds.standing import EVERY_TIME_PPM
from anynode.swarm.payloads import fetch_payloads
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.watch.logs import enter_round
from anynode.worker.home import JobHome
from anynode.worker.keeping import Keeping
from anynode.worker.link import ROUND
from anynode.worker.orders import apply_order
from anynode_contracts.errors import InvariantError, RefusedError, UnreachableError, UserError
from anynode_contracts.signing import SigningDomain
from anynode_verifier.agreement import Agreement
from anynode_verifier.averaging import Averager
from anynode_verifier.block_checks import BlockChecks
from anynode_verifier.blocks import Blocks
from anynode_verifier.chunk_audits import ChunkAuditor
from anynode_verifier.connections import closed_connections
from anynode_verifier.drawing import draw_audits
from anynode_verifier.dues import check_s, watch_verdicts
from anynode_verifier.duty import Duty
from anynode_verifier.excision import Excisions
from anynode_verifier.follower import Follower
from anynode_verifier.hearings import Hearings
from anynode_verifier.member_desk import MemberDesk
from anynode_verifier.mending import mend
from anynode_verifier.progress import Progress
from anynode_verifier.pushing import Pushing, reachable
from anynode_verifier.rates import AuditRate, audit_rate, reward_wei
from anynode_verifier.readable import unreadable
from anynode_verifier.repeats import own_draw, repeat_ahead, share_ppm
from anynode_verifier.replays import Replayer
from anynode_verifier.stakes import Stakes
from anynode_verifier.withholding import Sealers
from anynode_verifier.word_book import WordBook

log = logging.getLogger(__name__)

HAND_ON_TIMEOUT_S = 5.0
END_PAUSE_S = 5.0
END_KNOWN_S = 60
"""The other verifiers have booked by then that the job is over on the chain, or they would not sign that it is."""


class JobRun:
    """One job on the coordinator. `run` goes on until it is stopped; a finished job still serves its records."""

    def __init__(
        self,
        *,
        job: Job,
        rules: coordinator.Rules,
        home: JobHome,
        store: BlobStore,
        peer: Peer,
        account: LocalAccount,
        domain: SigningDomain,
        verifiers: Verifiers,
        blocks: Blocks,
        trainers: TrainerKeeper,
        replayer: Replayer,
        audit_floor: float,
        stakes: Stakes,
        verifier_peers: Mapping[str, str],
        on_record: Callable[[JobRun, Record], None],
        is_registered: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        words = WordBook(home.folder / "words.jsonl", job.job_id, account, domain)
        rules = replace(rules, sealer=account.address, sign_nothing=words.sign_nothing)
        self.job, self.rules, self.home, self.store = job, rules, home, store
        self.progress = Progress(home.folder, trainers)
        self._peer, self._account, self._domain, self._blocks = peer, account, domain, blocks
        self._trainers, self._replayer = trainers, replayer
        self._chunk_auditor = ChunkAuditor(
            job, home, peer, store, trainers=trainers, others=lambda: list(verifier_peers.values())
        )
        self._audit_floor_ppm, self.stakes = round(audit_floor * EVERY_TIME_PPM), stakes
        self._on_record, self._clock = on_record, clock
        self.log = RecordLog(home.records_path, job.job_id)
        self._pushing = Pushing(self.log, peer)
        self._keeping = Keeping(home, store, COORDINATOR, [item.root for item in job.files.values()])
        self._background: set[asyncio.Task[None]] = set()
        self._saving = asyncio.Lock()
        self.log.load(domain, verifiers)
        self._duty = Duty(rules, self.log, words, carry_out=self._carry_out, clock=clock)
        self.driver = self._duty.driver
        self._verifier_peers = verifier_peers
        self._sealers = Sealers(job.job_id, peer, verifier_peers)
        averager = Averager(
            job.job_id,
            peer=peer,
            store=store,
            trainers=trainers,
            peers_now=lambda: {name: node.peer for name, node in self.driver.state.nodes.items()},
            others=lambda: list(verifier_peers.values()),
        )
        self.follower = Follower(
            job,
            domain,
            start_root=rules.state_root,
            home=home,
            store=store,
            peer=peer,
            trainers=trainers,
            replayer=replayer,
            draws=own_draw(rules.audit_key, job.job_id, share_ppm(verifiers)),
            chunk_auditor=self._chunk_auditor,
            averager=averager,
            blocks=BlockChecks(blocks),
            ask_sealer=self._ask_sealer,
            claims_of=lambda round_: audit.claims if (audit := self.driver.state.audits.get(round_)) else {},
            sources=lambda: list(verifier_peers.values()),
            keeper=lambda: verifier_peers.get(self.agreement.holder, ""),
            has_ended=stakes.ended,
        )
        self.agreement = Agreement(
            voting.Rules(job.job_id, account.address, verifiers, 2 / 3 * rules.alive_s, 2 * rules.alive_s),
            chain=self.log,
            folder=home.folder,
            peer=peer,
            peer_of=verifier_peers,
            account=account,
            domain=domain,
            follows=self.follower.follows,
            check_s=lambda record: check_s(record.body, self.driver.state),
            keep=self._keep,
            clock=clock,
        )
        self.members = MemberDesk(
            self.log,
            self.driver,
            self.agreement,
            words=words,
            domain=domain,
            peer_id=peer.peer_id,
            verifier_peers=verifier_peers,
            is_registered=is_registered,
            hand_on=lambda claim: self._in_background(self._hand_on(claim)),
            clock=clock,
        )
        self._excisions = Excisions(
            job.job_id,
            domain=domain,
            verifiers=verifiers.addresses,
            records=self.log,
            keeping=self._keeping,
            trainers=trainers,
            replayer=replayer,
            averager=averager,
            state=lambda: self.driver.state,
            tell=self.driver.feed,
        )

        self.appeals = Hearings(self, replayer, domain, peer=peer, others=verifier_peers.values(), clock=clock)

    async def run(self) -> None:
        """Coordinate until cancelled. Raises ``UserError`` when records cannot be kept (a full disk)."""
        await asyncio.to_thread(self._keeping.note, self.log.bodies, [self.rules.state_root])
        await self._mend_state()
        if self.driver.state.round not in self.progress.losses:
            root = self.driver.state.state_root or self.rules.state_root
            # In the background: members that wait for a restarted coordinator do not wait for a figure.
            self._in_background(self.progress.measure(self.driver.state.round, root))
        turns = self._duty.take_turns(self.agreement)
        works = [self.agreement.run(), self._watch(), self._watch_end(), turns, self.appeals.pursue()]
        if not self.agreement.state.alone:
            await asyncio.to_thread(self._follow_from_disk)
            works.append(watch_verdicts(self.agreement, self._blocks, lambda: self.driver.state))
        tasks = [asyncio.create_task(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, *self._background):
                task.cancel()
            await asyncio.gather(*tasks, *self._background, return_exceptions=True)
            await self._excisions.close()
            await self.follower.repeats.close()
            await self._trainers.close()
            await self._replayer.close()

    async def _mend_state(self) -> None:
        state = self.driver.state
        if not state.height:
            return
        try:
            trainer = await self._trainers.get()
            await mend(self.log.bodies, state.round, self._keeping.is_whole, trainer.apply)
        except UserError as error:
            log.error("%s", error)  # the other jobs, and what this one serves, go on

    async def _watch(self) -> None:
        """Who has died is not waited for."""
        async for gone in closed_connections(self._peer):
            for name, node in list(self.driver.state.nodes.items()):
                if node.peer in gone and self.agreement.on_duty:
                    await self.driver.feed(Gone(name))

    async def _watch_end(self) -> None:
        """A job that is over on the chain gets no more rounds: nobody could be paid for them."""
        while True:
            going_on = self.agreement.on_duty and self.driver.state.phase is not coordinator.Phase.FINISHED
            if going_on and await self._has_ended():
                await self.driver.feed(Ended())
            await asyncio.sleep(END_PAUSE_S)

    async def _has_ended(self) -> bool:
        try:
            return await asyncio.to_thread(self.stakes.ended, END_KNOWN_S)
        except UserError as error:
            log.debug("whether the job is over on the chain is not known now: %s", error)
            return False

    # ------------------------------------------------------------ what the core asks of us

    async def _carry_out(self, effect: CoordinatorEffect) -> None:
        match effect:
            case Append():
                raise InvariantError("records are queued in order, not carried out as tasks")
            case GetBeacon():
                block = await self._blocks.beacon(self.driver.state.head)
                staked = await asyncio.to_thread(self.stakes.staked)
                owners = await asyncio.to_thread(self.stakes.owners)
                await self.driver.feed(Beacon(effect.round, block.beacon, block.audit_height, staked, owners))
            case GetRates():
                held_wei = await asyncio.to_thread(self.stakes.held_back_wei)
                rates = tuple(self.audit_rate(member, held_wei).ppm for member in effect.open.members)
                await self.driver.feed(AuditRates(effect.open.round, rates))
                self._in_background(self._replayer.try_classes(member.hardware for member in effect.open.members))
            case Replay() | AskAuditor() | Recompute():
                await self.driver.feed(await self._replayer.carry_out(effect))
            case Hear():
                await self.driver.feed(await self.appeals.hear(effect.appeal))
            case FetchResult():
                source = effect.open.members[effect.done.slot].peer
                digests = [average.result for average in effect.done.averages]
                silent_s = effect.open.exchange_s / 2  # who hangs is asked again while there is time
                await fetch_payloads(self._peer, self.store, dict.fromkeys(digests, source), silent_s=silent_s)
                await asyncio.to_thread(self.store.sync, digests)
                await self.driver.feed(await asyncio.to_thread(self._read, effect))
            case Apply():
                await self._apply(effect)
            case DrawAudits():
                secret, held = coordinator.audit_secret(self.rules, effect.open.round), self.stakes.held_back_wei
                drawn = await draw_audits(
                    effect,
                    secret,
                    blocks=self._blocks,
                    job=self.job,
                    held_back_wei=held,
                    decides=self._replayer.decides,
                    ask_sealer=self._ask_sealer,
                )
                await self.driver.feed(drawn)
            case AverageAgain():
                await self.driver.feed(await self._chunk_auditor.average_again(effect))
            case MakeCorrection():
                await self._correct(effect)
            case Answer() | SendRecords():
                pass  # nobody waits for it any more: the member asks again
            case Fault():
                log.error("%s", effect.sentence)

    def _read(self, effect: FetchResult) -> ResultFetched:
        found = unreadable(self.job, self.store, effect.done.averages, refresh=effect.open.refresh)
        for chunk, why in found.items():
            log.warning("round %d, chunk %d of slot %d: %s", effect.open.round, chunk, effect.done.slot, why)
        return ResultFetched(effect.done, readable=not found)

    async def _apply(self, effect: Apply) -> None:
        root = await (await self._trainers.get()).apply(apply_order(effect.open, effect.result))
        # Members wait for our word and not for our disk: what a power cut takes, `mend` makes anew at the next start.
        await self.driver.feed(Applied(effect.result.round, root))
        async with self._saving:
            await asyncio.to_thread(self.store.sync_blob, root, "state")
            await asyncio.to_thread(self.home.hold, effect.result.round + 1, root)
        await asyncio.to_thread(self._keeping.sweep, self.log.bodies, [root, *self.appeals.desk.state_roots()])
        await self.progress.measure(effect.result.round + 1, root)

    async def _correct(self, effect: MakeCorrection) -> None:
        height = self.driver.state.height  # the core is ahead of the log, and a correction follows from all of it
        await self.agreement.until(lambda: len(self.log.records) >= height)
        corrected = await self._excisions.make(effect)
        root = corrected.body.state_root
        async with self._saving:
            await asyncio.to_thread(self.home.hold, effect.round + 1, root)
        await self.driver.feed(corrected)
        await self.progress.measure(effect.round + 1, root)

    async def excise(self, data: bytes) -> dict[str, object]:
        """Answer a signed request to take work out of the model; only the verifier on duty can record it."""
        if not self.agreement.on_duty:
            raise RefusedError(f"verifier {self.agreement.holder} is on duty for this job; name its API with --api-url")
        return await self._excisions.asked(data)

    async def _hand_on(self, claim: Claim) -> None:
        """A member's claim to who is on duty, should it have been told to us alone."""
        holder = self._verifier_peers.get(self.agreement.holder)
        request = self.job.job_id.encode() + wire.encode(claim)
        if holder is not None:
            with contextlib.suppress(UserError):
                await self._peer.call(holder, ROUND, request, HAND_ON_TIMEOUT_S, wire.RECORDS_BYTES_MAX)

    async def _ask_sealer(self, seal: Seal) -> str:
        """The secret of a sealed round, our own too."""
        own = coordinator.audit_secret(self.rules, seal.round)
        return own if opens(own, seal.secret_hash) else await self._sealers.ask(seal)

    async def reveal(self, secret_hash: str) -> str:
        """Our secret of a round whose draw can be made. Raises ``RefusedError`` where we have none, and
        ``UnreachableError`` while our chain does not show that block.
        """
        seals = (item.body for item in self.log.bodies if isinstance(item.body, Seal))
        seal = next((item for item in seals if item.secret_hash == secret_hash), None)
        secret = coordinator.audit_secret(self.rules, seal.round) if seal is not None else ""
        if seal is None or not opens(secret, secret_hash):
            raise RefusedError("this verifier has no secret with that hash; ask the sealer of the round")
        if await self._blocks.hash_at(seal.audit_height) is None:
            raise UnreachableError(f"block {seal.audit_height} is not there yet; ask again when it is")
        return secret

    async def _rest(self) -> None:
        """The job is over and judged: its processes end. Records and results are still served. Who has come late has
        rounds to apply before.
        """
        await self.follower.caught_up()
        await self.progress.rest()
        await self._replayer.close()

    def audit_rate(self, place: Member, held_wei: Mapping[str, int]) -> AuditRate:
        """How often a member's work is audited in the round in which it has this place, and why."""
        node = self.driver.state.nodes[place.node]
        reward = reward_wei(self.job, place.quota_steps)
        at_risk_wei, decided = held_wei.get(place.node, 0), self._replayer.decides(place.hardware)
        return audit_rate(node.standing, reward, at_risk_wei, self._audit_floor_ppm, decided=decided)

    # ------------------------------------------------------------ records

    async def _keep(self, signed: SignedRecord) -> None:
        """A certified record, whoever proposed it: on the disk, then into the core, then to the members."""
        record = signed.record
        await asyncio.to_thread(self.log.append, [signed])
        # A ruling is known to be booked before its appeal waits no longer: the job might be closed between the two.
        self._on_record(self, record)
        self.appeals.note(record)
        if not self.agreement.state.alone:
            await asyncio.to_thread(self.follower.take, record)
        ours = self._duty.take_certified(record, self.agreement)
        opened, body = self.driver.state.open, record.body
        if isinstance(body, Result) and not ours and opened is not None:
            self._in_background(self.follower.keep_up(opened, body))
        if isinstance(body, Seal | Close) and not ours:
            repeats = self.follower.repeats
            ahead = repeat_ahead(body, repeats, lambda: self.driver.state, self._blocks, self._ask_sealer)
            self._in_background(ahead)
        self._note_times(record)
        if self.agreement.on_duty:
            for to in reachable(self.driver.state.nodes.values(), self._clock() - self.rules.alive_s):
                self._in_background(self._pushing.push(to, record.height))
        if self._duty.done:
            self._in_background(self._rest())

    def _follow_from_disk(self) -> None:
        for record in self.log.bodies:
            self.follower.take(record)

    def _note_times(self, record: Record) -> None:
        if record.body.kind == "open":
            enter_round(record.body.round)
            self.progress.opened_at[record.body.round] = self._clock()
        elif record.body.kind == "close":
            self.progress.closed_at[record.body.round] = self._clock()
            log.info("round %d closes, state %s…", record.body.round, record.body.state_root[:16])

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
