"""A verifier asks a member to do another's work again, and the member answers how far it is: both, on the wire.

The request says where to begin and what to do, never what was claimed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, ClassVar

from annotated_types import Ge, Le, MinLen
from eth_account.signers.local import LocalAccount
from pydantic import ConfigDict, TypeAdapter, ValidationError

from anynode.rounds.ids import Hash, MicroBatch, Signature, Slot
from anynode.rounds.judgements import Redone
from anynode.rounds.statements import answer_statement, struct
from anynode.training.fields import Steps
from anynode.training.messages import Leaves
from anynode.training.trace import trace_root
from anynode.worker.signed_request import SignedRequest
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError, Offence
from anynode_contracts.signing import SigningDomain, Statement, check, sign

AUDIT = "audit"
AUDIT_REPLY_BYTES_MAX = 16 << 20
_STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class AuditRequest(SignedRequest):
    """Do the first ``steps`` steps of the work that was dealt to ``slot`` in a round, ``micro_batch`` samples at a
    time, and fingerprint the states on the way under ``key``.
    """

    what: ClassVar[str] = "request to audit"
    slot: Slot
    steps: Steps
    micro_batch: MicroBatch
    key: Hash

    @property
    def statement(self) -> Statement:
        return struct(
            "AuditTask",
            self.job,
            ("round", "uint64", self.round),
            ("peer", "string", self.peer),
            ("slot", "uint32", self.slot),
            ("steps", "uint32", self.steps),
            ("microBatch", "uint32", self.micro_batch),
            ("key", "bytes32", bytes.fromhex(self.key)),
        )


@dataclass(frozen=True, slots=True)
class AuditAnswer:
    """What the work gives, signed by the auditor's node key."""

    __pydantic_config__ = _STRICT
    leaves: Annotated[Leaves, MinLen(1)]
    update_root: Hash
    proof: Hash
    signature: Signature = ""

    @property
    def redone(self) -> Redone:
        return Redone(self.update_root, trace_root(self.leaves), self.proof)


@dataclass(frozen=True, slots=True)
class AuditReply:
    """``answer`` when it is ready; until then, how many of ``total`` steps have been done."""

    __pydantic_config__ = _STRICT
    done: Annotated[int, Ge(0), Le(1_000_000)]
    total: Steps
    answer: AuditAnswer | None = None


_reply: TypeAdapter[AuditReply] = TypeAdapter(AuditReply)


def encode_reply(reply: AuditReply) -> bytes:
    """Canonical JSON; `parse_reply` reads it."""
    return canonical_json(asdict(reply))


def signed_answer(
    request: AuditRequest, answer: AuditAnswer, account: LocalAccount, domain: SigningDomain
) -> AuditAnswer:
    """The answer under the auditor's signature."""
    return replace(answer, signature=sign(account, domain, _said(request, answer)))


def parse_reply(data: bytes, request: AuditRequest, auditor: str, domain: SigningDomain) -> AuditReply:
    """An auditor's reply to ``request``. Raises ``BreachError`` unless it is well-formed and its answer signed."""
    try:
        reply = _reply.validate_json(data)
    except ValidationError as error:
        raise BreachError("a malformed answer to an audit task is not used", Offence.SCHEMA) from error
    if reply.answer is not None:
        check(domain, _said(request, reply.answer), reply.answer.signature, auditor)
    return reply


def _said(request: AuditRequest, answer: AuditAnswer) -> Statement:
    r = request
    return answer_statement(r.job, answer.redone, round_=r.round, slot=r.slot, steps=r.steps, key=r.key)
