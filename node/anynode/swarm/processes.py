"""Tie a child process to our life, and end one that an earlier, killed run of ours has left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from anynode_contracts.errors import UserError
from anynode_contracts.files import write_aside

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
RECORD_BYTES_MAX = 4096
FOLDER_PREFIX = "anynode-"


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """What identifies a daemon of ours: its id, its start time as the system tells it, and a path of ours that
    its command line names: ``folder``, freshly made for it alone."""

    pid: int
    started: str
    folder: str

    def save(self, path: Path) -> None:
        write_aside(path, json.dumps(asdict(self)).encode())

    @classmethod
    def load(cls, path: Path) -> ProcessRecord | None:
        """The record in ``path``; None if there is none or it is not one."""
        try:
            with path.open("rb") as file:
                raw = json.loads(file.read(RECORD_BYTES_MAX))
            record = cls(pid=raw["pid"], started=raw["started"], folder=raw["folder"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        sound = type(record.pid) is int and record.pid > 1 and isinstance(record.started, str)
        return record if sound and isinstance(record.folder, str) else None

    def running(self) -> bool:
        """Whether this very process still runs: same id, same start, our folder in its command line."""
        command = command_line(self.pid)
        return started(self.pid) == self.started and self.folder != "" and self.folder in command


def bound_to_parent() -> Callable[[], None] | None:
    """A function for ``preexec_fn`` after which the kernel kills the child when its parent dies.

    Linux only (prctl PR_SET_PDEATHSIG); None elsewhere. The signal comes when the thread that started the child
    ends, so the event loop's thread must live as long as the child.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # resolved before the fork: no imports in the child
    parent = os.getpid()

    def bind() -> None:
        if prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(70)

    return bind


def started(pid: int) -> str:
    """When process ``pid`` began, as the system writes it; empty if there is no such process."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in ("Z", "X") else fields[19]  # a zombie has ended; field 22 of proc(5)
    return _ps(pid, "lstart")


def command_line(pid: int) -> str:
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    return _ps(pid, "command")


def cpu_ticks(pid: int) -> int:
    """User and system time of ``pid`` in clock ticks; 0 where the system does not tell it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


async def end_stale(record_path: Path, *, timeout_s: float = 30.0) -> bool:
    """End the daemon named in ``record_path`` if it still runs and is ours, and clear up behind it.

    The caller holds the identity's lock, so no living process of ours can own that daemon. Returns whether one
    was ended. Raises ``UserError`` if it does not end within ``timeout_s``.
    """
    record = ProcessRecord.load(record_path)
    ended = False
    if record is not None:
        if record.running():
            log.info("ending the libp2p daemon %d that an earlier run has left behind", record.pid)
            await _kill_and_wait(record, timeout_s)
            ended = True
        remove_folder(Path(record.folder))
    _forget(record_path)
    return ended


def remove_folder(folder: Path) -> None:
    """Remove a daemon's folder: the sockets in it and then the empty folder, never anything else."""
    if folder.name.startswith(FOLDER_PREFIX) and not folder.is_symlink():
        with contextlib.suppress(OSError):
            for entry in list(folder.iterdir()):
                if entry.is_socket():
                    entry.unlink()
            folder.rmdir()


async def _kill_and_wait(record: ProcessRecord, timeout_s: float) -> None:
    stuck = f"the libp2p daemon {record.pid} of an earlier run does not end; end that process and start again"
    try:
        if sys.platform == "linux":
            handle = os.pidfd_open(record.pid)
            try:
                # The handle pins the process, so that this check and the signal mean the same one.
                if record.running():
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    await asyncio.to_thread(_wait_readable, handle, timeout_s)
            finally:
                os.close(handle)
        else:
            os.kill(record.pid, signal.SIGKILL)
            async with asyncio.timeout(timeout_s):
                while record.running():  # noqa: ASYNC110 (macOS tells no event for a process of another parent)
                    await asyncio.sleep(0.05)
    except ProcessLookupError:
        return
    except (TimeoutError, PermissionError) as error:
        raise UserError(stuck) from error


def _forget(record_path: Path) -> None:
    record_path.unlink(missing_ok=True)


def _wait_readable(handle: int, timeout_s: float) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    if not poll.poll(timeout_s * 1000):
        raise TimeoutError


def _ps(pid: int, column: str) -> str:
    done = subprocess.run(["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()
