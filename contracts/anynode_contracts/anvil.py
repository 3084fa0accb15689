"""The local development chain: finds the ``anvil`` binary that npm installed, and runs it tied to our life."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from web3 import Web3

from anynode_contracts.errors import UnreachableError, UserError, invariant
from anynode_contracts.networks import connect

_LISTENING = re.compile(r"Listening on [\d.]+:(\d+)")
_SYSTEMS = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}
_MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_STOP_WAIT_S = 10.0
#: Run first in the child, then replaced by anvil: on Linux, die with the parent, also if that is killed. It has an
#: interpreter of its own because running code between fork and exec is not safe in a program with threads.
_TIE_AND_EXEC = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def find_anvil(root: Path) -> Path:
    """The anvil binary of this platform below ``root/node_modules``, or else on PATH. Raises ``UserError``."""
    name = f"anvil-{_SYSTEMS.get(platform.system(), '?')}-{_MACHINES.get(platform.machine(), '?')}"
    folder = root / "node_modules" / "@foundry-rs" / name / "bin"
    binary = folder / ("anvil.exe" if os.name == "nt" else "anvil")
    if binary.is_file():
        return binary
    on_path = shutil.which("anvil")
    if on_path is None:
        raise UserError(f"anvil is not installed below {root}; run `npm ci` there, which brings its binary")
    return Path(on_path)


class Anvil:
    """A running anvil, and a context manager that stops it. On Linux it dies with this process however that ends.

    Start it from a thread that lives as long as the chain should: the kernel ties it to the thread's life.
    """

    def __init__(self, process: subprocess.Popen[str], port: int, drain: threading.Thread) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.w3: Web3 = connect(self.url, timeout_s=60)
        self._drain = drain

    @classmethod
    def start(
        cls,
        binary: Path,
        *,
        port: int = 0,
        epoch_blocks: int = 1,
        arguments: Sequence[str] = (),
        log: Path | None = None,
    ) -> Anvil:
        """Start the chain on a loopback ``port`` (0: a free one) and return once it listens.

        One block per transaction; a block is final two epochs later. What anvil says is written to ``log``.
        Raises ``UserError`` if the port is taken and ``UnreachableError`` if anvil ends before it listens.
        """
        place = ("--host", "127.0.0.1", "--port", str(port))
        command = [str(binary), *place, "--slots-in-an-epoch", str(epoch_blocks), *arguments]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _TIE_AND_EXEC, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output = process.stdout
        invariant(output is not None, "the child has a pipe for its output")
        assert output is not None  # noqa: S101 - tells the type checker what the invariant has checked
        target = (log or Path(os.devnull)).open("a", encoding="utf-8")
        said: list[str] = []
        for line in output:
            target.write(line)
            said.append(line)
            if found := _LISTENING.search(line):
                drain = threading.Thread(target=_copy, args=(output, target), name="anvil-log", daemon=True)
                drain.start()
                return cls(process, int(found[1]), drain)
        target.close()
        output.close()
        process.wait()
        if "in use" in "".join(said):
            raise UserError(f"port {port} is taken; stop what listens there or choose another port")
        last = said[-1].strip() if said else "it said nothing"
        raise UnreachableError(f"anvil ended before it listened ({last}); run {binary} by hand to see why")

    def rpc(self, method: str, *parameters: object) -> object:
        """Call one of anvil's own methods, such as ``evm_snapshot``."""
        answer = self.w3.provider.make_request(method, list(parameters))  # type: ignore[arg-type]
        if "error" in answer:
            raise UserError(f"the development chain refused {method}: {answer['error']}")
        return answer["result"]

    def fund(self, address: str, ether: int) -> None:
        """Set the balance of ``address``: on a development chain ether costs nothing."""
        self.rpc("anvil_setBalance", Web3.to_checksum_address(address), hex(ether * 10**18))

    def pass_time(self, seconds: int) -> None:
        """Move the clock on and mine a block, as if ``seconds`` had passed."""
        self.rpc("evm_increaseTime", seconds)
        self.rpc("evm_mine")

    def mine(self, blocks: int) -> None:
        """Mine empty blocks."""
        self.rpc("anvil_mine", hex(blocks))

    def snapshot(self) -> str:
        """Remember the chain's state; returns what :meth:`revert` wants."""
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Return to a snapshot, which is used up by that."""
        invariant(self.rpc("evm_revert", snapshot) is True, f"snapshot {snapshot} exists")

    def stop(self) -> None:
        """End the process and wait for it. It gets time to write its state, if it was told to."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._drain.join()

    def __enter__(self) -> Anvil:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _copy(source: IO[str], target: IO[str]) -> None:
    """Keep anvil's pipe empty, so that it never blocks."""
    with source, target:
        shutil.copyfileobj(source, target)
