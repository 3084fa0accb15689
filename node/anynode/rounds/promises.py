"""What a member has signed or holds of a round's deliveries, and must know again after a restart. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from anynode.rounds.course import Assign, Open
from anynode.rounds.membership import State
from anynode.rounds.messages import DeliveryReceipt
from anynode.rounds.records import Body
from anynode.rounds.table import Table


@dataclass(frozen=True, slots=True)
class Promises:
    """Of one round: the senders of each chunk to whom a receipt was ``given``; those with which chunks were ``fixed``,
    by attempt; the receipts ``held``.
    """

    given: Mapping[int, frozenset[int]] = field(default_factory=dict)
    fixed: Mapping[int, Mapping[int, tuple[int, ...]]] = field(default_factory=dict)
    held: tuple[DeliveryReceipt, ...] = ()


def recall(state: State, body: Body, kept: Mapping[int, Promises]) -> State:
    """``state``, which has just absorbed ``body``, with what had been promised by then."""
    if isinstance(body, Open) and body.round in kept:
        promised = kept[body.round]
        arrived = {chunk: Table(dict.fromkeys(slots, True)) for chunk, slots in promised.given.items()}
        return replace(state, arrived=arrived, receipts=promised.held)
    if isinstance(body, Assign) and body.round in kept:
        chosen = kept[body.round].fixed.get(body.attempt, {})
        mine = {chunk: senders for chunk, senders in chosen.items() if chunk in state.mine}
        return replace(state, fixed={**mine, **state.fixed})
    return state
