"""A worker's openings: the traces of its rounds, and states of them, kept or regenerated for verifiers.

States are opened only after their round was sealed, only to the peer that a verifier of the network has signed for,
one request at a time, and only the newest are kept on disk. A worker that has been asked once keeps the states of its
rounds from then on, each until its verdict; one whose class is audited exactly is never asked, and keeps none. What is
not kept is regenerated in a training process of its own, which lives as long as it has something to do, so that rounds
go on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.rounds.course import Open, Seal
from anynode.rounds.judgements import Verdict
from anynode.rounds.records import Record
from anynode.swarm.frames import Code, PeerRefusedError
from anynode.swarm.limits import Rate
from anynode.swarm.payloads import serve_payloads
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.training.kept import KeptStates
from anynode.training.messages import Opened, Progress, WorkSpec
from anynode.training.opened import KIND, open_kept, save_vectors
from anynode.training.trace import TraceLeaf
from anynode.worker.home import JobHome
from anynode.worker.link import CoordinatorLink
from anynode.worker.open_request import OpenAnswer, OpenRequest, encode_answer
from anynode.worker.orders import work_order
from anynode.worker.pending import Pending, make_room
from anynode.worker.signed_request import REQUEST_BYTES_MAX
from anynode.worker.states import OPENED, fetch_state
from anynode.worker.traces import Traces
from anynode_contracts.errors import RefusedError

log = logging.getLogger(__name__)

OPEN = "open"
SEAL_RETRY_S = 1.0
OPEN_RATE = Rate(per_s=2.0, burst=20)


@dataclass(kw_only=True)
class _Regeneration(Pending[Opened]):
    """One opening, of ``total`` steps; its states, once they are there, are the blobs ``digests``, for ``peer``."""

    peer: str
    total: int
    digests: frozenset[str] = field(default_factory=frozenset)


class Openings:
    """Keeps, regenerates and serves the states of one job's work. ``openers`` starts the process to regenerate them,
    while it has the ``turn``; ``records`` are those known here, by which the work is dealt again.
    """

    def __init__(
        self,
        *,
        job: Job,
        home: JobHome,
        store: BlobStore,
        peer: Peer,
        link: CoordinatorLink,
        node: str,
        openers: TrainerKeeper,
        turn: asyncio.Lock,
        records: Callable[[], Iterable[Record]],
    ) -> None:
        self._job, self._store, self._peer, self._link, self._node = job, store, peer, link, node
        self._folder, self._openers, self._records = home.folder / "opened", openers, records
        self.traces = Traces(home.folder / "traces")
        self._turn = turn
        self._kept_folder = home.folder / "kept"
        self._kept, self._asked = KeptStates(self._kept_folder), False
        self._under_way: dict[tuple[int, tuple[int, ...]], _Regeneration] = {}

    async def serve(self) -> None:
        """Answer verifiers from now on."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        for record in self._records():
            self.note(record)
        await self._peer.serve(OPEN, self._on_open, limit_bytes=REQUEST_BYTES_MAX, rate=OPEN_RATE, concurrency=2)
        await serve_payloads(self._peer, BlobStore(self._folder), allow=self._may_have, service=OPENED)

    def note(self, record: Record) -> None:
        """One more record: with its verdict, a round's states have been asked for, or never will be."""
        if isinstance(record.body, Verdict):
            self._kept.forget(record.body.round)
            mine = (item for item in record.body.judged if item.node == self._node)
            self._asked |= any(item.evidence == "tolerant" for item in mine)

    @property
    def keeps_states_in(self) -> Path | None:
        """Where work is to leave its states; None while no verifier has asked for any."""
        return self._kept_folder if self._asked else None

    async def close(self) -> None:
        """Stop what is under way."""
        for item in self._under_way.values():
            item.task.cancel()
        await asyncio.gather(*(item.task for item in self._under_way.values()), return_exceptions=True)
        await self._openers.close()
        await asyncio.to_thread(self._kept.tidy)

    def _may_have(self, peer: str, digest: str) -> bool:
        return any(item.peer == peer and digest in item.digests for item in self._under_way.values())

    async def _on_open(self, peer: str, data: bytes) -> bytes:
        request = await asyncio.to_thread(
            OpenRequest.parse, data, peer, self._link.domain, self._link.verifiers.addresses
        )
        if request.job != self._job.job_id:
            raise RefusedError("this node works on another job; it opens no states of this one")
        self._asked = True
        key = request.round, request.segments
        if key not in self._under_way:
            self._begin(request)
        item = self._under_way[key]
        if not item.task.done():
            return encode_answer(OpenAnswer(item.done, item.total))
        try:
            opened = await item.task
        except BaseException:
            del self._under_way[key]  # another request tries again
            raise
        item.peer = peer
        return encode_answer(OpenAnswer(item.total, item.total, opened))

    def _begin(self, request: OpenRequest) -> None:
        """Start to regenerate, and forget the oldest of what has been opened."""
        make_room(self._under_way)
        spec = self._order(request.round)
        task = asyncio.create_task(self._regenerate(request, spec))
        self._under_way[request.round, request.segments] = _Regeneration(task, peer=request.peer, total=spec.steps)

    async def _regenerate(self, request: OpenRequest, spec: WorkSpec) -> Opened:
        key = request.round, request.segments
        log.info("round %d: segments %s are opened to a verifier", request.round, request.segments)
        leaves = await asyncio.to_thread(self.traces.of, request.round)
        async with self._turn:
            opened = await asyncio.to_thread(self._from_kept, request, leaves)
            if opened is None:
                opened = await self._done_again(request, spec, leaves)
            self._under_way[key].digests = await asyncio.to_thread(_digests, BlobStore(self._folder), opened)
            await asyncio.to_thread(self._drop_others)
            return opened

    def _from_kept(self, request: OpenRequest, leaves: Sequence[TraceLeaf]) -> Opened | None:
        """The states from the disk, where all of them are kept."""
        store = BlobStore(self._folder)
        recall = self._kept.recall(request.round, len(self._job.training.inner_vectors))
        return open_kept(leaves, request.segments, lambda vectors: save_vectors(store, vectors), recall)

    async def _done_again(self, request: OpenRequest, spec: WorkSpec, leaves: Sequence[TraceLeaf]) -> Opened:
        def progress(at: Progress) -> None:
            self._under_way[request.round, request.segments].done = at.done

        await fetch_state(self._peer, self._store, spec.state_root, [self._link.coordinator_peer])
        try:
            trainer = await self._openers.get()
            return await trainer.open_segments(
                spec, leaves, request.segments, self._folder, kept=self._kept_folder, on_progress=progress
            )
        finally:
            await self._openers.close()

    def _drop_others(self) -> None:
        """Delete what no opening that is kept names: the disk holds a few, whatever is asked for."""
        kept = {digest for item in self._under_way.values() for digest in item.digests}
        for part in self._folder.iterdir():
            for path in part.iterdir():
                if part.name + path.name not in kept:
                    path.unlink(missing_ok=True)

    def _order(self, round_: int) -> WorkSpec:
        """The work of a round as it was sealed."""
        opened: Open | None = None
        for record in self._records():
            if isinstance(record.body, Open) and record.body.round == round_:
                opened = record.body
            if isinstance(record.body, Seal) and record.body.round == round_ and opened is not None:
                for item in record.body.commitments:
                    if item.node == self._node:
                        return work_order(self._job, opened, item.slot, item.steps, item.micro_batch)
        # The verifier asks as soon as it has sealed; the record may still be on its way here.
        sentence = f"no work of this node is known to be sealed in round {round_}; ask again in a moment"
        raise PeerRefusedError(sentence, code=Code.BUSY, retry_after_s=SEAL_RETRY_S)


def _digests(store: BlobStore, opened: Opened) -> frozenset[str]:
    """Every blob of what was opened."""
    roots = [state.root for state in opened.states]
    return frozenset(roots).union(chunk.hash for root in roots for chunk in store.manifest(root, KIND).chunks)
