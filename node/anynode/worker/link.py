"""A member's line to the coordinator: signs what needs a signature, checks what comes back."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

from annotated_types import MaxLen
from eth_account.signers.local import LocalAccount
from pydantic import ConfigDict, TypeAdapter, ValidationError

from anynode.jobs.job import JOB_BYTES_MAX, Job
from anynode.rounds import wire
from anynode.rounds.ids import Address, Hash, Line
from anynode.rounds.messages import ChunkDone, Commitment, DeliveryReceipt, Join, Receipt, StateReport
from anynode.rounds.roster import Roster
from anynode.rounds.statements import statement
from anynode.swarm.peer import Peer
from anynode_contracts.errors import BreachError, Offence, RefusedError
from anynode_contracts.signing import SigningDomain, check, sign
from anynode_contracts.typed_data import SignedRegistration

T = TypeVar("T")

ROUND, JOBS, JOB, REGISTER, PUSH, DELIVERY, TRACE = "round", "jobs", "job", "register", "push", "delivery", "trace"
CALL_TIMEOUT_S = 60.0
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
    """Calls to the coordinator at ``coordinator_peer``, whose records are signed by one of ``coordinators``."""

    def __init__(
        self,
        peer: Peer,
        coordinator_peer: str,
        coordinators: tuple[str, ...],
        domain: SigningDomain,
        account: LocalAccount,
    ) -> None:
        self.peer, self.coordinator_peer, self.coordinators = peer, coordinator_peer, coordinators
        self.domain, self._account = domain, account

    async def jobs(self) -> tuple[JobListing, ...]:
        """The jobs that the coordinator runs. Raises ``UnreachableError`` or ``RefusedError``."""
        data = await self.peer.call(self.coordinator_peer, JOBS, b"", CALL_TIMEOUT_S, LIST_BYTES_MAX)
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
        data = await self.peer.call(
            self.coordinator_peer, REGISTER, json.dumps(body).encode(), CALL_TIMEOUT_S, LIST_BYTES_MAX
        )
        return _checked(_registered, data, "answer to a registration").index

    async def send(self, job_id: str, message: wire.Said, roster: Roster | None = None) -> wire.CoordinatorAnswer:
        """Sign and send one message of a round. A receipt in the answer is checked here, records are not yet.

        ``roster`` has noted the records that are known here; without it none are read.
        """
        if isinstance(message, Join | Commitment | ChunkDone | DeliveryReceipt | StateReport):
            signature = sign(self._account, self.domain, statement(job_id, message))
            message = replace(message, signature=signature)
        request = job_id.encode() + wire.encode(message)
        data = await self.peer.call(self.coordinator_peer, ROUND, request, CALL_TIMEOUT_S, wire.RECORDS_BYTES_MAX)
        with self.peer.blaming(self.coordinator_peer):
            answer = wire.parse_answer(data, roster or Roster())
            if isinstance(answer.answer, Receipt):
                self._check_receipt(job_id, answer.answer)
        return answer

    def _check_receipt(self, job_id: str, receipt: Receipt) -> None:
        for coordinator in self.coordinators:
            try:
                return check(self.domain, statement(job_id, receipt), receipt.signature, coordinator)
            except RefusedError:
                continue
        raise BreachError(
            "the coordinator's receipt is not signed by a verifier of this network; it is ignored", Offence.SIGNATURE
        )


def _checked(adapter: TypeAdapter[T], data: bytes, what: str) -> T:
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        raise RefusedError(f"the coordinator's {what} is malformed; update AnyNode here or there") from error
