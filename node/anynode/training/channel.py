"""The pipe to a training process: start it, send requests one after the other, notice when it dies or stalls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from anynode.training.messages import Progress
from anynode.training.wire import LENGTH_BYTES, decode_frame, encode_frame, frame_length
from anynode_contracts.errors import InvariantError, RefusedError, StorageError, UserError

OnProgress = Callable[[Progress], None]

_PASSED_ON = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "PYTHONPATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "HOME",
    "CUDA_VISIBLE_DEVICES",
)
_LOG_TAIL_BYTES = 2_000
_CLOSE_TIMEOUT_S = 10.0
_GREETING = 0


class Channel:
    """A running process and who waits for its answers. ``death`` says why it can no longer answer, when it
    cannot.
    """

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path, stall_timeout_s: float) -> None:
        self.process, self.death = process, ""
        self._log_path, self._stall_timeout_s = log_path, stall_timeout_s
        self._turn = asyncio.Lock()
        self._waiting: dict[int, asyncio.Queue[dict[str, Any] | None]] = {_GREETING: asyncio.Queue()}
        self._count = _GREETING
        self._busy_with = "starting"
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, log_path: Path, stall_timeout_s: float, pins: Mapping[str, str]) -> Channel:
        """Start ``python -m anynode.training.trainer`` with none of our secrets; ``pins`` are the variables that hold
        its arithmetic, as they must be before torch is imported.
        """
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        with _log_file(log_path) as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "anynode.training.trainer"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment | dict(pins),
                start_new_session=True,  # a Ctrl-C in the terminal is for the parent, which then closes us in order
            )
        return cls(process, log_path, stall_timeout_s)

    async def open(self, opening: dict[str, Any]) -> dict[str, Any]:
        """Send the first frame and wait for the greeting."""
        await self._send(opening)
        return await self._outcome(self._waiting[_GREETING], None)

    async def ask(self, command: str, body: dict[str, Any], on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Send one request when those before it are done, and wait for its answer."""
        async with self._turn:
            if self.death:
                raise UserError(self.death)
            self._count += 1
            number, self._busy_with = self._count, command
            answers: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
            self._waiting[number] = answers
            try:
                await self._send({"id": number, "do": command, "with": body})
                return await self._outcome(answers, on_progress)
            except asyncio.CancelledError:
                if not self.death and self.process.stdin is not None:
                    self.process.stdin.write(encode_frame({"cancel": number}))
                raise
            finally:
                del self._waiting[number]

    async def close(self) -> None:
        """End the process and wait until it is gone. Safe to call twice."""
        self.death = self.death or "the training process was closed; start it again"
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self._end()
        await self._reading

    async def _outcome(
        self, answers: asyncio.Queue[dict[str, Any] | None], on_progress: OnProgress | None
    ) -> dict[str, Any]:
        while True:
            try:
                frame = await asyncio.wait_for(answers.get(), self._stall_timeout_s)
            except TimeoutError as error:
                self.death = (
                    f"the training process made no progress for {self._stall_timeout_s:.0f} s while busy with "
                    f"{self._busy_with!r} and was ended; start it again or raise its stall timeout"
                )
                self._kill()
                raise UserError(self.death) from error
            if frame is None:
                raise UserError(self.death)
            if "progress" in frame:
                if on_progress is not None:
                    on_progress(Progress.from_json(frame["progress"]))
            elif "failed" in frame:
                raise self._failure(frame["failed"])
            else:
                return dict(frame["ok"])

    def _failure(self, failed: dict[str, str]) -> Exception:
        kind, message = failed["kind"], failed["message"]
        if kind == "refused":
            return RefusedError(message)
        if kind == "storage":
            return StorageError(message)
        if kind == "fault":
            return InvariantError(f"fault in the training process, see {self._log_path}: {message}")
        return UserError(message)

    async def _send(self, value: dict[str, Any]) -> None:
        stdin = self.process.stdin
        if stdin is None:
            raise InvariantError("the training process has no input")
        with contextlib.suppress(ConnectionError):  # the reading task tells why it died
            stdin.write(encode_frame(value))
            await stdin.drain()

    async def _read(self) -> None:
        """Hand frames to whoever waits for them; when they end, tell everyone that the process has died."""
        stdout = self.process.stdout
        if stdout is None:
            raise InvariantError("the training process has no output")
        try:
            while True:
                length = frame_length(await stdout.readexactly(LENGTH_BYTES))
                frame = decode_frame(await stdout.readexactly(length))
                queue = self._waiting.get(int(frame.get("id", _GREETING)))
                if queue is not None:
                    queue.put_nowait(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._end()
        except (RefusedError, ValueError, TypeError):
            self._kill()
            await self.process.wait()
        self.death = self.death or self._obituary(self.process.returncode or 0)
        for queue in self._waiting.values():
            queue.put_nowait(None)

    def _obituary(self, code: int) -> str:
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        tail = _tail(self._log_path)
        said = f" (last in {self._log_path}: {tail})" if tail else ""
        return (
            f"the training process {how} while busy with {self._busy_with!r}{said}; start it again, and free memory "
            "if the system ended it"
        )

    async def _end(self) -> None:
        """Wait until the process is gone, and make it go if it takes too long."""
        try:
            await asyncio.wait_for(self.process.wait(), _CLOSE_TIMEOUT_S)
        except TimeoutError:
            self._kill()
            await self.process.wait()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[BinaryIO]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another folder for the log") from error
    with file:
        yield file


def _tail(path: Path) -> str:
    """The log's last lines as one."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(line for line in lines[-3:])
