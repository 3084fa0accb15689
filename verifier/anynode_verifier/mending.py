"""A state that a coordinator has no longer whole is made anew, from an older one and the results since."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from anynode.rounds.corrections import History, run_to
from anynode.rounds.records import Record
from anynode.training.messages import ApplySpec
from anynode.worker.orders import run_order
from anynode_contracts.errors import UserError

log = logging.getLogger(__name__)


async def mend(
    records: Sequence[Record],
    number: int,
    is_whole: Callable[[str], bool],
    apply: Callable[[ApplySpec], Awaitable[str]],
) -> None:
    """Make sure that the state of ``number`` is here, as it was after these records. ``apply`` takes outer steps and
    stores the last state.

    Raises ``UserError`` when no older state is whole either, or the steps do not lead to the state of the records.
    """
    history = History.of(records)
    place = history.places[number]
    if await asyncio.to_thread(is_whole, place.state_root):
        return
    run = await asyncio.to_thread(run_to, history, number, is_whole)
    if run is None:
        raise UserError(
            f"the state of round {number} is not whole here and no older one is whole; put the verifier's folder back"
            " from a copy"
        )
    log.warning("the state of round %d is made anew, by %d outer steps", number, len(run.steps))
    root = await apply(run_order(run, number, place.cursor, place.returned))
    if root != place.state_root:
        raise UserError(
            f"made anew, the state of round {number} is another than its record names; put the verifier's folder back"
            " from a copy"
        )
