"""The libp2p daemon (hivemind's p2pd): started by us, tied to our life, ended with us."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

from anynode.swarm.identity import IdentityLock, ensure_identity
from anynode.swarm.processes import (
    FOLDER_PREFIX,
    ProcessRecord,
    bound_to_parent,
    cpu_ticks,
    end_stale,
    remove_folder,
    started,
)
from anynode.swarm.settings import DaemonSettings, daemon_arguments
from anynode_contracts.errors import UnreachableError, UserError, invariant

log = logging.getLogger(__name__)

READY_PREFIX = "Peer ID:"
REPORT_EVERY_S = 5.0
STALLED_S = 60.0
SOCKET_PATH_BYTES_MAX = 100  # sun_path holds 104 (macOS) or 108 (Linux) bytes
CLOSE_GRACE_S = 5.0


class DaemonEndedError(UnreachableError):
    """Our own libp2p daemon has ended, with these last words; the caller has to start anew."""

    def __init__(self, last_words: str = "") -> None:
        said = f" ({last_words})" if last_words else ""
        super().__init__(f"this node's libp2p daemon has ended{said}; start the node again")


class Daemon:
    """A running p2pd. ``folder`` (mode 0700) holds its sockets; ``ended`` is set when the process has gone."""

    def __init__(self, peer_id: str, folder: Path, record_path: Path, lock: IdentityLock) -> None:
        self.peer_id = peer_id
        self.folder = folder
        self.ended = asyncio.Event()
        self.last_words: deque[str] = deque(maxlen=20)
        self._record_path = record_path
        self._lock = lock
        self._lines = 0
        self._ready = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def control_path(self) -> Path:
        return self.folder / "control.sock"

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @classmethod
    async def start(
        cls,
        identity_path: Path,
        settings: DaemonSettings,
        state_dir: Path,
        *,
        initial_peers: tuple[str, ...] = (),
        say: Callable[[str], None] = log.info,
        stalled_s: float = STALLED_S,
    ) -> Daemon:
        """Start the daemon and wait until it listens.

        A daemon that an earlier, killed run has left behind with this identity is ended first. A slow machine is
        waited for as long as the daemon does anything (computes or speaks), and ``say`` hears of it; it is given up
        when it has done nothing for ``stalled_s``. Raises ``UserError`` when the port is taken, the identity is in
        use or the daemon cannot run.
        """
        peer_id = ensure_identity(identity_path)
        lock = IdentityLock(identity_path)
        daemon = cls(peer_id, Path(), state_dir / f"p2pd-{peer_id[-12:]}.json", lock)
        try:
            await end_stale(daemon._record_path)
            refuse_taken_port(settings.host, settings.port)
            daemon.folder = _socket_folder()
            await daemon._spawn(settings, identity_path, initial_peers)
            await daemon._until_ready(settings, say, stalled_s)
        except BaseException:
            await daemon.close()
            raise
        return daemon

    async def close(self) -> None:
        """End the daemon: asked first, killed after a grace time. Safe to call twice, and after a crash."""
        process = self._process
        try:
            if process is not None:
                await _end(process)
            if self._reading is not None:
                await self._reading
        finally:
            if process is not None:
                self._record_path.unlink(missing_ok=True)
            remove_folder(self.folder)
            self._lock.release()

    async def _spawn(self, settings: DaemonSettings, identity_path: Path, initial_peers: tuple[str, ...]) -> None:
        with as_file(files("hivemind.hivemind_cli") / "p2pd") as binary:
            arguments = daemon_arguments(
                binary,
                settings,
                identity_path=identity_path,
                control_path=self.control_path,
                initial_peers=initial_peers,
            )
            # An environment of its own: nothing of ours that may be secret goes to it.
            environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
            environment["GOLOG_LOG_LEVEL"] = "error"
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # Ctrl-C reaches us only: we take leave, then end the daemon
                    preexec_fn=bound_to_parent(),
                )
            except OSError as error:
                raise UserError(
                    f"hivemind's libp2p daemon cannot be run ({error.strerror}); install hivemind again on Linux,"
                    " macOS or WSL"
                ) from error
        self._reading = asyncio.create_task(self._read_output(self._process), name="p2pd output")
        ProcessRecord(self.pid, started(self.pid), str(self.folder)).save(self._record_path)

    async def _read_output(self, process: asyncio.subprocess.Process) -> None:
        output = process.stdout
        invariant(output is not None, "the daemon's output is a pipe")
        while output is not None:
            try:
                line = await output.readline()
            except ValueError:  # a line over the reader's limit says nothing we wait for
                continue
            if not line:
                break
            text = line.decode(errors="replace").rstrip()[:500]
            self._lines += 1
            self.last_words.append(text)
            log.debug("p2pd: %s", text)
            if text.startswith(READY_PREFIX):
                self._ready.set()
        await process.wait()
        self.ended.set()

    async def _until_ready(self, settings: DaemonSettings, say: Callable[[str], None], stalled_s: float) -> None:
        began = moved = time.monotonic()
        done_before: tuple[int, int] = (0, 0)
        waits = [asyncio.create_task(event.wait()) for event in (self._ready, self.ended)]
        try:
            while True:
                done, _ = await asyncio.wait(waits, timeout=REPORT_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                if self._ready.is_set():
                    return
                if done:
                    raise UserError(why_it_ended(list(self.last_words), settings))
                now = time.monotonic()
                done_so_far = (cpu_ticks(self.pid), self._lines)
                if done_so_far != done_before:
                    done_before, moved = done_so_far, now
                if now - moved > stalled_s:
                    raise UserError(
                        f"the libp2p daemon has done nothing for {now - moved:.0f} s, {now - began:.0f} s after its"
                        " start; start again when the machine is less busy"
                    )
                cpu_s = done_so_far[0] / os.sysconf("SC_CLK_TCK")
                say(f"waiting for the libp2p daemon to start ({now - began:.0f} s, {cpu_s:.1f} s of work)")
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    try:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            async with asyncio.timeout(CLOSE_GRACE_S):
                await process.wait()
    except TimeoutError:
        log.warning("the libp2p daemon does not end when asked; killing it")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    await process.wait()


def refuse_taken_port(host: str, port: int) -> None:
    """Raise ``UserError`` if something listens on ``port``.

    Needed besides the daemon's own check: libp2p listens with SO_REUSEPORT, so a second daemon of the same user
    would share the port and take half of the connections.
    """
    if port == 0:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            code = getattr(error, "errno", None)
            raise UserError(_port_sentence(host, port, code)) from error


def why_it_ended(last_words: list[str], settings: DaemonSettings) -> str:
    """One sentence from what the daemon said before it ended."""
    said = " ".join(last_words)
    for phrase, code in (
        ("address already in use", errno.EADDRINUSE),
        ("cannot assign requested address", errno.EADDRNOTAVAIL),
        ("permission denied", errno.EACCES),
    ):
        if phrase in said:
            return _port_sentence(settings.host, settings.port, code)
    last = last_words[-1] if last_words else "it said nothing"
    return f"the libp2p daemon ended at its start ({last}); check the host, port and relay settings"


def _port_sentence(host: str, port: int, code: int | None) -> str:
    if code == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another program; stop that program or choose another port"
    if code == errno.EACCES:
        return f"port {port} may not be opened by this user; choose one above 1023"
    if code == errno.EADDRNOTAVAIL:
        return f"this machine has no address {host}; use one of its own addresses, or 0.0.0.0 for all of them"
    return f"cannot listen on {host} port {port}; choose an address of this machine and a port from 1 to 65535"


def _socket_folder() -> Path:
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 (mkdtemp makes a private folder with mode 0700)
        if len(parent) + len(FOLDER_PREFIX) + len("xxxxxxxx/control.sock") <= SOCKET_PATH_BYTES_MAX:
            return Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent)).resolve()
    raise UserError("the path of the temporary folder is too long for a socket; set TMPDIR to a shorter one")
