"""AnyNode commands as processes: each in the background with its own log, all ended by their own ids, whatever happens.

The demo and the end-to-end tests run the product with it, as a person would in several terminals.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from anynode_contracts.errors import UserError

_STOP_WAIT_S = 30.0
_COMMAND_LIMIT_S = 300.0
_PR_SET_PDEATHSIG = 1
ANYNODE = ("-m", "anynode")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it said."""

    code: int
    out: str
    err: str


class Processes:
    """Starts commands with folders of their own below ``home``, and ends those that still run when it is left."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = _clean_environment(home)

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # In the opposite order, so that workers can say good-bye and the chain is the last to go.
        for name in reversed(list(self._running)):
            self.stop(name)

    def start(self, name: str, *arguments: str, program: Sequence[str] = ANYNODE) -> None:
        """Start ``anynode ARGUMENTS`` (or another Python program) in the background."""
        with self.log_path(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*self.prefix(name), sys.executable, *program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (this program has one thread)
            )

    def run(self, *arguments: str) -> dict[str, Any]:
        """Run ``anynode ARGUMENTS --json`` to its end and return its object. Raises ``UserError`` with its sentence."""
        done = self.attempt(*arguments, "--json")
        last = done.out.strip().rpartition("\n")[2]
        try:
            answer: dict[str, Any] = json.loads(last)
        except ValueError:
            answer = {"error": done.err.strip()[-500:]}
        if done.code != 0:
            raise UserError(f"anynode {arguments[0]}: {answer.get('error', 'it failed')}")
        return answer

    def attempt(
        self, *arguments: str, program: Sequence[str] = ANYNODE, limit_s: float = _COMMAND_LIMIT_S, **environment: str
    ) -> Ended:
        """Run ``anynode ARGUMENTS`` (or another Python program) to its end, whatever that is."""
        done = subprocess.run(
            [*self.prefix(""), sys.executable, *program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**self._environment, **environment},
            check=False,
            timeout=limit_s,
            preexec_fn=_die_with_parent,
        )
        return Ended(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def prefix(self, name: str) -> Sequence[str]:
        """What comes before the command of a process, or of a command that is run to its end (no name)."""
        return ()

    def kill(self, name: str) -> None:
        """SIGKILL, as a power cut would: no clean-up, no good-bye."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> None:
        """Ask to end, and insist after a while."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def runs(self, name: str) -> bool:
        """Whether it was started and goes on."""
        return name in self._running and self._running[name].poll() is None

    def ends_within(self, name: str, limit_s: float) -> bool:
        """Wait for the end of a process, but no longer than ``limit_s``."""
        try:
            self._running[name].wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def ended(self, name: str) -> int | None:
        """The exit code of a process that has ended, or None."""
        return self._running[name].poll()

    def wait(self, name: str, limit_s: float) -> int:
        """Its exit code. Raises ``UserError`` if it does not end in time."""
        try:
            return self._running[name].wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"{name} has not ended after {limit_s:.0f} s") from error

    def log_path(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def log(self, name: str) -> str:
        path = self.log_path(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def last_words(self) -> str:
        """The end of every log, for a demo that failed."""
        return "\n".join(
            f"--- {path.stem}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-6:])
            for path in sorted(self.home.glob("*.log"))
        )


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _clean_environment(home: Path) -> Mapping[str, str]:
    """Nothing of the caller's AnyNode settings, proxies or Python paths: the demo stands alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANYNODE_", "PYTHON"))}
    return kept | {
        "ANYNODE_HOME": str(home / "home"),
        "ANYNODE_PASSWORD_FILE": str(home / "password"),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "COLUMNS": "120",
    }


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
