"""A worker that gives one sender no receipt: ``python deaf.py ALSO SENDER ARGUMENTS...``, the last as for a join.

SENDER is the address of the sender's node. ALSO is ``takes`` if chunks of that sender are taken when a witness hands
them on, and ``omits`` if they are left without an answer too, so that the averages leave the sender out. In rounds in
which the sender is itself the first witness, this worker is honest: what is looked at are first witnesses.
"""

from __future__ import annotations

import asyncio
import sys

from anynode.cli.main import run
from anynode.rounds.member import State
from anynode.rounds.messages import Delivery
from anynode.worker import worker
from anynode.worker.exchange import split_delivery
from anynode.worker.serving import SEAL_WAIT_S, Serving

ALSO, SENDER = sys.argv[1:3]


class Deaf(Serving):
    """Hears nothing of one sender; otherwise it works like any other."""

    async def _on_delivery(self, peer_id: str, request: bytes) -> bytes:
        _, delivery, *_ = split_delivery(request)
        if delivery.node != SENDER or not await self._other_witness(delivery):
            return await super()._on_delivery(peer_id, request)
        opened = self._driver().state.open
        handed_on = opened is not None and opened.members[delivery.slot].peer != peer_id
        print(f"round {delivery.round}: chunks {list(delivery.chunks)} from a {'witness' if handed_on else 'sender'}")
        if not handed_on or ALSO == "omits":
            await asyncio.Event().wait()
        return await super()._on_delivery(peer_id, request)

    async def _other_witness(self, delivery: Delivery) -> bool:
        """Whether another than the sender is the witness of these chunks, which we are to average."""
        driver = self._driver()
        await driver.wait_for(lambda state: assigned(state, delivery.round), SEAL_WAIT_S)
        reducers = driver.state.assign.reducers if driver.state.assign is not None else ()
        mine = [item for item in reducers if item.slot == driver.state.slot and item.chunk in delivery.chunks]
        return bool(mine) and all(item.witness != delivery.slot for item in mine)


def assigned(state: State, round_: int) -> bool:
    """Whether the chunks of ``round_`` have their reducers, or the round is over."""
    return state.open is not None and (
        state.open.round > round_ or (state.open.round == round_ and state.assign is not None)
    )


if __name__ == "__main__":
    setattr(worker, "Serving", Deaf)  # noqa: B010 (the product offers no way to put such a worker in)
    sys.exit(run(["join", *sys.argv[3:]]))
