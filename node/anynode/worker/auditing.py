"""A member's audits: work of others done again for a verifier, in a process of its own, and signed.

A task begins with a verifier's signature and is about a round that the records here know: the member deals its samples
itself. One task is worked on at a time, behind what its own rounds and openings need, and only the newest few are kept;
whoever asks for more is told to come back later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from eth_account.signers.local import LocalAccount

from anynode.blobs.store import BlobStore
from anynode.jobs.job import Job
from anynode.rounds.course import Open
from anynode.rounds.records import Record
from anynode.swarm.frames import Code, PeerRefusedError
from anynode.swarm.limits import Rate
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Progress, WorkSpec
from anynode.worker.audit_request import (
    AUDIT,
    AuditAnswer,
    AuditReply,
    AuditRequest,
    encode_reply,
    signed_answer,
)
from anynode.worker.link import CoordinatorLink
from anynode.worker.orders import work_order
from anynode.worker.pending import Pending, make_room
from anynode.worker.signed_request import REQUEST_BYTES_MAX
from anynode.worker.states import fetch_state
from anynode_contracts.errors import RefusedError

log = logging.getLogger(__name__)

AUDIT_RATE = Rate(per_s=2.0, burst=20)


class Auditing:
    """Does audit tasks of one job. ``trainers`` starts the process for them, while it has the ``turn``; ``records`` are
    those known here.
    """

    def __init__(
        self,
        *,
        job: Job,
        store: BlobStore,
        peer: Peer,
        link: CoordinatorLink,
        account: LocalAccount,
        trainers: TrainerKeeper,
        turn: asyncio.Lock,
        records: Callable[[], Iterable[Record]],
    ) -> None:
        self._job, self._store, self._peer, self._link = job, store, peer, link
        self._account, self._trainers, self._turn, self._records = account, trainers, turn, records
        self._tasks: dict[AuditRequest, Pending[AuditAnswer]] = {}

    async def serve(self) -> None:
        """Take tasks from now on."""
        await self._peer.serve(AUDIT, self._on_task, limit_bytes=REQUEST_BYTES_MAX, rate=AUDIT_RATE, concurrency=2)

    async def close(self) -> None:
        """Stop what is under way."""
        for item in self._tasks.values():
            item.task.cancel()
        await asyncio.gather(*(item.task for item in self._tasks.values()), return_exceptions=True)
        await self._trainers.close()

    async def _on_task(self, peer: str, data: bytes) -> bytes:
        verifiers = self._link.verifiers.addresses
        request = await asyncio.to_thread(AuditRequest.parse, data, peer, self._link.domain, verifiers)
        if request.job != self._job.job_id:
            raise RefusedError("this node works on another job; it audits no work of this one")
        task = replace(request, signature="")
        if task not in self._tasks:
            self._begin(task)
        item = self._tasks[task]
        if not item.task.done():
            return encode_reply(AuditReply(item.done, request.steps))
        try:
            answer = await item.task
        except BaseException:
            del self._tasks[task]  # another request tries again
            raise
        return encode_reply(AuditReply(request.steps, request.steps, answer))

    def _begin(self, task: AuditRequest) -> None:
        """Start a task, and forget the oldest that are done."""
        make_room(self._tasks)
        spec = self._order(task)
        self._tasks[task] = Pending(asyncio.create_task(self._do(task, spec)))

    def _order(self, task: AuditRequest) -> WorkSpec:
        """The work as the records deal it. The task says how much of it, and knows nothing of what became of it."""
        for record in self._records():
            opened = record.body
            if isinstance(opened, Open) and opened.round == task.round:
                fits = task.slot < len(opened.members) and 0 < task.steps <= opened.members[task.slot].quota_steps
                if not fits:
                    raise RefusedError("the audit task names work that was not dealt in its round")
                return work_order(self._job, opened, task.slot, task.steps, task.micro_batch)
        raise PeerRefusedError("the round to audit is not known here yet", code=Code.BUSY, retry_after_s=1.0)

    async def _do(self, task: AuditRequest, spec: WorkSpec) -> AuditAnswer:
        def progress(at: Progress) -> None:
            self._tasks[task].done = at.done

        async with self._turn:
            log.info("round %d: auditing %d steps of slot %d", task.round, task.steps, task.slot)
            await fetch_state(self._peer, self._store, spec.state_root, [self._link.coordinator_peer])
            try:
                trainer = await self._trainers.get()
                found = await trainer.recompute(spec, task.key, on_progress=progress)
            finally:
                if not self._waiting(task):
                    await self._trainers.close()
        answer = AuditAnswer(found.leaves, found.update_root, found.proof)
        return await asyncio.to_thread(signed_answer, task, answer, self._account, self._link.domain)

    def _waiting(self, task: AuditRequest) -> bool:
        """Whether another task is to be done, so that starting a process for each is spared."""
        return any(other != task and not item.task.done() for other, item in self._tasks.items())
