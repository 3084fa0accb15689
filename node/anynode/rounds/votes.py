"""What verifiers sign of a record, and the proof that one of them has signed two.

A record goes through two phases: ``prepare`` says that it follows from the records before, ``certify`` that enough
verifiers have prepared it. A verifier signs at most one record per height, view and phase; who signs two has lied, and
the two signatures prove it to anybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

from anynode.rounds.ids import Address, Hash, Height, Signature, View

Phase = Literal["prepare", "certify"]
_STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Vote:
    """A verifier's word on the record with hash ``record`` at ``height``, in one view of a job."""

    __pydantic_config__ = _STRICT
    height: Height
    view: View
    phase: Phase
    record: Hash


@dataclass(frozen=True, slots=True)
class Equivocation:
    """``signer`` has signed two votes of one job, height, view and phase for different records."""

    __pydantic_config__ = _STRICT
    job: Hash
    signer: Address
    height: Height
    view: View
    phase: Phase
    records: tuple[Hash, Hash]
    signatures: tuple[Signature, Signature]

    @property
    def votes(self) -> tuple[Vote, Vote]:
        first, second = self.records
        return (
            Vote(self.height, self.view, self.phase, first),
            Vote(self.height, self.view, self.phase, second),
        )
