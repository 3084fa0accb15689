"""`anynode` that kills itself with SIGKILL at one exact moment: ``python doomed.py MOMENT ARGUMENTS...``

MOMENT is two words. ``before NAME`` and ``after NAME``: an effect of the worker's core (StartWork, Deliver, Reduce,
Apply), a message that it sends (Commitment, ChunkDone, StateReport), or a record (open, seal, assign, result, close,
verdict) that the verifier writes. ``during StartWork``: after half of the steps. ``during FetchState``: after the first
chunk. ``never -``: it lives. It also tells how much of a state it fetched, which the product keeps to itself.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from anynode.cli.main import run
from anynode.rounds.chain import RecordLog
from anynode.rounds.effects import MemberEffect, Send
from anynode.rounds.records import SignedRecord
from anynode.training.messages import Progress, WorkResult, WorkSpec
from anynode.training.process import Trainer
from anynode.worker import states, worker

MOMENT = " ".join(sys.argv[1].split())


def reached(moment: str) -> None:
    if moment == MOMENT:
        os.kill(os.getpid(), signal.SIGKILL)


def name_of(effect: MemberEffect) -> str:
    return type(effect.message if isinstance(effect, Send) else effect).__name__


def watched_effects(carry_out: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def watched(self: worker.Worker, effect: MemberEffect) -> None:
        reached(f"before {name_of(effect)}")
        await carry_out(self, effect)
        reached(f"after {name_of(effect)}")

    return watched


def watched_records(append: Callable[..., None]) -> Callable[..., None]:
    def watched(self: RecordLog, records: Iterable[SignedRecord]) -> None:
        new = list(records)
        for item in new:
            reached(f"before {item.record.body.kind}")
        append(self, new)
        for item in new:
            reached(f"after {item.record.body.kind}")

    return watched


def watched_work(work: Callable[..., Awaitable[WorkResult]]) -> Callable[..., Awaitable[WorkResult]]:
    async def watched(self: Trainer, spec: WorkSpec, **options: Any) -> WorkResult:
        report: Callable[[Progress], None] = options.pop("on_progress")

        def on_progress(progress: Progress) -> None:
            report(progress)
            if 2 * progress.done >= progress.total:
                reached("during StartWork")

        return await work(self, spec, on_progress=on_progress, **options)

    return watched


def watched_fetch(fetch: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def watched(peer: Any, store: Any, manifest: Any, sources: Sequence[str], report: Any, **options: Any) -> Any:
        began: list[int] = []

        def on_progress(done: int, total: int) -> None:
            report(done, total)
            began.append(done)
            if done > began[0]:
                reached("during FetchState")

        result = await fetch(peer, store, manifest, sources, on_progress, **options)
        print(f"fetched {result.bytes_fetched} bytes", flush=True)
        return result

    return watched


if __name__ == "__main__":
    for owner, name, watch in (
        (worker.Worker, "_carry_out", watched_effects),
        (RecordLog, "append", watched_records),
        (Trainer, "work", watched_work),
        (states, "fetch_blob", watched_fetch),
    ):
        setattr(owner, name, watch(getattr(owner, name)))
    sys.exit(run(sys.argv[2:]))
