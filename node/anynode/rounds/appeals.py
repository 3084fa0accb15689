"""Appeals: a rejected worker asks, once for each rejection, that its work is replayed once more. Pure.

Whoever coordinates has it replayed whole in a fresh process, and records what came of it; no verifier signs that record
before its own replay says the same. A granted appeal takes the rejection back, an upheld one leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from anynode.rounds.ids import Address, Round, Signature
from anynode.rounds.judgements import Excision, Ruling, Verdict
from anynode.rounds.records import Record
from anynode.rounds.standing import Standing, after_refusal, after_rejection
from anynode.rounds.table import Table
from anynode_contracts.errors import BreachError, Offence

APPEAL_BYTES_MAX = 1024
APPEAL_ROUNDS = 32
"""So many rounds after the rejected one an appeal is taken in: its start state is kept for as long."""
APPEALS_MAX = 64
"""So many appeals wait at a time in one job; they are heard one by one, when no audit waits."""


@dataclass(frozen=True, slots=True)
class Appeal:
    """The worker ``node`` asks that its rejected work of ``round`` is replayed once more."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    kind: Literal["appeal"]
    node: Address
    round: Round
    signature: Signature = ""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Rejected work, and what an appeal against it has come to, if there was one."""

    node: str
    slot: int
    reason: str
    proof: str
    ruling: Ruling | None = None


Rejections = Table[tuple[int, str], Rejection]
"""By round and node: each has one slot in a round."""

_appeal: TypeAdapter[Appeal] = TypeAdapter(Appeal)


def parse_appeal(data: bytes) -> Appeal:
    """An appeal as it came. Raises ``BreachError`` unless it is well-formed and within its size."""
    if len(data) > APPEAL_BYTES_MAX:
        raise BreachError(f"an appeal has at most {APPEAL_BYTES_MAX} bytes; update AnyNode", Offence.OVERSIZE)
    try:
        return _appeal.validate_json(data)
    except ValidationError as error:
        raise BreachError("this is no well-formed appeal; make one with `anynode appeal`", Offence.SCHEMA) from error


def note(rejections: Rejections, record: Record) -> Rejections:
    """The rejections after one more record."""
    match record.body:
        case Verdict() as verdict:
            for item in verdict.judged:
                if item.rejected:
                    found = Rejection(item.node, item.slot, item.reason, item.proof)
                    rejections = rejections.set((verdict.round, item.node), found)
        case Ruling() as ruling:
            key = ruling.round, ruling.node
            rejections = rejections.set(key, replace(rejections[key], ruling=ruling))
        case _:
            pass
    return rejections


def refusal(rejections: Rejections, appeal: Appeal, number: int, standing: Standing) -> str:
    """Why an appeal is not taken in while ``number`` is the round under way, in one sentence; empty if it is."""
    rejection = rejections.get((appeal.round, appeal.node))
    if rejection is None:
        return f"no verdict has rejected work of this node in round {appeal.round}; see `anynode status`"
    if rejection.ruling is not None:
        outcome = "taken back" if rejection.ruling.granted else "upheld"
        return (
            f"an appeal against the rejection in round {appeal.round} was heard already (the rejection was {outcome}); "
            "there is one for each rejection"
        )
    if not rejection.proof and standing.banned:
        return f"the work of round {appeal.round} was rejected for an earlier rejection; appeal against that one first"
    if number - appeal.round > APPEAL_ROUNDS:
        return f"round {appeal.round} is more than {APPEAL_ROUNDS} rounds ago; its start state is no longer kept"
    return ""


def objection(rejection: Rejection | None, ruling: Ruling, standing: Standing) -> str:
    """What is wrong with a ruling on ``rejection`` at this place of the chain; empty where nothing is."""
    if rejection is None or rejection.slot != ruling.slot:
        return "rules on work that was not rejected"
    if rejection.ruling is not None:
        return "rules a second time on one rejection"
    if not rejection.proof and standing.banned:
        return "rules on what follows from an earlier rejection before that one"
    if ruling.granted and not ruling.heard:
        return "takes back what nobody has replayed"
    if bool(ruling.mistaken) != ruling.granted:
        return "names a mistaken verifier of a rejection that it upholds, or none of one that it takes back"
    return ""


def stands(rejections: Rejections, round_: int, node: str) -> bool:
    """Whether a verdict has rejected this work, and no appeal has taken that back."""
    rejection = rejections.get((round_, node))
    return rejection is not None and not (rejection.ruling is not None and rejection.ruling.granted)


def after_excision(standing: Standing, rejections: Rejections, item: Excision) -> Standing:
    """Work is taken out of the model. While a verdict's rejection of it stands, an appeal takes the exclusion back."""
    rejected = stands(rejections, item.round, item.node)
    return (after_refusal if rejected else after_rejection)(standing, item.reason)


def after_ruling(standing: Standing, rejection: Rejection, *, granted: bool) -> Standing:
    """A granted appeal takes one rejection back, and the work counts as an accepted audit; whatever else stands against
    the node stays.
    """
    if not granted:
        return standing
    if not standing.banned:
        return replace(standing, proven=True, audits=standing.audits + 1)
    left = standing.rejections - 1 if rejection.proof else standing.rejections
    if left > 0 or standing.final:
        return replace(standing, rejections=left)
    return Standing(proven=True, audits=standing.before + 1)
