"""How long a verifier on duty may take to what it owes the others, as far as they can see what it could do.

A limit that is too short for an honest one does no harm: the duty goes round, and each time with twice as long.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable

from anynode.rounds import coordinator
from anynode.rounds.audits import Audit
from anynode.rounds.ballots import Expected
from anynode.rounds.course import Open
from anynode.rounds.standing import EVERY_TIME_PPM
from anynode_contracts.errors import UnreachableError
from anynode_verifier.agreement import Agreement
from anynode_verifier.asking_auditors import ROUNDS_TO_ANSWER
from anynode_verifier.blocks import BLOCK_PAUSE_S, Blocks

DUE_MARGIN_S = 60.0
"""What blocks, votes and calls may add to a round's own deadlines."""
OPENING_S = 600.0
"""Between two rounds. Who of the members is ready is known to the holder of the duty alone. It is long beside what
members need to fetch a state and report it, and where too few are there the duty goes round to no harm: they ask all
verifiers for who has it.
"""
REPLAYS_EACH = 2
"""Each audited work: the second replay is for what the first has found to differ."""


def record_due_s(state: coordinator.State) -> float:
    """How long the next record may take."""
    if state.phase is coordinator.Phase.FINISHED:
        return math.inf
    if state.phase is coordinator.Phase.WAITING or state.open is None:
        return OPENING_S
    return DUE_MARGIN_S + _round_s(state.open)


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
        await _block_is_there(blocks, audit.seal.audit_height)
        agreement.feed(Expected("verdict", verdict_due_s(audit)))
        await agreement.until(lambda number=number: number not in state().audits)  # type: ignore[misc]
        agreement.feed(Expected("verdict", math.inf))


async def _block_is_there(blocks: Blocks, height: int) -> None:
    while True:
        with contextlib.suppress(UnreachableError):
            await blocks.wait_for(height)
            return
        await asyncio.sleep(BLOCK_PAUSE_S)


def _round_s(opened: Open) -> int:
    return opened.work_s + opened.exchange_s
