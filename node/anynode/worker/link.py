"""A member's line to the coordinator: signs what needs a signature, checks what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

from annotated_types import MaxLen
from eth_account.signers.local import LocalAccount
from pydantic import ConfigDict, TypeAdapter, ValidationError

from anynode.jobs.job import JOB_BYTES_MAX, Job
from anynode.rounds import wire
from anynode.rounds.certificates import Verifiers
from anynode.rounds.ids import Address, Hash, Line
from anynode.rounds.messages import ChunkDone, Claim, Commitment, DeliveryReceipt, Elsewhere, Join, Receipt, StateReport
from anynode.rounds.roster import Roster
from anynode.rounds.statements import statement
from anynode.swarm.limits import Rate
from anynode.swarm.peer import Peer
from anynode_contracts.errors import BreachError, Offence, UserError
from anynode_contracts.signing import SigningDomain, recover, sign
from anynode_contracts.typed_data import SignedRegistration

T = TypeVar("T")

ROUND, JOBS, JOB, REGISTER, PUSH, DELIVERY, TRACE = "round", "jobs", "job", "register", "push", "delivery", "trace"
CALL_TIMEOUT_S = 60.0
TELL_TIMEOUT_S = 5.0
ASK_RATE = Rate(per_s=2.0, burst=20)
"""Of what a peer asks once or now and then: the list of jobs, a job, its registration, a trace."""
TALK_RATE = Rate(per_s=100.0, burst=500)
"""Of what is said in every round: messages to the coordinator, each checked for its signature, and new records."""
LIST_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class JobListing:
    """What a coordinator says of a job to those who look for one."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    job_id: Hash
    name: Annotated[str, MaxLen(64)]
    phase: Line
    round: int
    rounds: int
    price_wei_per_sample: Annotated[str, MaxLen(40)]
    members: int


@dataclass(frozen=True, slots=True)
class Registered:
    """The registry index of a node; none while its registration waits for the chain."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    node: Address
    index: int | None


_listings: TypeAdapter[tuple[JobListing, ...]] = TypeAdapter(Annotated[tuple[JobListing, ...], MaxLen(1000)])
_registered: TypeAdapter[Registered] = TypeAdapter(Registered)


class CoordinatorLink:
    """Calls to the coordinator at ``coordinator_peer``, of a network whose records ``verifiers`` sign."""

    def __init__(
        self,
        peer: Peer,
        coordinator_peer: str,
        verifiers: Verifiers,
        domain: SigningDomain,
        account: LocalAccount,
        *,
        others: Sequence[str] = (),
    ) -> None:
        self.peer, self.coordinator_peer, self.verifiers = peer, coordinator_peer, verifiers
        self._handed_in = 0
        self.verifier_peers = frozenset((coordinator_peer, *others))
        self.domain, self._account, self._peers = domain, account, tuple(dict.fromkeys((coordinator_peer, *others)))

    async def jobs(self) -> tuple[JobListing, ...]:
        """The jobs that the coordinator runs. Raises ``UnreachableError`` or ``RefusedError``."""
        data = await self.peer.call(self.coordinator_peer, JOBS, b"", CALL_TIMEOUT_S, LIST_BYTES_MAX)
        with self.peer.blaming(self.coordinator_peer):
            return _checked(_listings, data, "list of jobs")

    async def job(self, job_id: str) -> Job:
        """A job's description, checked against its id."""
        data = await self.peer.call(self.coordinator_peer, JOB, job_id.encode(), CALL_TIMEOUT_S, JOB_BYTES_MAX)
        return Job.from_bytes(data, job_id=job_id)

    async def register(self, registration: SignedRegistration) -> int | None:
        """Hand in a registration, for which the coordinator pays the gas; the node's index once it has one."""
        body = {
            "deadline_s": registration.deadline_s,
            "node": registration.node,
            "payout": registration.payout,
            "signature": "0x" + registration.signature.hex(),
        }
        asked = self._peers[self._handed_in % len(self._peers)]
        self._handed_in += 1  # to each verifier in turn: one of them writes to the chain
        data = await self.peer.call(asked, REGISTER, json.dumps(body).encode(), CALL_TIMEOUT_S, LIST_BYTES_MAX)
        with self.peer.blaming(asked):
            return _checked(_registered, data, "answer to a registration").index

    async def send(self, job_id: str, message: wire.Said, roster: Roster | None = None) -> wire.CoordinatorAnswer:
        """Sign and send one message of a round. A receipt in the answer is checked here, records are not yet.

        ``roster`` has noted the records that are known here; without it none are read.
        """
        request = self._request(job_id, message)
        asked = self.coordinator_peer
        try:
            data = await self.peer.call(asked, ROUND, request, CALL_TIMEOUT_S, wire.RECORDS_BYTES_MAX)
        except UserError:
            self._turn_to_the_next(asked)
            raise
        with self.peer.blaming(asked):
            answer = wire.parse_answer(data, roster or Roster())
            if isinstance(answer.answer, Receipt):
                self._check_receipt(job_id, answer.answer)
        if isinstance(answer.answer, Elsewhere):
            if answer.answer.peer in self._peers and answer.answer.peer != asked:
                self.coordinator_peer = answer.answer.peer
            else:
                self._turn_to_the_next(asked)
            return wire.CoordinatorAnswer(None, answer.records)
        return answer

    async def tell_all(self, job_id: str, message: wire.Said, *, besides: str = "") -> None:
        """Say something to every verifier but the one at ``besides``; who does not answer is not told."""
        request = self._request(job_id, message)
        calls = (
            self.peer.call(peer, ROUND, request, TELL_TIMEOUT_S, wire.RECORDS_BYTES_MAX)
            for peer in self._peers
            if peer != besides
        )
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, BaseException) and not isinstance(answer, UserError):
                raise answer

    def _request(self, job_id: str, message: wire.Said) -> bytes:
        """A message with our signature, where it has one."""
        if isinstance(message, Join | Commitment | ChunkDone | DeliveryReceipt | Claim | StateReport):
            message = replace(message, signature=sign(self._account, self.domain, statement(job_id, message)))
        return job_id.encode() + wire.encode(message)

    def signer_of(self, job_id: str, receipt: Receipt) -> str:
        """Whose receipt it is."""
        return recover(self.domain, statement(job_id, receipt), receipt.signature)

    def _turn_to_the_next(self, asked: str) -> None:
        """The duty to coordinate may have moved on: the next message goes to the next verifier."""
        if asked == self.coordinator_peer:
            place = self._peers.index(asked)
            self.coordinator_peer = self._peers[(place + 1) % len(self._peers)]

    def _check_receipt(self, job_id: str, receipt: Receipt) -> None:
        if self.signer_of(job_id, receipt) not in self.verifiers.addresses:
            raise BreachError(
                "the coordinator's receipt is not signed by a verifier of this network; it is ignored",
                Offence.SIGNATURE,
            )


def _checked(adapter: TypeAdapter[T], data: bytes, what: str) -> T:
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        raise BreachError(f"a {what} is malformed; update AnyNode here or there", Offence.SCHEMA) from error
