"""A swarm for the churn benchmark: real processes, and what is seen of them: when peers live and when rounds close."""

from __future__ import annotations

import shutil
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from processes import Processes, free_port

from anynode.rounds.chain import read_public
from anynode.rounds.records import Record
from anynode_contracts.errors import UserError

NETWORK = "churn"
VERIFIER = "verifier"
TICK_S = 0.1
START_LIMIT_S = 180.0
#: What a worker says once it has reached the coordinator; from here on it is a peer of the swarm.
IN_THE_SWARM = "loading the model"
MODEL = (
    "anynode.jobs.templates.gpt:build",
    *("--set", "width=32", "--set", "layers=2", "--set", "heads=2", "--set", "context=16", "--set", "batch_size=4"),
)
JOB = """\
[job]
name = "churn"
[model]
folder = "model"
[data]
folder = "data"
[training]
batch_size = 4
inner_steps = {inner_steps}
rounds = 100000
learning_rate = 0.002
total_steps = 1000000
refresh_rounds = 4
evaluation_samples = 32
[workers]
min_workers = {workers}
max_workers = 64
round_deadline_s = 60
exchange_deadline_s = 10
[pay]
tokens_per_million_samples = "1000"
budget = "100000"
"""


@dataclass
class Life:
    """One life of a worker's process. Times are of the monotonic clock; ``joined_s``: when it was in the swarm."""

    name: str
    started_s: float
    log_from: int
    joined_s: float | None = None
    ended_s: float | None = None

    def overlap_s(self, since_s: float | None, start_s: float, end_s: float) -> float:
        """How long it lived between two times, counted from ``since_s``."""
        if since_s is None:
            return 0.0
        until_s = end_s if self.ended_s is None else self.ended_s
        return max(0.0, min(until_s, end_s) - max(since_s, start_s))


@dataclass
class Seen:
    """Everything that was seen: every life, when each record was written, by its height, and how many were closes and
    verdicts.
    """

    lives: list[Life] = field(default_factory=list)
    written_s: list[float] = field(default_factory=list)
    closed: int = 0
    judged: int = 0


class ChurnSwarm:
    """A chain, a verifier and workers that train at ``steps_per_s``; all of it ends when it is left."""

    def __init__(self, inner_steps: int, steps_per_s: float, workers: int) -> None:
        # Short on purpose: Unix sockets below it may have 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="an-churn-")).resolve()
        self.processes = Processes(self.home)
        self.seen = Seen()
        self._inner_steps, self._steps_per_s, self._workers = inner_steps, steps_per_s, workers
        self._api_url = f"http://127.0.0.1:{free_port()}"
        self._job_id = ""
        self._read_bytes = 0

    def __enter__(self) -> ChurnSwarm:
        try:
            self._begin()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.processes.__exit__(kind, error, trace)
        shutil.rmtree(self.home, ignore_errors=True)

    def _begin(self) -> None:
        run, home = self.processes.run, self.home
        password = home / "password"
        password.touch(mode=0o600)
        password.write_text("for a benchmark\n")
        port = free_port()
        self.processes.start("chain", "chain", "--port", str(port), "--state", str(home / "chain.json"))
        self.until("the chain", lambda: "Chain 31337" in self.processes.log("chain"))
        run(
            *("network", "init", NETWORK, "--rpc-url", f"http://127.0.0.1:{port}", "--api-url", self._api_url),
            *("--port", str(free_port()), "--window-s", "5"),
        )
        run("export", *MODEL, "--out", str(home / "model"))
        text = sysconfig.get_paths()["stdlib"]
        run(
            *("data", "pack", "--text", text, "--suffix", ".py", "--bytes-max", "4000000"),
            *("--sample-bytes", "17", "--out", str(home / "data")),
        )
        (home / "job.toml").write_text(JOB.format(inner_steps=self._inner_steps, workers=self._workers))
        self.start_verifier()
        self.until("the verifier", lambda: "Peers reach it" in self.processes.log(VERIFIER))
        job = run("submit", str(home / "job.toml"), "--network", NETWORK, "--wallet", f"{NETWORK}-owner")
        self._job_id = job["job_id"]

    # ------------------------------------------------------------ who comes and goes

    def start_verifier(self) -> None:
        self.processes.start(VERIFIER, "verifier", "run", "--network", NETWORK)

    def make_wallet(self, name: str) -> None:
        self.processes.run("wallet", "create", name)

    def start_worker(self, name: str) -> None:
        life = Life(name, time.monotonic(), len(self.processes.log(name)))
        pace = ("--steps-per-s-max", str(self._steps_per_s))
        self.processes.start(name, "join", "--network", NETWORK, "--wallet", name, *pace)
        self.seen.lives.append(life)

    def kill_worker(self, name: str) -> None:
        self.processes.kill(name)
        self.life(name).ended_s = time.monotonic()

    def life(self, name: str) -> Life:
        """The newest life of a worker."""
        return next(life for life in reversed(self.seen.lives) if life.name == name)

    # ------------------------------------------------------------ what is seen

    @property
    def records_path(self) -> Path:
        return self.home / "home" / "data" / "verifiers" / NETWORK / "jobs" / self._job_id / "records.jsonl"

    def look(self) -> None:
        """Note what has happened since the last look."""
        now_s = time.monotonic()
        if self._job_id and self.records_path.exists():
            with self.records_path.open("rb") as file:
                file.seek(self._read_bytes)
                new = file.read()
            whole = new.rfind(b"\n") + 1
            self._read_bytes += whole
            self.seen.written_s += [now_s] * new[:whole].count(b"\n")
            self.seen.closed += new[:whole].count(b'"kind":"close"')
            self.seen.judged += new[:whole].count(b'"kind":"verdict"')
        for life in self.seen.lives:
            if life.joined_s is None and life.ended_s is None:
                if IN_THE_SWARM in self.processes.log(life.name)[life.log_from :]:
                    life.joined_s = now_s
                elif self.processes.ended(life.name) is not None:
                    raise UserError(f"{life.name} has ended by itself:\n{self.processes.last_words()}")

    def until(self, what: str, condition: Callable[[], bool], limit_s: float = START_LIMIT_S) -> None:
        """Look until something is so."""
        end_s = time.monotonic() + limit_s
        while True:
            self.look()
            if condition():
                return
            if time.monotonic() > end_s:
                raise UserError(f"{what} has not come about in {limit_s:.0f} s:\n{self.processes.last_words()}")
            time.sleep(TICK_S)

    def records(self) -> list[Record]:
        """All records that `look` has counted."""
        whole = self.home / "records.jsonl"
        whole.write_bytes(self.records_path.read_bytes()[: self._read_bytes])
        return [signed.record for signed in read_public(whole)]

    def last_kind(self) -> str:
        """The kind of the newest record; empty before the first."""
        records = self.records() if self._read_bytes else []
        return records[-1].body.kind if records else ""

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self._api_url}/v1/status", timeout=60.0).json()
        return answer
