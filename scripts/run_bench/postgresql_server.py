"""A PostgreSQL server of our own, for tests and benchmarks: a private folder and socket, no port, gone when we are."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO

import psycopg

from anynode_contracts.errors import UserError, invariant

PACKAGE = "postgresql"
_DEBIAN = Path("/usr/lib/postgresql")
_OWNER = "anynode"
_READY = b"database system is ready to accept connections"
_STOP_WAIT_S = 20.0
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
_SETTINGS = (
    "listen_addresses=",
    "max_connections=40",
    "shared_buffers=64MB",
    "wal_level=minimal",
    "max_wal_senders=0",
    "log_min_messages=log",
)


def programs() -> Path:
    """The folder with ``initdb`` and ``postgres``: Debian's newest, or what is on PATH.

    Where there is none and we may, Debian's package is installed. Raises ``UserError`` saying why it cannot be.
    """
    found = _installed()
    if found is not None:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise UserError(
            "no PostgreSQL server is installed, and only root can install one with apt-get; install the package"
            f" {PACKAGE} of your system"
        )
    _install()
    found = _installed()
    if found is None:
        raise UserError(f"apt-get installed {PACKAGE} but there is no server below {_DEBIAN}; put postgres on PATH")
    return found


def _installed() -> Path | None:
    versions = [path for path in _DEBIAN.glob("*/bin") if (path / "postgres").is_file() and (path / "initdb").is_file()]
    if versions:
        return max(versions, key=lambda path: float(path.parent.name))
    on_path = shutil.which("postgres")
    folder = Path(on_path).resolve().parent if on_path else None
    return folder if folder is not None and (folder / "initdb").is_file() else None


def _install() -> None:
    # RUNLEVEL: Debian's package would start a server of its own, on a port
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for arguments in (("update", "-q"), ("install", "-q", "-y", "--no-install-recommends", PACKAGE)):
        done = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"apt-get could not install {PACKAGE} ({last}); install it by hand")


class Server:
    """A running server, and a context manager that stops it and removes its folder.

    ``durable``: writes reach the disk before they count, as on a real server; tests do without.
    """

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder = folder
        self._program = command
        self._numbers = itertools.count(1)
        self.resume()

    @classmethod
    def start(cls, *, durable: bool = False) -> Server:
        """Start one and return once it takes connections. Raises ``UserError`` when there is none to start."""
        binaries = programs()
        folder = Path(tempfile.mkdtemp(prefix="anynode-pg-"))
        try:
            as_owner = _as_owner(folder)
            data = folder / "data"
            made = [
                *as_owner,
                str(binaries / "initdb"),
                "-D",
                str(data),
                "-U",
                _OWNER,
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
            ]
            subprocess.run([*made, "--locale=C"], cwd=folder, capture_output=True, check=True)
            settings = [part for one in (*_SETTINGS, *(() if durable else _QUICK)) for part in ("-c", one)]
            command = [*as_owner, str(binaries / "postgres"), "-D", str(data), "-k", str(folder), *settings]
            return cls(folder, command)
        except subprocess.CalledProcessError as error:
            shutil.rmtree(folder)
            raise UserError(f"{binaries}/initdb failed: {error.stderr.decode()[-300:]}; run it by hand") from error
        except BaseException:
            shutil.rmtree(folder)
            raise

    def url(self, name: str) -> str:
        """The database ``name`` as the ledger takes it."""
        return f"postgresql+psycopg://{_OWNER}@/{name}?host={self.folder}"

    def create(self, template: str = "template0") -> str:
        """A new database, empty or a copy of ``template``, which nobody may have open; its name."""
        name = f"ledger_{next(self._numbers)}"
        self._command(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever has it open."""
        self._command(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _command(self, command: str) -> None:
        with psycopg.connect(host=str(self.folder), user=_OWNER, dbname="postgres", autocommit=True) as connection:
            connection.execute(command.encode())

    def resume(self) -> None:
        """Run it on what is in its folder, and return once it takes connections."""
        self.process = subprocess.Popen(
            self._program, cwd=self.folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._drain = _wait(self.process)

    def halt(self) -> None:
        """End the server, whoever is connected, and wait for it. What it has stored stays."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(_STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._drain.join()

    def stop(self) -> None:
        """End the server, whoever is connected, wait for it, and remove its folder."""
        self.halt()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _as_owner(folder: Path) -> list[str]:
    """How a command is run that must not run as root, and is to end with us; ``folder`` becomes that user's."""
    tied = ["setpriv", "--pdeathsig=INT"] if shutil.which("setpriv") else []
    if os.geteuid() != 0:
        return tied
    invariant(bool(tied), "root has util-linux")
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return [*tied, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    raise UserError("a PostgreSQL server does not run as root, and there is no user postgres or nobody; add one")


def _wait(process: subprocess.Popen[bytes]) -> threading.Thread:
    """Until it takes connections; what it says later is read and thrown away, so that it never blocks."""
    said: list[bytes] = []
    output = process.stderr
    assert output is not None  # noqa: S101 - Popen was told to make the pipe
    for line in output:
        said.append(line)
        if _READY in line:
            drain = threading.Thread(target=_swallow, args=(output,), name="postgresql-log", daemon=True)
            drain.start()
            return drain
    process.wait()
    last = said[-1].decode(errors="replace").strip() if said else "it said nothing"
    raise UserError(f"the PostgreSQL server ended before it was ready ({last}); see that its folder can be written")


def _swallow(output: IO[bytes]) -> None:
    with output:
        for _ in output:
            pass
