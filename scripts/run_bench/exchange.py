"""One averaging of float32 parameters over real peers on this machine, beside hivemind's all-reduce with 8 bits."""

from __future__ import annotations

import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from homes import Namespace, require
from report import Goal, Report, Say

from anynode_contracts.errors import UserError

SIZES_MB, DEEP_SIZES_MB = (8, 32), (8, 32, 128)
PEERS = (2, 4, 8)
REPEATS = 3
PROGRAM = (sys.executable, str(Path(__file__).with_name("exchange_peer.py")))
SETTINGS = {
    "parts of 512 KiB": {"part_size_bytes": 1 << 19, "threads": 1},
    "parts of 2 MiB": {"part_size_bytes": 1 << 21, "threads": 1},
    "parts of 512 KiB, 2 threads": {"part_size_bytes": 1 << 19, "threads": 2},
}
"""How hivemind's all-reduce may be run; it is judged by the one that is fastest in the same call."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one averaging took: seconds until the last peer had the average, and bytes on the loopback device."""

    seconds: float
    wire_bytes: int


def measure(deep: bool, say: Say) -> Report:
    """Every peer is a process with libp2p daemons of its own, in a network namespace where nothing else sends."""
    require(nat=False)
    rows: list[tuple[object, ...]] = []
    time_ratios, bytes_ratios = {}, {}
    moments: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="anynode-exchange-") as name:
        for size_mb in DEEP_SIZES_MB if deep else SIZES_MB:
            job = Path(name) / str(size_mb) / "job"
            _made(job, size_mb << 18)
            for count in PEERS:
                case = f"{size_mb} MB, {count} peers"
                with Swarm(Path(name) / f"{size_mb}-{count}", job, count) as swarm:
                    ours, theirs, with_moments = _interleaved(swarm)
                best = min(theirs, key=lambda setting: _median(theirs[setting]))
                our_s, their_s = _median(ours), _median(theirs[best])
                our_bytes, their_bytes = ours[-1].wire_bytes, theirs[best][-1].wire_bytes
                moments[case] = with_moments.seconds
                if size_mb in SIZES_MB:
                    time_ratios[case], bytes_ratios[case] = our_s / their_s, our_bytes / their_bytes
                rows.append(
                    (case, our_s, their_s, our_s / their_s, our_bytes, their_bytes, our_bytes / their_bytes, best)
                )
                say(f"{case}: {our_s:.3f} s against {their_s:.3f} s, {our_bytes} against {their_bytes} bytes")
    return Report(
        keys={
            "time_ratio": max(time_ratios.values()),
            "bytes_ratio": max(bytes_ratios.values()),
            "time_ratio_median": statistics.median(time_ratios.values()),
            "with_moments_s": moments,
        },
        goals=(Goal("time_ratio", "<=", 0.5), Goal("bytes_ratio", "<=", 0.6)),
        columns=("case", "s", "hivemind s", "ratio", "bytes", "hivemind bytes", "ratio", "hivemind at its best"),
        rows=rows,
        notes=(
            f"Medians of {REPEATS} interleaved runs after one that warms up; the ratios are the worst of all cases.",
            "Bytes are those of the loopback device, with all headers and acknowledgements. The copies that a"
            " coordinator keeps are not part of an averaging and not counted.",
            "hivemind: Uniform8BitQuantization (its block-wise one needs bitsandbytes, which it does not install).",
        ),
    )


def _interleaved(swarm: Swarm) -> tuple[list[Taken], dict[str, list[Taken]], Taken]:
    ours: list[Taken] = []
    theirs: dict[str, list[Taken]] = {setting: [] for setting in SETTINGS}
    for _ in range(1 + REPEATS):
        ours.append(swarm.ours(refresh=False))
        for setting, facts in SETTINGS.items():
            theirs[setting].append(swarm.theirs(**facts))
    return ours[1:], {setting: taken[1:] for setting, taken in theirs.items()}, swarm.ours(refresh=True)


class Swarm(AbstractContextManager["Swarm"]):
    """``count`` peers that take orders from here."""

    def __init__(self, folder: Path, job: Path, count: int) -> None:
        self._folder, self._job, self._count = folder, job, count
        self._peers: list[subprocess.Popen[str]] = []
        self._rounds = 0

    def __enter__(self) -> Swarm:
        self._net = Namespace()
        try:
            self._net.ip("link", "set", "lo", "up")
            for slot in range(self._count):
                folder = self._folder / str(slot)
                folder.mkdir(parents=True)
                with (folder / "log").open("wb") as log:
                    self._peers.append(
                        self._net.popen(
                            [*PROGRAM, "run", str(folder), str(self._job), str(slot)],
                            stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE,
                            stderr=log,
                            text=True,
                        )
                    )
            peers = self._tell(do="introduce")
            self._tell(do="connect", peers=peers)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for peer in self._peers:
            peer.kill()
            peer.communicate()
        self._net.close()

    def ours(self, *, refresh: bool) -> Taken:
        """One averaging our way, from float32 to float32."""
        self._tell(do="draw")
        self._rounds += 1
        facts = {"round": self._rounds, "refresh": refresh}
        sent, began_s = self._sent(), time.monotonic()
        roots = [answer["root"] for answer in self._tell(do="commit", **facts)]
        averages = self._tell(do="seal", roots=roots, **facts)
        results = {
            chunk: (digest, slot)
            for slot, answer in enumerate(averages)
            for chunk, digest in answer["averages"].items()
        }
        taken = self._taken(sent, began_s, self._tell(do="finish", results=results, **facts))
        if len({answer["hash"] for answer in self._tell(do="check")}) != 1:
            raise UserError("the peers do not hold the same average; this is a fault, report it")
        return taken

    def theirs(self, *, part_size_bytes: int, threads: int) -> Taken:
        """One averaging by hivemind's all-reduce of the same vectors."""
        group = secrets.token_hex(8)
        self._tell(do="prepare", group=group, part_size_bytes=part_size_bytes, threads=threads)
        sent, began_s = self._sent(), time.monotonic()
        return self._taken(sent, began_s, self._tell(do="reduce"))

    def _taken(self, sent: int, began_s: float, answers: list[dict[str, Any]]) -> Taken:
        ended_s = max(answer["at_s"] for answer in answers)
        return Taken(ended_s - began_s, self._sent() - sent)

    def _sent(self) -> int:
        return self._net.traffic("lo").sent_bytes

    def _tell(self, **order: Any) -> list[dict[str, Any]]:
        """Give all peers an order at once, and wait for all answers."""
        line = json.dumps(order) + "\n"
        for peer in self._peers:
            if peer.stdin is not None:
                peer.stdin.write(line)
                peer.stdin.flush()
        answers = []
        for slot, peer in enumerate(self._peers):
            said = peer.stdout.readline() if peer.stdout is not None else ""
            if not said:
                log = (self._folder / str(slot) / "log").read_text(errors="replace").strip()
                raise UserError(f"a peer ended over {order['do']!r}: {log[-400:]}")
            answers.append(json.loads(said))
        return answers


def _made(folder: Path, values: int) -> None:
    done = subprocess.run([*PROGRAM, "make", str(folder), str(values)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"the job could not be made: {done.stderr.strip()[-300:]}")


def _median(taken: list[Taken]) -> float:
    return statistics.median(item.seconds for item in taken)
