"""The shell around the coordinator's core: it carries out what the core decides for one job."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from eth_account.signers.local import LocalAccount

from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.rounds import coordinator, wire
from anynode.rounds.chain import RecordLog
from anynode.rounds.driver import Driver
from anynode.rounds.effects import (
    Answer,
    Append,
    Apply,
    CoordinatorEffect,
    DrawAudits,
    Fault,
    FetchResult,
    GetBeacon,
    Replay,
    SendRecords,
)
from anynode.rounds.messages import (
    Applied,
    Beacon,
    ChunkDone,
    Commitment,
    CoordinatorMessage,
    DeliveryReceipt,
    Drawn,
    Gone,
    Join,
    Receipt,
    Refused,
    ResultFetched,
    StateReport,
    Sync,
)
from anynode.rounds.packing import RECORDS_MAX
from anynode.rounds.records import Record, SignedRecord
from anynode.rounds.retention import COORDINATOR
from anynode.rounds.statements import statement
from anynode.swarm.payloads import fetch_payloads
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.watch.logs import enter_round
from anynode.worker.home import JobHome
from anynode.worker.keeping import Keeping
from anynode.worker.link import PUSH
from anynode.worker.orders import apply_order
from anynode_contracts.errors import InvariantError, RefusedError, UserError
from anynode_contracts.files import write_aside
from anynode_contracts.signing import SigningDomain, check, sign
from anynode_verifier.blocks import Blocks
from anynode_verifier.replays import Replayer
from anynode_verifier.sampling import accepted_audits, audit_rate, audit_seed, draw

log = logging.getLogger(__name__)

PUSH_TIMEOUT_S = 20.0
BLOCK_PAUSE_S = 1.0
WATCH_PAUSE_S = 0.5
LOSSES = "losses.json"


@dataclass
class Progress:
    """What a person wants to see of a running job."""

    losses: dict[int, float] = field(default_factory=dict)
    opened_at: dict[int, float] = field(default_factory=dict)
    closed_at: dict[int, float] = field(default_factory=dict)

    def round_s(self) -> dict[int, float]:
        """How long each round took that this process has seen from open to close, in seconds."""
        closed = list(self.closed_at.items())
        return {round_: at - self.opened_at[round_] for round_, at in closed if round_ in self.opened_at}


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
        blocks: Blocks,
        trainers: TrainerKeeper,
        replayer: Replayer,
        audit_floor: float,
        on_record: Callable[[JobRun, Record], None],
        is_registered: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job, self.rules, self.home, self.store = job, rules, home, store
        self.progress = Progress(read_losses(home.folder / LOSSES))
        self._peer, self._account, self._domain, self._blocks = peer, account, domain, blocks
        self._trainers, self._replayer, self._audit_floor = trainers, replayer, audit_floor
        self._on_record, self._is_registered, self._clock = on_record, is_registered, clock
        self.log = RecordLog(home.records_path, job.job_id)
        self._keeping = Keeping(home, store, COORDINATOR, [item.root for item in job.files.values()])
        self._to_append: asyncio.Queue[Record] = asyncio.Queue()
        self._pushes: set[asyncio.Task[None]] = set()
        self._measuring = asyncio.Lock()
        self.log.load(domain, [account.address])
        self.driver: Driver[coordinator.State, CoordinatorMessage, CoordinatorEffect] = Driver(
            coordinator.restore(rules, self.log.bodies, clock()),
            coordinator.apply,
            carry_out=self._carry_out,
            failure_key=failure_key,
            clock=clock,
            at_once=self._queue_record,
        )

    async def run(self) -> None:
        """Coordinate until cancelled. Raises ``UserError`` when records cannot be kept (a full disk)."""
        await asyncio.to_thread(self._keeping.note, self.log.bodies, [self.rules.state_root])
        if self.driver.state.round not in self.progress.losses:
            await self._measure(self.driver.state.round, self.driver.state.state_root or self.rules.state_root)
        tasks = [asyncio.create_task(work) for work in (self._write_records(), self._watch(), self.driver.run())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, *self._pushes):
                task.cancel()
            await asyncio.gather(*tasks, *self._pushes, return_exceptions=True)
            await self._trainers.close()
            await self._replayer.close()

    async def _watch(self) -> None:
        """Notice at once that a process has died: its connection closes. A cut line shows only in its silence."""
        before: frozenset[str] = frozenset()
        while True:
            await asyncio.sleep(WATCH_PAUSE_S)
            try:
                connected = frozenset(await self._peer.connected_peers())
            except UserError as error:
                log.debug("connections are not known: %s", error)
                continue
            for name, node in list(self.driver.state.nodes.items()):
                if node.peer in before - connected:
                    await self.driver.feed(Gone(name))
            before = connected

    # ------------------------------------------------------------ what members say

    async def on_message(self, peer_id: str, request: bytes) -> bytes:
        """One message of a member: checked, fed to the core, answered."""
        message = wire.parse_to_coordinator(request)
        self._authenticate(peer_id, message)
        if isinstance(message, Join) and not await asyncio.to_thread(self._is_registered, message.node):
            # A round is booked whole, so a member that nobody can pay would keep the others from their pay.
            raise RefusedError("this node has not handed in its registration; it is admitted once it has")

        def is_reply(effect: CoordinatorEffect) -> bool:
            return isinstance(effect, Answer | SendRecords) and effect.node == message.node

        answer: Receipt | Refused | None = None
        records: tuple[SignedRecord, ...] = ()
        for effect in await self.driver.feed(message, reply=is_reply):
            if isinstance(effect, SendRecords):
                records = tuple(self.log.records[effect.height : effect.height + RECORDS_MAX])
            elif isinstance(effect, Answer):
                answer = effect.message
                if isinstance(answer, Receipt):
                    signature = sign(self._account, self._domain, statement(self.job.job_id, answer))
                    answer = replace(answer, signature=signature)
        return wire.encode_answer(wire.CoordinatorAnswer(answer, records), self.log.roster)

    def _authenticate(self, peer_id: str, message: wire.Said) -> None:
        """What counts is signed by the node key; the rest must come over the node's own libp2p peer."""
        if isinstance(message, Join):
            if message.peer != peer_id:
                raise RefusedError("a node joins over its own libp2p peer; start it with its own identity")
        else:
            known = self.driver.state.nodes.get(message.node)
            if known is None or known.peer != peer_id:
                if isinstance(message, Sync) and known is None:
                    return  # a newcomer catching up, or a member that a restarted coordinator does not know yet
                raise RefusedError("this node has not joined from this peer; join first")
        if isinstance(message, Join | Commitment | ChunkDone | DeliveryReceipt | StateReport):
            check(self._domain, statement(self.job.job_id, message), message.signature, message.node)

    # ------------------------------------------------------------ what the core asks of us

    async def _carry_out(self, effect: CoordinatorEffect) -> None:
        match effect:
            case Append():
                raise InvariantError("records are queued in order, not carried out as tasks")
            case GetBeacon():
                block = await self._blocks.beacon(self.driver.state.head)
                await self.driver.feed(Beacon(effect.round, block.beacon, block.audit_height))
            case Replay():
                await self.driver.feed(await self._replayer.replay(effect))
            case FetchResult():
                source = effect.open.members[effect.done.slot].peer
                digests = [average.result for average in effect.done.averages]
                await fetch_payloads(self._peer, self.store, dict.fromkeys(digests, source))
                await asyncio.to_thread(self.store.sync, digests)
                await self.driver.feed(ResultFetched(effect.done))
            case Apply():
                await self._apply(effect)
            case DrawAudits():
                await self._draw(effect)
            case Answer() | SendRecords():
                pass  # nobody waits for it any more: the member asks again
            case Fault():
                log.error("%s", effect.sentence)

    async def _apply(self, effect: Apply) -> None:
        trainer = await self._trainers.get()
        root = await trainer.apply(apply_order(effect.open, effect.result))
        await asyncio.to_thread(self.home.hold, effect.result.round + 1, root)
        await self.driver.feed(Applied(effect.result.round, root))
        await asyncio.to_thread(self._keeping.sweep, self.log.bodies, [root])
        await self._measure(effect.result.round + 1, root)

    async def _measure(self, round_: int, root: str) -> None:
        """The validation loss of the state that ``round_`` starts from."""
        async with self._measuring:
            try:
                loss = await (await self._trainers.get()).evaluate(root)
            except UserError as error:
                log.warning("the loss before round %d could not be measured: %s", round_, error)
                return
        self.progress.losses[round_] = loss
        await asyncio.to_thread(write_losses, self.home.folder / LOSSES, self.progress.losses)

    async def _rest(self) -> None:
        """The job is over and judged: its processes end. Records and results are still served."""
        async with self._measuring:
            await self._trainers.close()
        await self._replayer.close()

    async def _draw(self, effect: DrawAudits) -> None:
        height = effect.seal.audit_height
        while (block_hash := await self._blocks.hash_at(height)) is None:  # noqa: ASYNC110 (an RPC tells no event)
            await asyncio.sleep(BLOCK_PAUSE_S)
        secret = coordinator.audit_secret(self.rules, effect.open.round)
        audits = accepted_audits(self.log.bodies)
        rates = {
            slot: audit_rate(audits.get(effect.open.members[slot].node, 0), self._audit_floor)
            for slot in effect.candidates
        }
        slots = draw(audit_seed(secret, block_hash), effect.candidates, rates)
        await self.driver.feed(Drawn(effect.open.round, secret, block_hash, slots))

    # ------------------------------------------------------------ records

    async def _write_records(self) -> None:
        """Sign, keep and push records in the order in which the core made them."""
        while True:
            record = await self._to_append.get()
            signed = SignedRecord(record, sign(self._account, self._domain, statement(self.job.job_id, record)))
            await asyncio.to_thread(self.log.append, [signed])
            self._note_times(record)
            self._on_record(self, record)
            self._push(signed)
            state = self.driver.state
            if state.phase is coordinator.Phase.FINISHED and not state.audits and self._to_append.empty():
                await self._rest()

    def _note_times(self, record: Record) -> None:
        if record.body.kind == "open":
            enter_round(record.body.round)
            self.progress.opened_at[record.body.round] = self._clock()
        elif record.body.kind == "close":
            self.progress.closed_at[record.body.round] = self._clock()
            log.info("round %d closes, state %s…", record.body.round, record.body.state_root[:16])

    def _push(self, signed: SignedRecord) -> None:
        """Tell the members that can be reached at once; who misses it asks with the next sync."""
        request = self.job.job_id.encode() + wire.encode_push((signed,), self.log.roster)
        now = self._clock()
        for node in self.driver.state.nodes.values():
            if node.joined and node.reduces and now - node.seen_at < self.rules.alive_s:
                task = asyncio.create_task(self._push_to(node.peer, request))
                self._pushes.add(task)
                task.add_done_callback(self._pushes.discard)

    async def _push_to(self, peer: str, request: bytes) -> None:
        try:
            await self._peer.call(peer, PUSH, request, PUSH_TIMEOUT_S, 64)
        except UserError as error:
            log.debug("no push to %s: %s", peer, error)

    def _queue_record(self, effect: CoordinatorEffect) -> bool:
        if isinstance(effect, Append):
            self._to_append.put_nowait(effect.record)
        return isinstance(effect, Append)


def read_losses(path: Path) -> dict[int, float]:
    """The losses that an earlier run has measured; none when there is no such file or it is damaged."""
    try:
        return {int(round_): float(loss) for round_, loss in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def write_losses(path: Path, losses: Mapping[int, float]) -> None:
    write_aside(path, json.dumps({str(round_): loss for round_, loss in sorted(losses.items())}).encode())


def failure_key(effect: CoordinatorEffect) -> str:
    """The name under which the core waits for this effect; see `coordinator.py`."""
    match effect:
        case GetBeacon():
            return f"beacon {effect.round}"
        case Replay():
            return f"replay {effect.open.round} {effect.slot}"
        case FetchResult():
            return coordinator.fetch_key(effect.done)
        case Apply():
            return f"apply {effect.result.round}"
        case DrawAudits():
            return f"draw {effect.open.round}"
        case _:
            return ""
