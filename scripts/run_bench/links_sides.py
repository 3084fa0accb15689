"""Runs one side of the bench `links`: starts it, waits until it is warm, and measures its rounds at the lines."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from homes import Home, Homes
from links_work import Shape, Task

from anynode_contracts.errors import UserError

HERE = Path(__file__).parent
SERVER = 4
PEERS = 4
UP_MBIT, DOWN_MBIT = 20.0, 100.0
STALL_LIMIT_S = 300.0
POLL_S = 0.01


def new_homes() -> Homes:
    """Four homes behind their lines, and a data centre for what a side needs beside its peers."""
    return Homes(PEERS + 1, UP_MBIT, DOWN_MBIT, servers=frozenset({SERVER}))


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a side: all peers' ``steps`` and seconds of computing, the time of its end, and the bytes that the
    homes had sent by then.
    """

    ended_s: float
    steps: int
    compute_s: float
    sent_bytes: int


class Side(Protocol):
    """A way to train in the homes. `start` returns when its peers run; `rounds` are those that have ended so far."""

    def start(self, homes: Homes) -> None: ...

    def rounds(self) -> Sequence[Round]: ...

    def trouble(self) -> str:
        """What ended a process that should run, or nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over the rounds measured. ``bytes`` are those that one home has sent; a step is one step of each peer."""

    rounds: int
    round_s: float
    steps: float
    bytes_round: float
    bytes_token: float
    tokens_s: float
    compute_share: float


def measure_side(
    side: Side, homes: Homes, shape: Shape, *, warm: int, limit_s: float, unit: int, say: Callable[[str], None]
) -> Measured:
    """Start ``side``, leave out its first ``warm`` rounds, and measure for ``limit_s``: at least ``unit`` rounds, and a
    multiple of them (what differs from round to round returns after ``unit`` rounds).
    """
    side.start(homes)
    ends_s, seen, changed_s = None, 0, time.monotonic()
    while True:
        rounds, now_s = side.rounds(), time.monotonic()
        if len(rounds) > seen:
            seen, changed_s = len(rounds), now_s
            say(f"  round {seen}: {rounds[-1].ended_s - rounds[-2].ended_s:.1f} s" if seen > 1 else "  round 1")
        if ends_s is None and seen >= warm:
            ends_s = rounds[warm - 1].ended_s + limit_s
        if ends_s is not None and now_s >= ends_s and seen >= warm + unit:
            return _measured(rounds[warm - 1 :], shape, unit)
        if side.trouble() or now_s - changed_s > STALL_LIMIT_S:
            raise UserError(f"a side could not run: {side.trouble() or 'no round has ended for so long'}")
        time.sleep(POLL_S)


def _measured(rounds: Sequence[Round], shape: Shape, unit: int) -> Measured:
    """``rounds[0]`` is the last one before those measured."""
    count = (len(rounds) - 1) // unit * unit
    first, last, measured = rounds[0], rounds[count], rounds[1 : count + 1]
    seconds = last.ended_s - first.ended_s
    steps = sum(item.steps for item in measured)
    sent_bytes = last.sent_bytes - first.sent_bytes
    tokens = steps * shape.step_tokens
    return Measured(
        rounds=count,
        round_s=seconds / count,
        steps=steps / count / PEERS,
        bytes_round=sent_bytes / count / PEERS,
        bytes_token=sent_bytes / tokens,
        tokens_s=tokens / seconds,
        compute_share=sum(item.compute_s for item in measured) / PEERS / seconds,
    )


class Programs:
    """A side whose peers are a program of this folder, one in each home; each says its rounds as lines of JSON."""

    def __init__(self, program: str, task: Task, meet: Callable[[Homes, Programs], str]) -> None:
        self._program, self._task, self._meet = HERE / program, task, meet
        self._said: list[list[tuple[float, dict[str, Any]]]] = []
        self._running: list[subprocess.Popen[Any]] = []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        self._rounds: list[Round] = []
        self._homes: Sequence[Home] = ()

    def start(self, homes: Homes) -> None:
        self._homes = [homes[index] for index in range(len(homes))]
        meeting = self._meet(homes, self)
        for rank in range(len(self._said), PEERS):
            self.start_peer(rank, meeting)
        for rank in range(PEERS):
            self.heard(rank, "ready")
        for process in self._running:
            if process.stdin is not None:
                process.stdin.write(b"\n")
                process.stdin.flush()

    def start_peer(self, rank: int, meeting: str) -> None:
        self.start_program(rank, self._task.at(rank, self._homes[rank].address, meeting).to_json())
        said: list[tuple[float, dict[str, Any]]] = []
        self._said.append(said)
        threading.Thread(target=self._listen, args=(self._running[-1], said), daemon=True).start()

    def start_program(self, index: int, *arguments: str) -> None:
        """Run the program in home ``index``."""
        self._running.append(
            self._homes[index].popen(
                [sys.executable, str(self._program), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        )

    def heard(self, rank: int, key: str) -> Any:
        """Wait for a fact that a peer tells."""
        until_s = time.monotonic() + STALL_LIMIT_S
        while time.monotonic() < until_s and not self.trouble():
            for _, facts in self._said[rank]:
                if key in facts:
                    return facts[key]
            time.sleep(POLL_S)
        raise UserError(f"{self._program.name} does not say its {key}: {self.trouble()}")

    def rounds(self) -> Sequence[Round]:
        told = [[item for item in list(said) if "round" in item[1]] for said in self._said]
        while all(len(items) > len(self._rounds) for items in told):
            number = len(self._rounds)
            items = [mine[number] for mine in told]
            self._rounds.append(
                Round(
                    ended_s=max(at_s for at_s, _ in items),
                    steps=sum(int(facts["steps"]) for _, facts in items),
                    compute_s=sum(float(facts["compute_s"]) for _, facts in items),
                    sent_bytes=sent_bytes(self._homes),
                )
            )
        return self._rounds

    def trouble(self) -> str:
        codes = [process.poll() for process in self._running]
        if all(code is None for code in codes):
            return ""
        self._errors.seek(0)
        said = self._errors.read()[-600:].decode(errors="replace").strip()
        return f"{self._program.name} has ended (exit codes {codes}): {said}"

    @staticmethod
    def _listen(process: subprocess.Popen[Any], said: list[tuple[float, dict[str, Any]]]) -> None:
        for line in process.stdout or ():
            if line.startswith(b"{"):
                said.append((time.monotonic(), json.loads(line)))  # noqa: PERF401 (each as it comes)


def sent_bytes(homes: Sequence[Home]) -> int:
    """What the four homes have sent so far."""
    return sum(homes[index].traffic().sent_bytes for index in range(PEERS))
