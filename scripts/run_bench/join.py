"""How a newcomer fetches the state over home links, while one of its sources lies and another one dies."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from homes import Home, Homes
from report import Goal, Report, Say

from anynode.blobs.manifest import CHUNK_BYTES_MAX
from anynode.swarm.blob_exchange import PER_SOURCE
from anynode_contracts.errors import UserError

UP_MBIT, DOWN_MBIT = 20.0, 200.0
STATE_MB = 200.0
SOURCES = 4
LIAR, DYING = 1, 2
DIES_AFTER_S = 5.0
SETTLED_AFTER_S = 10.0
PROGRAM = (sys.executable, str(Path(__file__).with_name("state_peer.py")))


def measure(deep: bool, say: Say) -> Report:
    """Real peers, each with its own libp2p daemon, in a home of its own; the line of the dying one is cut."""
    with tempfile.TemporaryDirectory(prefix="anynode-join-") as name:
        folder = Path(name)
        made = _made(folder, STATE_MB * (3 if deep else 1))
        with Homes(SOURCES + 1, up_mbit=UP_MBIT, down_mbit=DOWN_MBIT) as homes:
            started = [_seed(homes[index], folder, lie=index == LIAR) for index in range(SOURCES)]
            seeds = [_address(process) for process in started]
            say(f"{SOURCES} sources serve a state of {made['size_bytes']} bytes at {UP_MBIT:g} Mbit/s each")
            newcomer = homes[SOURCES]
            wanted = [str(folder / "fetched"), str(folder / "newcomer"), newcomer.address, made["root"]]
            process = newcomer.popen(
                [*PROGRAM, "fetch", *wanted, *seeds], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            return _report(_watched(process, homes[DYING], say), made)


def _watched(process: subprocess.Popen[str], dying: Home, say: Say) -> dict[str, Any]:
    """All that the newcomer says; the line of ``dying`` is cut on the way."""
    facts: dict[str, Any] = {"progress": [], "died_s": None}
    for line in _lines(process):
        facts |= {key: value for key, value in line.items() if key not in ("at_s", "done_bytes")}
        if "done_bytes" not in line:
            continue
        facts["progress"].append((line["at_s"], line["done_bytes"]))
        if facts["died_s"] is None and line["at_s"] - facts["began_s"] >= DIES_AFTER_S:
            dying.cut()
            facts["died_s"] = time.monotonic()
            say(f"one source dies after {line['done_bytes']} bytes")
    if process.wait() != 0 or "bad_chunks" not in facts:
        raise UserError("the newcomer did not get the state; run the benchmark again on a machine that is less busy")
    return facts


def _report(facts: dict[str, Any], made: dict[str, Any]) -> Report:
    from_s = facts["died_s"] + SETTLED_AFTER_S
    at_first = max((done for at_s, done in facts["progress"] if at_s <= from_s), default=0)
    ended_s, done = facts["progress"][-1]
    window_s = ended_s - from_s
    if window_s <= SETTLED_AFTER_S:
        raise UserError("the state was there too soon after the death for a figure; make it larger")
    honest = SOURCES - 2
    # Parts of these had come before the window began; they are left out altogether.
    under_way = honest * PER_SOURCE * CHUNK_BYTES_MAX
    fetched = done - at_first - under_way
    share = fetched * 8 / 1e6 / window_s / (honest * UP_MBIT)
    return Report(
        keys={
            "link_share": share,
            "bad_chunks_accepted": facts["bad_chunks"],
            "fetch_s": ended_s - facts["began_s"],
            "window_s": window_s,
            "window_bytes": fetched,
            "state_bytes": made["size_bytes"],
            "sources_dropped": len(facts["dropped"]),
        },
        goals=(Goal("link_share", ">=", 0.85), Goal("bad_chunks_accepted", "==", 0)),
        columns=("source dropped", "why"),
        rows=[tuple(item.split(": ", 1)) for item in facts["dropped"]],
        notes=(
            f"link_share: payload of the last {window_s:.0f} s over {honest} uplinks of {UP_MBIT:g} Mbit/s, of which"
            f" TCP/IP headers alone take 3.5 %; {under_way} bytes that may have been on their way before are left out.",
        ),
    )


def _made(folder: Path, megabytes: float) -> dict[str, Any]:
    done = subprocess.run(
        [*PROGRAM, "make", str(folder / "state"), str(megabytes)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise UserError(f"the state could not be made: {done.stderr.strip()[-300:]}")
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def _seed(home: Home, folder: Path, *, lie: bool) -> subprocess.Popen[str]:
    return home.popen(
        [*PROGRAM, "seed", str(folder / "state"), str(folder / f"seed{home.index}"), home.address]
        + (["lie"] if lie else []),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _address(seed: subprocess.Popen[str]) -> str:
    """The multiaddr of a source, once it serves."""
    for line in _lines(seed):
        return str(line["address"])
    raise UserError("a source did not start; run the benchmark again on a machine that is less busy")


def _lines(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    for line in process.stdout or ():
        yield json.loads(line)
