"""A member of a job as a pure state machine: ``apply(state, message, now) -> (state, effects)``.

It follows the coordinator's records, keeps the state of the newest round, and takes part in each round that has a
slot for it. `following` only remembers; `planning` alone decides what is to be done next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from anynode.rounds.events import MemberMessage
from anynode.rounds.following import absorb, take_in
from anynode.rounds.membership import ASKS_S, TOLD_S, Self, State, Step, delivery_key
from anynode.rounds.planning import plan
from anynode.rounds.promises import Promises, recall
from anynode.rounds.records import Record
from anynode.rounds.table import Table

__all__ = ["Self", "State", "apply", "delivery_key", "restore"]


def apply(state: State, message: MemberMessage, now: float) -> Step:
    """Take in one message or event, then plan."""
    state, effects = take_in(state, message, now)
    state, planned = plan(state, now)
    return state, effects + planned


def restore(state: State, records: Iterable[Record], now: float, kept: Mapping[int, Promises] | None = None) -> State:
    """A fresh ``state`` after the records that an earlier run kept, and its promises by round: nothing is planned yet,
    so nothing is under way.
    """
    for record in records:
        state, _ = absorb(state, record, now)
        state = recall(state, record.body, kept or {})
    state = replace(state, asked=Table(), asks_until=now + ASKS_S)
    in_open_round = state.open is not None and state.slot is not None and state.seal is None
    return replace(state, waits_until=now + TOLD_S) if in_open_round else state
