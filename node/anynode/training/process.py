"""The training process seen from its parent: start it, ask it, hear how far it is, survive its death.

Training runs in a process of its own so that it cannot starve networking, has limits, and may crash on a
stranger's job without taking the node down. Requests are answered one after the other. There is no overall
time limit, since no machine is too slow: what counts is progress, and a process that reports none for
``stall_timeout_s`` is ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anynode.training.channel import Channel, OnProgress
from anynode.training.messages import (
    ApplySpec,
    Claim,
    Limits,
    Opening,
    ReduceSpec,
    ReplayVerdict,
    WorkResult,
    WorkSpec,
)
from anynode_contracts.errors import RefusedError


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """How the process is run. ``log_path`` defaults to ``trainer.log`` beside the job's folder.
    ``stall_timeout_s`` bounds the time between two signs of progress, importing torch included.
    """

    log_path: Path | None = None
    stall_timeout_s: float = 900.0
    limits: Limits = field(default_factory=Limits)


class Trainer:
    """A running training process for one job. Make one with :meth:`start`, from a thread that outlives it
    (Linux ends the process with the thread that started it).

    Every request raises ``UserError`` or ``RefusedError`` with the process's own sentence; ``UserError`` when
    the process has died or stalls (``alive`` is then false: start another); ``InvariantError`` for a fault in
    it. Cancelling a request stops it at its next step.

    ``micro_batch``: how many samples go through the model at a time here; ``peak_bytes``: the memory that this took
    when it was tried at the start.
    """

    def __init__(self, channel: Channel, greeting: dict[str, Any]) -> None:
        self._channel = channel
        self.job_id, self.hardware_class = str(greeting["job_id"]), str(greeting["hardware_class"])
        self.parameters, self.micro_batch = int(greeting["parameters"]), int(greeting["micro_batch"])
        self.peak_bytes = int(greeting["peak_bytes"])

    @classmethod
    async def start(cls, store_folder: Path, job_folder: Path, settings: TrainerSettings | None = None) -> Trainer:
        """Start the process and wait until it has loaded the job. Raises ``UserError`` when it cannot."""
        chosen = settings or TrainerSettings()
        log_path = chosen.log_path or job_folder.parent / "trainer.log"
        opening = Opening(_absolute(store_folder), _absolute(job_folder), chosen.limits)
        channel = await Channel.start(log_path, chosen.stall_timeout_s)
        try:
            return cls(channel, await channel.open(opening.to_json()))
        except BaseException:
            await channel.close()
            raise

    @property
    def pid(self) -> int:
        return self._channel.process.pid

    @property
    def alive(self) -> bool:
        return not self._channel.death

    async def initial_state(self) -> str:
        """Save the state that round 0 opens from, and return its root."""
        return str((await self._channel.ask("initial_state", {}))["state_root"])

    async def work(
        self, spec: WorkSpec, *, time_limit_s: float | None = None, on_progress: OnProgress | None = None
    ) -> WorkResult:
        """Train a slot's work and store its update (chunks and manifest). After ``time_limit_s`` it ends with
        the steps done so far, at least one.
        """
        body = {"spec": spec.to_json(), "time_limit_s": time_limit_s}
        return WorkResult.from_json(await self._channel.ask("work", body, on_progress))

    async def replay(self, spec: WorkSpec, claimed: Claim, *, on_progress: OnProgress | None = None) -> ReplayVerdict:
        """Do the work again and compare. Nothing is stored."""
        body = {"spec": spec.to_json(), "claim": claimed.to_json()}
        return ReplayVerdict.from_json(await self._channel.ask("replay", body, on_progress))

    async def reduce(self, specs: Sequence[ReduceSpec]) -> list[str | RefusedError]:
        """Average exchange chunks; each result is stored and its hash returned, or why it cannot be averaged."""
        body = {"specs": [spec.to_json() for spec in specs]}
        outcomes = (await self._channel.ask("reduce", body))["outcomes"]
        return [item["result"] if "result" in item else RefusedError(item["refused"]) for item in outcomes]

    async def apply(self, spec: ApplySpec) -> str:
        """Take the outer step and store the next state; its root is returned."""
        return str((await self._channel.ask("apply", {"spec": spec.to_json()}))["state_root"])

    async def evaluate(self, state_root: str, *, on_progress: OnProgress | None = None) -> float:
        """The mean loss over the job's evaluation samples."""
        return float((await self._channel.ask("evaluate", {"state_root": state_root}, on_progress))["loss"])

    async def export(self, state_root: str, path: Path) -> None:
        """Write ``model.safetensors`` of a state to ``path``."""
        await self._channel.ask("export", {"state_root": state_root, "path": _absolute(path)})

    async def close(self) -> None:
        """End the process and wait until it is gone. Safe to call twice."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _absolute(path: Path) -> str:
    return str(path.resolve())
