"""The training process seen from its parent: start it, ask it, hear how far it is, survive its death.

Training runs in a process of its own so that it cannot starve networking, has limits, and may crash on a
stranger's job without taking the node down. Requests are answered one after the other. There is no overall
time limit, since no machine is too slow: what counts is progress, and a process that reports none for
``stall_timeout_s`` is ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anynode.device.hardware import pinned_environment
from anynode.training.channel import Channel, OnProgress
from anynode.training.messages import (
    ApplySpec,
    Claim,
    Limits,
    Opened,
    OpenedClaim,
    Opening,
    Recomputation,
    ReduceSpec,
    ReplayVerdict,
    SegmentsReplay,
    WorkResult,
    WorkSpec,
)
from anynode.training.trace import TraceLeaf
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
        pins = pinned_environment(chosen.limits.threads, chosen.limits.instructions)
        channel = await Channel.start(log_path, chosen.stall_timeout_s, pins)
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
        """Store the state that round 0 opens from, and return its root; syncing it is the caller's."""
        return str((await self._channel.ask("initial_state", {}))["state_root"])

    async def work(
        self,
        spec: WorkSpec,
        *,
        kept: Path | None = None,
        time_limit_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> WorkResult:
        """Train a slot's work and store its update (chunks and manifest), and below ``kept``, if it is given, the
        states at its segments' ends. After ``time_limit_s`` it ends with the steps done so far, at least one.
        """
        body = {"spec": spec.to_json(), "time_limit_s": time_limit_s, "kept": _folder(kept)}
        return WorkResult.from_json(await self._channel.ask("work", body, on_progress))

    async def replay(
        self, spec: WorkSpec, claimed: Claim, folder: Path | None = None, *, on_progress: OnProgress | None = None
    ) -> ReplayVerdict:
        """Do the work again and compare. Stored is only, below ``folder`` if one is given, the state before the first
        segment that differs.
        """
        body = {"spec": spec.to_json(), "claim": claimed.to_json(), "folder": _folder(folder)}
        return ReplayVerdict.from_json(await self._channel.ask("replay", body, on_progress))

    async def replay_disputed(
        self, spec: WorkSpec, claimed: Claim, segment: int, agreed: str, folder: Path
    ) -> ReplayVerdict:
        """Do one segment of the work again, from the state ``agreed`` (a root, empty for the one that the round began
        from) that is kept below ``folder``. Raises ``RefusedError`` where that is not the state that the trace binds.
        """
        body = {"spec": spec.to_json(), "claim": claimed.to_json(), "segment": segment, "agreed": agreed}
        answer = await self._channel.ask("replay_disputed", body | {"folder": _absolute(folder)})
        return ReplayVerdict.from_json(answer)

    async def recompute(self, spec: WorkSpec, key: str, *, on_progress: OnProgress | None = None) -> Recomputation:
        """Do the work again and tell all of what it gives; nothing is stored. ``key``: 32 bytes in hexadecimal, under
        which the states on the way are fingerprinted.
        """
        body = {"spec": spec.to_json(), "key": key}
        return Recomputation.from_json(await self._channel.ask("recompute", body, on_progress))

    async def open_segments(
        self,
        spec: WorkSpec,
        leaves: Sequence[TraceLeaf],
        segments: Sequence[int],
        folder: Path,
        *,
        kept: Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> Opened:
        """Do the work again, as far as it is not ``kept``, and store the states around ``segments`` and the last one
        below ``folder``.

        ``leaves`` is its trace as committed to, empty where that is lost. Raises ``UserError`` where this machine does
        not give the same bits again.
        """
        body = {
            "spec": spec.to_json(),
            "leaves": [asdict(leaf) for leaf in leaves],
            "segments": list(segments),
            "folder": _absolute(folder),
            "kept": _folder(kept),
        }
        return Opened.from_json(await self._channel.ask("open_segments", body, on_progress))

    async def replay_segments(
        self,
        spec: WorkSpec,
        claim: OpenedClaim,
        folder: Path,
        *,
        sketch_seed: str = "",
        on_progress: OnProgress | None = None,
    ) -> SegmentsReplay:
        """Check work of another hardware class by the states that it has opened, which lie below ``folder``, and
        replay its drawn segments here. ``sketch_seed``: see `sketch.py`.
        """
        body = {
            "spec": spec.to_json(),
            "claim": claim.to_json(),
            "folder": _absolute(folder),
            "sketch_seed": sketch_seed,
        }
        return SegmentsReplay.from_json(await self._channel.ask("replay_segments", body, on_progress))

    async def replays_itself(self, state_root: str) -> bool:
        """Whether this process gives the same bits when it does the same segment twice."""
        return bool((await self._channel.ask("self_replay", {"state_root": state_root}))["equal"])

    async def reduce(self, specs: Sequence[ReduceSpec]) -> list[str | RefusedError]:
        """Average exchange chunks; each result is stored and its hash returned, or why it cannot be averaged."""
        body = {"specs": [spec.to_json() for spec in specs]}
        outcomes = (await self._channel.ask("reduce", body))["outcomes"]
        return [item["result"] if "result" in item else RefusedError(item["refused"]) for item in outcomes]

    async def apply(self, spec: ApplySpec) -> str:
        """Take outer steps and store the last state, whose root is returned; syncing it is the caller's."""
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


def _folder(path: Path | None) -> str:
    """A folder that may not be given."""
    return _absolute(path) if path is not None else ""
