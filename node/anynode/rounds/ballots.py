"""What verifiers of one job say to each other, what their shells tell the core, and what the core asks of them.

Messages that cross the network come first; their form, signatures and certificates are checked at the edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import MaxLen
from pydantic import ConfigDict

from anynode.rounds.ids import Address, Height, Signature, View
from anynode.rounds.records import VERIFIERS_MAX, Record, SignedRecord
from anynode.rounds.votes import Equivocation, Vote

_STRICT = ConfigDict(strict=True, extra="forbid")

Owed = Literal["record", "verdict"]
"""What is due from the verifier on duty: a record of any kind; the verdict on the oldest round that can be judged."""

# ---------------------------------------------------------------- verifier -> all verifiers


@dataclass(frozen=True, slots=True)
class Standing:
    """``node`` is in ``view``, will vote in no lower one, and lacks the record at ``height``.

    ``lock``: a record of that height that enough verifiers have prepared, with their signatures.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["standing"]
    node: Address
    view: View
    height: Height
    lock: SignedRecord | None = None
    signature: Signature = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The verifier on duty in ``view`` proposes the record of ``basis``; its signature is its ``prepare`` vote.

    ``basis`` carries the signatures with which the record was prepared in an earlier view, or none for a new one.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["proposal"]
    node: Address
    view: View
    basis: SignedRecord
    signature: Signature = ""

    @property
    def vote(self) -> Vote:
        return Vote(self.basis.record.height, self.view, "prepare", self.basis.record.hash)


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote. ``proposed`` is the signature of the proposal that is prepared: it shows what was said to whom."""

    __pydantic_config__ = _STRICT
    kind: Literal["ballot"]
    node: Address
    vote: Vote
    proposed: Signature = ""
    signature: Signature = ""


@dataclass(frozen=True, slots=True)
class Proven:
    """These verifiers have signed two records."""

    __pydantic_config__ = _STRICT
    kind: Literal["proven"]
    proofs: Annotated[tuple[Equivocation, ...], MaxLen(VERIFIERS_MAX)]


# ---------------------------------------------------------------- events from the local shell


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What this verifier wants recorded next, when it is on duty. Others may take ``check_s`` to check it."""

    record: Record
    check_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Checking:
    """To see whether a proposed record follows may take so long, here or elsewhere."""

    record: str
    check_s: float


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether a proposed record follows, as far as this verifier can tell."""

    record: str
    follows: bool


@dataclass(frozen=True, slots=True)
class Advanced:
    """The chain is certified, and on this disk, below ``height``; its last certificate is of ``view``."""

    height: int
    head: str
    view: int


@dataclass(frozen=True, slots=True)
class Expected:
    """The verifier on duty owes something new, and has so long for it; forever when nothing is due."""

    what: Owed
    within_s: float


# ---------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Say:
    """Sign, tell every other verifier, and take it in as from one of them. What was promised is on the disk before."""

    message: Standing | Proposal | Ballot | Proven


@dataclass(frozen=True, slots=True)
class Check:
    """See whether this record follows; answer `Checking` and then `Checked`."""

    record: Record


@dataclass(frozen=True, slots=True)
class Certified:
    """Enough have signed: keep it, hand it to everybody, answer `Advanced`."""

    signed: SignedRecord


@dataclass(frozen=True, slots=True)
class Supply:
    """Send a verifier that lags behind the records from ``height`` on."""

    node: str
    height: int


Said = Standing | Proposal | Ballot | Proven
Event = Tick | Wanted | Checking | Checked | Advanced | Expected
Effect = Say | Check | Certified | Supply
