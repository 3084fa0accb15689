"""A commitment that was receipted and is not in the seal: evidence that its member keeps and anybody checks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from anynode.rounds.course import Seal
from anynode.rounds.ids import Hash
from anynode.rounds.messages import Receipt
from anynode.rounds.records import Record
from anynode.rounds.statements import statement
from anynode.rounds.votes import Equivocation
from anynode.rounds.words import broken
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.signing import SigningDomain, recover

EVIDENCE_BYTES_MAX = 4_096


class LeftOut(BaseModel):
    """A coordinator's receipt for a commitment to job ``job`` that the seal of its round does not hold."""

    model_config = ConfigDict(extra="forbid", strict=True)
    job: Hash
    receipt: Receipt

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Evidence from a file. Raises ``UserError`` for anything else."""
        try:
            if len(data) > EVIDENCE_BYTES_MAX:
                raise ValueError(f"it has more than {EVIDENCE_BYTES_MAX} bytes")
            return cls.model_validate_json(data)
        except (ValidationError, ValueError) as error:
            raise UserError(
                "this is no receipt that a member has kept; name a file of its folder `evidence`"
            ) from error

    def to_bytes(self) -> bytes:
        return canonical_json(self.model_dump())

    def proof(
        self, job: str, records: Iterable[Record], verifiers: Iterable[str], domain: SigningDomain
    ) -> Equivocation:
        """What costs a verifier its bond. Raises ``RefusedError`` where this is evidence against nobody."""
        if self.job != job:
            raise RefusedError(f"the receipt is of job {self.job[:16]}…, not of this one; audit that job")
        signer = recover(domain, statement(job, self.receipt), self.receipt.signature)
        if signer not in set(verifiers):
            raise RefusedError("the receipt is not signed by a verifier of this network; it shows nothing")
        seals = [item.body for item in records if isinstance(item.body, Seal) and item.body.round == self.receipt.round]
        if not seals:
            raise RefusedError(f"round {self.receipt.round} has no seal; the receipt shows nothing yet")
        found = broken(job, self.receipt, seals[0])
        if found is None:
            raise RefusedError(f"the seal of round {self.receipt.round} holds that slot; nothing was left out")
        if found.signer != signer:
            raise RefusedError(
                f"the receipt is of verifier {signer}, and {found.signer} had its duty when round "
                f"{self.receipt.round} was sealed; neither has promised what the other said"
            )
        return found


def leaves_out(seal: Seal, receipt: Receipt) -> bool:
    """Whether the seal of its round has nothing of the slot that was receipted."""
    return any(item.slot == receipt.slot for item in seal.missing)
