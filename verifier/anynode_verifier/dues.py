"""How long a verifier on duty may take to what it owes the others, as far as they can see what it could do.

A limit that is too short for an honest one does no harm: the duty goes round, and each time with twice as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from anynode.rounds import coordinator
from anynode.rounds.audits import Audit
from anynode.rounds.ballots import Expected
from anynode.rounds.course import Assign, Open
from anynode.rounds.giving import look_s
from anynode.rounds.judgements import Verdict
from anynode.rounds.records import Body
from anynode.rounds.standing import EVERY_TIME_PPM
from anynode_verifier.agreement import Agreement
from anynode_verifier.asking_auditors import ROUNDS_TO_ANSWER
from anynode_verifier.blocks import Blocks
from anynode_verifier.withholding import REVEAL_S

DUE_MARGIN_S = 60.0
"""What blocks, votes and calls may add to a round's own deadlines."""
OPENING_S = 600.0
"""Between two rounds. Who of the members is ready is known to the holder of the duty alone. It is long beside what
members need to fetch a state and report it, and where too few are there the duty goes round to no harm: they ask all
verifiers for who has it.
"""
REPLAYS_EACH = 3
"""Each audited work: by the holder of the duty, a second time where that has found a difference, and by who signs."""


def record_due_s(state: coordinator.State) -> float:
    """How long the next record may take."""
    if state.phase is coordinator.Phase.FINISHED:
        return math.inf
    if state.phase is coordinator.Phase.WAITING or state.open is None:
        return OPENING_S
    replays = 0
    if state.phase is coordinator.Phase.ADMITTING and state.seal is not None:
        replays = REPLAYS_EACH * _newcomers(state, (item.slot for item in state.seal.commitments))
    return DUE_MARGIN_S + (1 + replays) * _round_s(state.open)


def check_s(body: Body, state: coordinator.State) -> float:
    """How long those may take who repeat the work that a record judges before they sign it. ``state`` is of its round,
    or a later one.
    """
    longest_s = state.rules.work_s + state.rules.exchange_s
    match body:
        case Assign(attempt=0):
            return longest_s * _newcomers(state, body.accepted)
        case Verdict():
            repeated = (item.evidence in ("exact", "tolerant") or item.outcome == "void" for item in body.judged)
            looks = any(item.outcome != "void" for item in body.reductions)
            asked_s = 0.0 if body.secret else REVEAL_S
            return longest_s * sum(repeated) + looks * look_s(longest_s) + asked_s
        case _:
            return 0.0


def verdict_due_s(audit: Audit) -> float:
    """How long the verdict on a round may take once its draw can be made: auditors have their time to answer, and the
    work that its rates let expect, and one more, is replayed. One replay takes no longer than the round has lasted.
    """
    replays = REPLAYS_EACH * (1 + math.ceil(sum(audit.seal.rates_ppm) / EVERY_TIME_PPM))
    return DUE_MARGIN_S + (ROUNDS_TO_ANSWER + replays) * _round_s(audit.open)


async def watch_verdicts(agreement: Agreement, blocks: Blocks, state: Callable[[], coordinator.State]) -> None:
    """Tell the agreement, until cancelled, from when on the verdict on the oldest closed round is due. Others may come
    before it: that one is not forgotten for them.
    """
    while True:
        await agreement.until(lambda: bool(state().audits))
        number, audit = next(iter(state().audits.items()))
        await blocks.see(audit.seal.audit_height)
        agreement.feed(Expected("verdict", verdict_due_s(audit)))
        await agreement.until(lambda number=number: number not in state().audits)  # type: ignore[misc]
        agreement.feed(Expected("verdict", math.inf))


def _newcomers(state: coordinator.State, slots: Iterable[int]) -> int:
    """How many of these slots of the round under way have to be replayed before it goes on."""
    members = state.open.members if state.open is not None else ()
    return sum(slot < len(members) and not members[slot].proven for slot in slots)


def _round_s(opened: Open) -> int:
    return opened.work_s + opened.exchange_s
