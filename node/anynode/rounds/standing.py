"""What the records have made of a node: newcomer, proven or excluded. Pure: coordinator and auditor count alike."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from anynode.rounds.judgements import Judged, Task
from anynode.rounds.lean import Lean, after_residuals

VOIDS_MAX = 3
"""So many pieces of void work or reducing, without an accepted audit between them, make a newcomer of a node."""


@dataclass(frozen=True, slots=True)
class Standing:
    """``proven``: its updates have weight. ``banned``: why it gets no further place; empty if it does.
    ``audits``: accepted audits since it was last a newcomer. ``voids``: void work since the last accepted audit.
    ``lean``: what its tolerant audits have shown together.

    Of an excluded node: how many ``rejections`` with a fraud proof stand, whether it is excluded for something else too
    (``final``), and how many accepted audits it had ``before``: an appeal that is granted gives them back.
    """

    proven: bool = False
    banned: str = ""
    audits: int = 0
    voids: int = 0
    lean: Lean = field(default_factory=Lean)
    rejections: int = 0
    final: bool = False
    before: int = 0


EVERY_TIME_PPM = 1_000_000


def least_rate_ppm(standing: Standing) -> int:
    """The audit rate that the records alone ask for, in parts per million: 1 for a newcomer, then 1/2, 1/3 and so on
    with each accepted audit; and 1 again for a worker that leans.
    """
    seldom = standing.proven and not standing.lean.crossed
    return -(-EVERY_TIME_PPM // (1 + standing.audits)) if seldom else EVERY_TIME_PPM


def after_admission(standing: Standing) -> Standing:
    """Its work was accepted before the exchange, where nobody was proven; the verdict counts it as an audit."""
    return replace(standing, proven=True)


def after_refusal(standing: Standing, reason: str) -> Standing:
    """Its work was rejected before the exchange. The verdict of the round counts it. The first reason stays: whatever
    follows from it is no news.
    """
    before = standing.before if standing.banned else standing.audits
    banned = standing.banned or reason
    return Standing(banned=banned, rejections=standing.rejections, final=standing.final, before=before)


def after_rejection(standing: Standing, reason: str) -> Standing:
    """It is excluded for something that no appeal takes back."""
    return replace(after_refusal(standing, reason), final=True)


def after_judgement(standing: Standing, item: Judged) -> Standing:
    """Accepted work that was not audited shows nothing, so it changes nothing."""
    match item.outcome:
        case "rejected" if item.proof:
            return replace(after_refusal(standing, item.reason), rejections=standing.rejections + 1)
        case "rejected":
            return standing  # it was excluded before, and may be back by now
        case "void":
            return after_void(standing)
        case _ if standing.banned:
            return standing
        case "accepted" if item.audited:
            lean = after_residuals(standing.lean, item.residuals)
            return Standing(proven=True, audits=standing.audits + 1, lean=lean)
        case _:
            return standing


def after_void(standing: Standing) -> Standing:
    """Something that it has done could not be looked into."""
    if standing.banned:
        return standing
    if standing.voids + 1 >= VOIDS_MAX:
        return Standing(lean=standing.lean)
    return replace(standing, voids=standing.voids + 1)


def after_task(standing: Standing, task: Task) -> Standing:
    """Who has lied as an auditor is excluded like one who has lied about its work."""
    return after_rejection(standing, f"as an auditor: {task.reason}") if task.outcome == "rejected" else standing
