"""The records of a job: a hash chain that verifiers sign, from which the whole lineage can be audited.

Each round appends, in this order, ``open``, ``seal``, one or more ``assign``, ``result`` and ``close``; its
``verdict`` follows when its audits are final, and a ``ruling`` when an appeal against it was heard. A ``correct`` may
stand in the place of a round. ``begin`` is the first record of a job, ``finish`` the last but for verdicts and rulings.
A record's hash covers its body and the hash before it, not its signature. The bodies are in `course.py` and
`judgements.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated

from annotated_types import MaxLen
from pydantic import ConfigDict, Field

from anynode.rounds.course import Assign, Begin, Close, Finish, Open, Result, Seal
from anynode.rounds.ids import Hash, Height, Signature, View
from anynode.rounds.judgements import Correct, Ruling, Verdict
from anynode.rounds.votes import Equivocation
from anynode_contracts.canonical import canonical_json, hash_hex

VERIFIERS_MAX = 256
GENESIS = "0" * 64
_STRICT = ConfigDict(strict=True, extra="forbid")

Body = Begin | Open | Seal | Assign | Result | Close | Verdict | Correct | Ruling | Finish


@dataclass(frozen=True)
class Record:
    """One link of the chain. It has no slots, so that its hash is computed once."""

    __pydantic_config__ = _STRICT
    job: Hash
    height: Height
    previous: Hash
    body: Annotated[Body, Field(discriminator="kind")]

    @cached_property
    def hash(self) -> str:
        return hash_hex(canonical_json(asdict(self)))


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A certified record: the EIP-712 signatures of enough verifiers over its place, its hash and one ``view``.

    ``proofs`` show why verifiers of the network do not count, where without them too few would have signed.
    """

    __pydantic_config__ = _STRICT
    record: Record
    view: View
    signatures: Annotated[tuple[Signature, ...], MaxLen(VERIFIERS_MAX)]
    proofs: Annotated[tuple[Equivocation, ...], MaxLen(VERIFIERS_MAX)] = ()
