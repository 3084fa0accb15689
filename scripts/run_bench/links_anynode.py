"""AnyNode's side of the bench `links`: its own commands, a verifier in a data centre and a worker in each home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homes import Home, Homes
from links_sides import PEERS, POLL_S, SERVER, Round, sent_bytes
from links_work import Shape

from anynode.jobs.settings import Training
from anynode_contracts.errors import UserError

NETWORK = "links"
WALLET = "miner"
PEER_PORT, RPC_PORT, API_PORT = 8421, 8545, 8420
WAIT_LIMIT_S = 300.0
DATA_BYTES_MAX = 2_000_000
#: Every so many rounds carry moments as well: the job takes the setting that ships.
REFRESH_ROUNDS: int = Training.model_fields["refresh_rounds"].default
JOB = """\
[job]
name = "links"
[model]
folder = "{model}"
[data]
folder = "{data}"
[training]
batch_size = {batch}
{steps}
rounds = 100000
learning_rate = 0.001
total_steps = 1000000
evaluation_samples = {batch}
[workers]
min_workers = {workers}
max_workers = {workers}
round_deadline_s = 300
exchange_deadline_s = 120
[pay]
tokens_per_million_samples = "1"
budget = "1000"
"""


class Command:
    """AnyNode's command line in one home, with a folder of its own below ``folder``."""

    def __init__(self, home: Home, folder: Path) -> None:
        self._home, self._folder = home, folder
        folder.mkdir(parents=True)
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text("a password for the bench\n")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANYNODE_", "PYTHON"))}
        self._environment = kept | {
            "ANYNODE_HOME": str(folder / "home"),
            "ANYNODE_PASSWORD_FILE": str(password),
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def data(self) -> Path:
        return self._folder / "home" / "data"

    def run(self, *arguments: str) -> dict[str, Any]:
        """Run a command to its end and return its object. Raises ``UserError`` with what it said."""
        argv = [sys.executable, "-m", "anynode", *arguments, "--json"]
        done = self._home.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self._environment)
        if done.returncode != 0:
            raise UserError(f"anynode {arguments[0]} failed: {done.stderr.strip()[-300:]}")
        answer: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
        return answer

    def start(self, name: str, *arguments: str) -> subprocess.Popen[Any]:
        """Start a command in the background; what it says goes to a log."""
        with (self._folder / f"{name}.log").open("ab") as log:
            argv = [sys.executable, "-m", "anynode", *arguments]
            return self._home.popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=self._environment
            )

    def said(self, name: str) -> str:
        path = self._folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""


class Wares:
    """The model and the data, made once by AnyNode's own commands; every side reads the same samples."""

    def __init__(self, home: Home, folder: Path, shape: Shape, text: Path) -> None:
        self.model, self.data = folder / "model", folder / "data"
        command = Command(home, folder / "owner")
        settings = {
            "width": shape.width,
            "layers": shape.layers,
            "heads": shape.heads,
            "context": shape.context,
            "batch_size": shape.batch,
        }
        chosen = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        exported = command.run("export", "anynode.jobs.templates.gpt:build", *chosen, "--out", str(self.model))
        self.parameters = int(exported["parameters"])
        command.run(
            *("data", "pack", "--text", str(text), "--suffix", ".py", "--out", str(self.data)),
            *("--sample-bytes", str(shape.context + 1), "--bytes-max", str(DATA_BYTES_MAX)),
        )

    @property
    def shard(self) -> str:
        return str(self.data / "train-00000.safetensors")


@dataclass(frozen=True, slots=True)
class Event:
    """A record of the job as it appeared at the verifier, with what the homes had sent by then."""

    at_s: float
    body: dict[str, Any]
    sent_bytes: int


class AnyNode:
    """The swarm. ``steps`` are the job's keys for the length of a round. A round's seconds of computing are those from
    its opening to its seal: they hold the quantisation, the commitments and the records' way as well.
    """

    def __init__(self, folder: Path, wares: Wares, shape: Shape, steps: str, pace: float | None) -> None:
        self._folder, self._wares, self._shape, self._steps = folder, wares, shape, steps
        self._pace = () if pace is None else ("--steps-per-s-max", str(pace))
        self._running: dict[str, subprocess.Popen[Any]] = {}
        self._homes: Sequence[Home] = ()
        self._records: Path | None = None
        self._read_bytes = 0
        self.events: list[Event] = []

    def start(self, homes: Homes) -> None:
        self._homes = [homes[index] for index in range(len(homes))]
        server = Command(homes[SERVER], self._folder / "server")
        self._start(server, "chain", "Chain 31337", "chain", "--port", str(RPC_PORT))
        network = server.run(
            *("network", "init", NETWORK, "--rpc-url", f"http://127.0.0.1:{RPC_PORT}"),
            *("--api-url", f"http://127.0.0.1:{API_PORT}"),
            *("--host", homes[SERVER].address, "--port", str(PEER_PORT)),
        )
        self._start(server, "verifier", "Peers reach it", "verifier", "run", "--network", NETWORK)
        job = self._folder / "job.toml"
        job.write_text(
            JOB.format(
                model=self._wares.model,
                data=self._wares.data,
                batch=self._shape.batch,
                steps=self._steps,
                workers=PEERS,
            )
        )
        server.run("submit", str(job), "--network", NETWORK, "--wallet", f"{NETWORK}-owner")
        (self._records,) = server.data.rglob("records.jsonl")
        for index in range(PEERS):
            self._join(homes[index], Path(network["path"]))

    def rounds(self) -> Sequence[Round]:
        """Rounds in which all workers are proven: before, the verifier recomputes all their work on the same cores."""
        self._read()
        found, opened, sealed = [], None, None
        for event in self.events:
            match event.body["kind"]:
                case "open" if all(member["proven"] for member in event.body["members"]):
                    opened = event
                case "seal":
                    sealed = event
                case "close" if opened is not None and sealed is not None:
                    found.append(
                        Round(
                            ended_s=event.at_s,
                            steps=sum(int(item["steps"]) for item in sealed.body["commitments"]),
                            compute_s=(sealed.at_s - opened.at_s) * len(opened.body["members"]),
                            sent_bytes=event.sent_bytes,
                        )
                    )
        return found

    def trouble(self) -> str:
        ended = [name for name, process in self._running.items() if process.poll() is not None]
        return f"{ended[0]} has ended: {self._words(ended[0])}" if ended else ""

    def _join(self, home: Home, network: Path) -> None:
        name = f"home-{home.index}"
        command = Command(home, self._folder / name)
        command.run("wallet", "create", WALLET)
        (self._folder / name / "network.toml").write_bytes(network.read_bytes())
        arguments = ("--network", str(self._folder / name / "network.toml"), "--wallet", WALLET)
        self._running[name] = command.start("join", "join", *arguments, *self._pace)

    def _start(self, command: Command, name: str, word: str, *arguments: str) -> None:
        """Start a command in the background and wait until it says ``word``."""
        self._running[name] = command.start(name, *arguments)
        until_s = time.monotonic() + WAIT_LIMIT_S
        while word not in command.said(name):
            if self.trouble() or time.monotonic() > until_s:
                raise UserError(f"{name} does not say {word!r}; {self.trouble()}")
            time.sleep(POLL_S)

    def _words(self, name: str) -> str:
        logs = [*self._folder.rglob(f"{name}/join.log"), *self._folder.rglob(f"{name}.log")]
        return logs[0].read_text(errors="replace")[-300:].strip() if logs else ""

    def _read(self) -> None:
        """Take in the records that the verifier has written since."""
        if self._records is None:
            return
        with self._records.open("rb") as file:
            file.seek(self._read_bytes)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(newline)
        for line in whole.splitlines():
            self.events.append(Event(time.monotonic(), json.loads(line)["record"]["body"], sent_bytes(self._homes)))
