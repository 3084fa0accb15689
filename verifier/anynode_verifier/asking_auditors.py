"""Has members do work of others again: a verifier's questions to auditors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from anynode.jobs.job import Job
from anynode.rounds.course import Member
from anynode.rounds.effects import AskAuditor
from anynode.rounds.events import Answered
from anynode.swarm.peer import Peer
from anynode.worker.audit_request import (
    AUDIT,
    AUDIT_REPLY_BYTES_MAX,
    AuditAnswer,
    AuditRequest,
    parse_reply,
)
from anynode_contracts.errors import UserError
from anynode_contracts.signing import SigningDomain
from anynode_verifier.polling import Poll

log = logging.getLogger(__name__)

ROUNDS_TO_ANSWER = 3
"""An auditor has so many rounds' time, for it works when its own rounds leave it some."""
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks auditors of one job, in a verifier's name. ``clock`` counts seconds."""

    job: Job
    peer: Peer
    account: LocalAccount
    domain: SigningDomain
    clock: Callable[[], float]

    async def task(self, effect: AskAuditor) -> Answered:
        """What the drawn auditor answers; that it has not answered, and why, is an answer too."""
        opened, plan = effect.open, effect.plan
        committed = next(item for item in effect.seal.commitments if item.slot == plan.slot)
        request = AuditRequest(
            job=self.job.job_id,
            round=opened.round,
            peer=self.peer.peer_id,
            slot=plan.slot,
            steps=plan.steps,
            micro_batch=committed.micro_batch,
            key=plan.key,
        )
        limit_s = START_S + ROUNDS_TO_ANSWER * (opened.work_s + opened.exchange_s)
        auditor = opened.members[plan.auditor]
        try:
            answer = await self.answer(request, auditor, limit_s)
        except UserError as error:
            log.info("round %d slot %d: auditor %s: %s", opened.round, plan.slot, auditor.node, error)
            return Answered(opened.round, plan.slot, None, reason=f"no answer: {error}"[:500])
        return Answered(opened.round, plan.slot, answer.redone, answer.signature)

    async def answer(self, request: AuditRequest, auditor: Member, limit_s: float) -> AuditAnswer:
        """The signed answer to a request, with its leaves. Raises ``UserError`` when there is none in time."""
        data = await asyncio.to_thread(request.signed, self.account, self.domain)

        def progress(raw: bytes) -> tuple[int, AuditAnswer | None]:
            reply = parse_reply(raw, request, auditor.node, self.domain)
            return reply.done, reply.answer

        poll = Poll(self.peer, self.clock)
        return await poll.until_ready(auditor.peer, AUDIT, data, AUDIT_REPLY_BYTES_MAX, progress, limit_s=limit_s)
