"""Homes on this machine: network namespaces behind token buckets, joined by a bridge in a namespace of its own.

    with Homes(4, up_mbit=20, down_mbit=100) as homes:
        server = homes[0].popen(["python", "-m", "http.server"])
        homes[1].run(["curl", f"http://{homes[0].address}:8000"])

Each namespace lives as long as a process of ours that holds it, and that one ends with us, so nothing is left behind
even after a SIGKILL. Linux only, as root, with iproute2 (and nftables for a home behind NAT). Addresses look public,
since libp2p treats private ones in its own way; no packet of theirs leaves the namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from anynode_contracts.errors import UserError

_PR_SET_PDEATHSIG = 1
_COMMON = 0  # the bridge that every line ends at, unless it is cut or split off
_QUEUE_MS = 100  # what a home router buffers
_BURST_MS = 4  # the bucket: what may leave at line rate of the machine
_NAT = """
table ip home {
    chain out {
        type nat hook postrouting priority srcnat
        oifname "line" masquerade
    }
    chain through {
        type filter hook forward priority filter
        iifname "line" ct state != { established, related } drop
    }
}
"""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that have crossed a home's line since it was made, with all headers."""

    sent_bytes: int
    received_bytes: int


@dataclass
class Home:
    """One home: ``address`` is where programs in it listen (a private one behind NAT), ``public_address`` what others
    see. Its line is called ``line``.
    """

    index: int
    address: str
    public_address: str
    _hub: Namespace
    _router: Namespace
    _inside: Namespace
    _started: list[subprocess.Popen[Any]] = field(default_factory=list)

    @property
    def enter(self) -> Sequence[str]:
        """What runs a program in this home when it comes before its command line."""
        return self._inside.enter

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program in this home. It is killed, with all it has started, when the homes are left."""
        process = self._inside.popen(argv, start_new_session=True, **options)
        self._started.append(process)
        return process

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a program in this home to its end."""
        return subprocess.run([*self._inside.enter, *argv], preexec_fn=_die_with_parent, check=False, **options)

    def cut(self) -> None:
        """Nothing gets through any more, as when the provider fails; the home's own link stays up."""
        self._hub.ip("link", "set", f"home{self.index}", "nomaster")

    def heal(self, side: int = _COMMON) -> None:
        """Join the line again, to the common bridge or to one ``side`` of a split network."""
        self._hub.bridge(side)
        self._hub.ip("link", "set", f"home{self.index}", "master", f"side{side}")

    def traffic(self) -> Traffic:
        """What has crossed the line so far."""
        return self._router.traffic("line")

    def end(self) -> None:
        """Kill everything that was started here."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._started.clear()


class Homes:
    """``count`` homes whose lines carry ``up_mbit`` out and ``down_mbit`` in (10^6 bits a second, headers included).

    Those of ``behind_nat`` (indices) have a router in front that lets nothing in that was not asked for. Those of
    ``servers`` are no homes but machines in a data centre: their lines are as fast as this machine.
    """

    def __init__(
        self,
        count: int,
        up_mbit: float,
        down_mbit: float,
        behind_nat: frozenset[int] = frozenset(),
        servers: frozenset[int] = frozenset(),
    ) -> None:
        self._count, self._up_mbit, self._down_mbit = count, up_mbit, down_mbit
        self._behind_nat, self._servers = behind_nat, servers
        self._namespaces: list[Namespace] = []
        self._homes: list[Home] = []

    def __enter__(self) -> Homes:
        require(nat=bool(self._behind_nat))
        try:
            hub = self._namespace()
            hub.bridge(_COMMON)
            for index in range(self._count):
                self._homes.append(self._build(hub, index))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __getitem__(self, index: int) -> Home:
        return self._homes[index]

    def __len__(self) -> int:
        return len(self._homes)

    def split(self, *groups: Sequence[int]) -> None:
        """Part the network: homes of different groups no longer reach each other. `Home.heal` joins one again."""
        for side, group in enumerate(groups, start=1):
            for index in group:
                self._homes[index].heal(side)

    def _build(self, hub: Namespace, index: int) -> Home:
        router = self._namespace()
        public = f"11.77.{index // 250}.{index % 250 + 2}"
        port = f"home{index}"
        hub.ip("link", "add", port, "type", "veth", "peer", "name", "line", "netns", str(router.pid))
        hub.ip("link", "set", port, "master", f"side{_COMMON}", "up")
        router.ip("address", "add", f"{public}/16", "dev", "line")
        router.ip("link", "set", "line", "up")
        if index not in self._servers:
            router.shape("line", self._up_mbit)
            hub.shape(port, self._down_mbit)
        if index not in self._behind_nat:
            return Home(index, public, public, hub, router, router)
        inside = self._namespace()
        router.ip("link", "add", "rooms", "type", "veth", "peer", "name", "eth0", "netns", str(inside.pid))
        router.ip("address", "add", "192.168.1.1/24", "dev", "rooms")
        router.ip("link", "set", "rooms", "up")
        inside.ip("address", "add", "192.168.1.2/24", "dev", "eth0")
        inside.ip("link", "set", "eth0", "up")
        inside.ip("route", "add", "default", "via", "192.168.1.1")
        router.call("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        router.call("nft", "-f", "-", text=_NAT)
        return Home(index, "192.168.1.2", public, hub, router, inside)

    def _namespace(self) -> Namespace:
        namespace = Namespace()
        self._namespaces.append(namespace)
        namespace.ip("link", "set", "lo", "up")
        return namespace

    def _close(self) -> None:
        for home in self._homes:
            home.end()
        for namespace in self._namespaces:
            namespace.close()
        self._homes.clear()
        self._namespaces.clear()


class Namespace:
    """A network namespace, held by a process that does nothing."""

    def __init__(self) -> None:
        # It says a line once it is inside, and ends when we close its input or go.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 (nothing of it takes a lock)
        )
        if not self._holder.stdout or not self._holder.stdout.readline():
            raise UserError("this machine makes no network namespaces; run the benchmark as root on Linux")
        self.pid = self._holder.pid
        self.enter = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--"]
        self._bridges: set[int] = set()

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen([*self.enter, *argv], preexec_fn=_die_with_parent, **options)  # noqa: PLW1509

    def call(self, *argv: str, text: str = "") -> None:
        done = subprocess.run([*self.enter, *argv], input=text, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise UserError(f"{' '.join(argv)} failed ({done.stderr.strip()}); run the benchmark as root on Linux")

    def ip(self, *arguments: str) -> None:
        self.call("ip", *arguments)

    def traffic(self, device: str) -> Traffic:
        """What has crossed a device of this namespace."""
        table = Path(f"/proc/{self.pid}/net/dev").read_text(encoding="ascii")
        for row in table.splitlines():
            name, _, numbers = row.partition(":")
            if name.strip() == device:
                columns = numbers.split()
                return Traffic(sent_bytes=int(columns[8]), received_bytes=int(columns[0]))
        raise UserError(f"a namespace has lost its device {device}; start again")

    def bridge(self, side: int) -> None:
        if side not in self._bridges:
            self.ip("link", "add", f"side{side}", "type", "bridge")
            self.ip("link", "set", f"side{side}", "up")
            self._bridges.add(side)

    def shape(self, device: str, rate_mbit: float) -> None:
        """A token bucket on what leaves through ``device``."""
        burst = max(4096, int(rate_mbit * 1e6 / 8 * _BURST_MS / 1e3))
        rule = ["rate", f"{rate_mbit:g}mbit", "burst", f"{burst}b", "latency", f"{_QUEUE_MS}ms"]
        self.call("tc", "qdisc", "add", "dev", device, "root", "tbf", *rule)

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


def require(*, nat: bool) -> None:
    """Raise ``UserError`` where no network namespaces can be made."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise UserError("homes are network namespaces, which Linux makes for root only; run this benchmark as root")
    wanted = {"ip": "iproute2", "tc": "iproute2", "nsenter": "util-linux", "unshare": "util-linux"}
    if nat:
        wanted["nft"] = "nftables"
    for program, package in wanted.items():
        if shutil.which(program) is None:
            raise UserError(f"{program} is missing; install the package {package} (apt install {package})")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
