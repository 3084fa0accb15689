"""``anynode join`` with an attack: ``python cheating_worker.py ATTACK [options of anynode join]``.

ATTACK names a function in a file of this folder: ``noise:cheat`` is `cheat` in `test_attack_noise.py`, which says what
is committed to instead of honest work. ``noise:cheat@2``: before round 2 it is honest. It prints each round in which
it has cheated.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from anynode.device.hardware import pinned_environment

os.environ.update(pinned_environment())  # cheats work in this process, in the class of an honest training process
sys.path.insert(0, str(Path(__file__).parents[1]))

import shared_modules  # noqa: F401 (finds the modules that the attacks import)
from workshop import Lie, Place, Workshop

from anynode.cli.main import run
from anynode.rounds.course import Open
from anynode.rounds.events import WorkDone
from anynode.training.messages import WorkSpec
from anynode.worker import session
from anynode.worker.orders import work_order
from anynode.worker.worker import Worker


class Cheat(Worker):
    """Everything but the work is in order: form, signatures, timing."""

    async def _train(self, spec: WorkSpec, time_limit_s: float) -> None:
        if spec.round < START:
            await super()._train(spec, time_limit_s)
            return
        lie = await asyncio.to_thread(self._lie, spec)
        await asyncio.to_thread(self._openings.traces.keep, spec.round, lie.result.leaves)
        done = lie.result
        told = WorkDone(
            round=spec.round,
            state_root=spec.state_root,
            steps=done.steps,
            samples=done.samples,
            micro_batch=done.micro_batch,
            update_root=done.update_root,
            trace_root=done.trace_root,
        )
        print(f"cheats in round {spec.round}", flush=True)
        await self._driver().feed(told)

    def _lie(self, spec: WorkSpec) -> Lie:
        opens = [record.body for record in self._log.bodies if isinstance(record.body, Open)][-2:]
        roots = opens[0].state_root, opens[-1].state_root
        place = Place(str(self._home.files), str(self._store.folder), roots)
        dealt = {
            (number, slot): self._dealt(opened, slot)
            for number, opened in ((0, opens[0]), (1, opens[-1]))
            if any(member.node == self._account.address for member in opened.members)
            for slot in (0, 1)
        }
        return CHEAT(Workshop.at(place, dealt))

    def _dealt(self, opened: Open, slot: int) -> WorkSpec:
        """All that a round deals to this worker (0) or to the member after it (1)."""
        nodes = [member.node for member in opened.members]
        place = (nodes.index(self._account.address) + slot) % len(nodes)
        return work_order(self._job, opened, place, opened.members[place].quota_steps)


if __name__ == "__main__":
    file, _, what = sys.argv[1].partition(":")
    function, _, start = what.partition("@")
    START = int(start or 0)
    CHEAT: Callable[[Workshop], Lie] = getattr(importlib.import_module(f"test_attack_{file}"), function)
    setattr(session, "Worker", Cheat)  # noqa: B010 (the product offers no way to put a cheat in)
    sys.exit(run(["join", *sys.argv[2:]]))
