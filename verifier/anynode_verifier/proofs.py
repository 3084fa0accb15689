"""Fraud proofs: what a rejection rests on, as a blob that its verdict names by hash, for its worker and for anybody.

A proof holds what was committed to, the leaves of the trace where the worker has shown them, the first segment that
differs with both values, and the numbers of a tolerant replay where one came first. Whoever has the hardware class does
the segment again from it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from annotated_types import MaxLen
from pydantic import ConfigDict, TypeAdapter, ValidationError

from anynode.blobs.manifest import CHUNK_BYTES_MAX
from anynode.rounds.course import Committed
from anynode.rounds.ids import Address, Hash, Line, Round, Slot, Steps
from anynode.training.messages import Claim, Dispute
from anynode.training.trace import TraceLeaf
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError

LEAVES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class FraudProof:
    """Why the work of a slot is rejected: two replays in its class agree with each other and not with it.

    ``leaves`` are those that the worker has shown, none where it has not, or where they would be too large a blob: then
    ``dispute`` may be None too. ``asked`` says which numbers of a tolerant replay, beyond which threshold, came first.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    job: Hash
    round: Round
    slot: Slot
    node: Address
    hardware: Annotated[str, MaxLen(300)]
    steps: Steps
    update_root: Hash
    trace_root: Hash
    leaves: Annotated[tuple[TraceLeaf, ...], MaxLen(LEAVES_MAX)]
    dispute: Dispute | None
    reason: Line
    asked: Line
    auditor: Address

    def to_bytes(self) -> bytes:
        """Canonical JSON, at most one chunk: it travels like one."""
        data = canonical_json(asdict(self))
        if len(data) <= CHUNK_BYTES_MAX:
            return data
        return canonical_json(asdict(self) | {"leaves": []})

    @classmethod
    def of(cls, job: str, round_: int, committed: Committed, **found: Any) -> FraudProof:
        """The proof about a commitment."""
        return cls(
            job=job,
            round=round_,
            slot=committed.slot,
            node=committed.node,
            hardware=committed.hardware,
            steps=committed.steps,
            update_root=committed.update_root,
            trace_root=committed.trace_root,
            **found,
        )

    def claim(self) -> Claim | None:
        """What its worker claims, with the leaves; None where they are not known."""
        return Claim(self.update_root, self.trace_root, self.leaves) if self.leaves else None


_proof: TypeAdapter[FraudProof] = TypeAdapter(FraudProof)


def parse_proof(data: bytes, job: str, round_: int, committed: Committed) -> FraudProof:
    """A proof that somebody else has made. Raises ``RefusedError`` unless it is one about this commitment."""
    try:
        proof = _proof.validate_json(data)
    except ValidationError as error:
        raise RefusedError("a fraud proof is malformed; the round is replayed whole") from error
    about = (proof.job, proof.round, proof.slot, proof.node, proof.steps, proof.update_root, proof.trace_root)
    wanted = (job, round_, committed.slot, committed.node, committed.steps, committed.update_root, committed.trace_root)
    if about != wanted or proof.hardware != committed.hardware:
        raise RefusedError("a fraud proof is about other work; the round is replayed whole")
    return proof
