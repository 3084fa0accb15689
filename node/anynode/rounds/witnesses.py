"""To whom a sender turns when a reducer gives it no receipt: the reducer's witness, then further ones. Pure.

All follow from the assignment and the beacon of the round, so that everybody knows who may speak for whom.
"""

from __future__ import annotations

from heapq import nsmallest

from blake3 import blake3

from anynode.rounds.course import Assign, Open

WITNESSES_MAX = 3
"""A reducer leaves out a sender only with so many others, drawn for the two of them, who all keep silent for it."""


def witnesses_of(opened: Open, assign: Assign, reducer: int, sender: int) -> tuple[int, ...]:
    """The slots that may speak for ``sender`` where ``reducer`` does not, in the order in which it turns to them.

    Only where fewer can be reached are they fewer; none in a swarm in which nobody else reduces.
    """
    drawn = next((item.witness for item in assign.reducers if item.slot == reducer), reducer)
    first = () if drawn in (reducer, sender) else (drawn,)
    out = {reducer, sender, *first, *assign.absent}
    others = (slot for slot in assign.accepted if slot not in out and opened.members[slot].reduces)
    seed = f"witness {opened.round} {opened.beacon} {reducer}"
    rest = nsmallest(WITNESSES_MAX - len(first), others, key=lambda slot: blake3(f"{seed} {slot}".encode()).digest())
    return (*first, *rest)
