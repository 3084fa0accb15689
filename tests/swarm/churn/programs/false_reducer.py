"""A worker that reduces falsely: ``python false_reducer.py VICE ARGUMENTS...``, the last as for a join.

VICE is ``omits`` (it gives every sender its receipt, and averages without one of them) or ``adds`` (it signs the
average of all but one as the one of all). Otherwise it works like any other.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from anynode.cli.main import run
from anynode.rounds.effects import Reduce
from anynode.worker import session
from anynode.worker.worker import Worker

VICE = sys.argv[1]


class FalseReducer(Worker):
    """Leaves one sender out of each average, and says so or not."""

    async def _reduce(self, effect: Reduce) -> None:
        others = [slot for slot in effect.senders if slot != self._driver().state.slot]
        fewer = tuple(slot for slot in effect.senders if slot not in others[:1])
        reduced = await self._exchange.reduce(replace(effect, senders=fewer))
        print(f"round {effect.open.round}: chunk {effect.chunk} without {others[:1]}")
        driver = self._driver()
        if VICE == "adds":
            reduced = replace(reduced, senders=effect.senders)
        elif driver.state.fixed.get(effect.chunk) == effect.senders:  # what its own core would see through
            driver.state = replace(driver.state, fixed={**driver.state.fixed, effect.chunk: fewer})
        await driver.feed(reduced)


if __name__ == "__main__":
    setattr(session, "Worker", FalseReducer)  # noqa: B010 (the product offers no way to put such a worker in)
    sys.exit(run(["join", *sys.argv[2:]]))
