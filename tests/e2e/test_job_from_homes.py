"""A job trained by a host on the Internet, a home behind NAT and a machine that lets nothing in, with real commands.

Each is a network namespace of its own. Needs root on Linux, iproute2 and nftables; else it is skipped and says why.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "run_bench"))

from homes import Home, Homes
from small_network import JOB, WAIT_LIMIT_S, Wares

from anynode_contracts.errors import UserError

VERIFIER, PUBLIC, BEHIND_NAT, SHUT = range(4)
PAUSE_S = 0.25
ADDRESSES = {"public": PUBLIC, "home": BEHIND_NAT, "shut": SHUT}
NOTHING_IN = """
table ip shut {
    chain inward {
        type filter hook input priority filter
        iifname "line" ct state != { established, related } drop
    }
}
"""


class World:
    """Commands in homes, all with one folder of settings, wallets and data."""

    def __init__(self, homes: Homes, folder: Path) -> None:
        self.homes, self.folder = homes, folder
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text("a password for the tests\n")
        self.environment = {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(folder),
            "ANYNODE_HOME": str(folder / "home"),
            "ANYNODE_PASSWORD_FILE": str(password),
            "PYTHONUNBUFFERED": "1",
        }
        self.processes: dict[str, subprocess.Popen[Any]] = {}
        self.nodes: dict[str, str] = {}

    def run(self, *arguments: str, home: int = VERIFIER) -> dict[str, Any]:
        """One command to its end: its JSON object, an error included."""
        argv = [sys.executable, "-m", "anynode", *arguments, "--json"]
        done = self.homes[home].run(argv, env=self.environment, capture_output=True, text=True, timeout=WAIT_LIMIT_S)
        found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
        return found

    def start(self, name: str, home: Home, *arguments: str, until: str = "") -> None:
        with self.log_path(name).open("wb") as log:
            argv = [sys.executable, "-m", "anynode", *arguments]
            self.processes[name] = home.popen(argv, env=self.environment, stdout=log, stderr=log)
        self.until(f"{until!r} from {name}", lambda: until in self.log(name))

    def until(self, what: str, condition: Any) -> None:
        """Wait for ``condition``; nobody may end meanwhile."""
        end_s = time.monotonic() + WAIT_LIMIT_S
        while not condition():
            for name, process in self.processes.items():
                try:
                    process.wait(PAUSE_S / len(self.processes))
                except subprocess.TimeoutExpired:
                    continue
                raise AssertionError(f"{name} has ended while {what} was waited for:\n{self.log(name)}")
            assert time.monotonic() < end_s, f"{what} has not come about:\n{self.words()}"

    def log_path(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def log(self, name: str) -> str:
        return self.log_path(name).read_text(errors="replace")

    def words(self) -> str:
        return "\n".join(f"--- {name}\n{self.log(name)[-1500:]}" for name in self.processes)

    def bodies(self, kind: str) -> dict[int, dict[str, Any]]:
        """The verifier's records of one kind, by round; the last of each."""
        found = {}
        for path in (self.folder / "home" / "data" / "verifiers").rglob("records.jsonl"):
            for line in path.read_text().splitlines():
                body = json.loads(line)["record"]["body"]
                if body["kind"] == kind:
                    found[body["round"]] = body
        return found


@pytest.fixture(scope="module")
def world(wares: Wares) -> Iterator[World]:
    """A verifier with a job for three, and three workers that have joined."""
    found = Homes(4, up_mbit=200, down_mbit=200, behind_nat=frozenset({BEHIND_NAT}))
    try:
        homes = found.__enter__()
    except UserError as error:
        pytest.skip(f"no homes on this machine: {error}")
    folder = Path(tempfile.mkdtemp(prefix="an-homes-")).resolve()
    try:
        homes[SHUT].run(["nft", "-f", "-"], input=NOTHING_IN, text=True)
        world = World(homes, folder)
        world.start("chain", homes[VERIFIER], "chain", "--state", str(folder / "chain.json"), until="Chain 31337")
        world.run("network", "init", "homes", "--host", homes[VERIFIER].address)
        world.start("verifier", homes[VERIFIER], "verifier", "run", "--network", "homes", until="Peers reach it")
        job = folder / "job.toml"
        text = JOB.format(
            **{"name": "homes", "model": wares.model, "data": wares.data, "rounds": 500, "inner_steps": 20},
            **{"newcomer_steps": 5, "segment_steps": 5, "workers_max": 4},
            **{"workers": 3, "round_s": 300, "exchange_s": 60, "budget": "100"},
        )
        job.write_text(text)
        assert "job_id" in world.run("submit", str(job), "--network", "homes", "--wallet", "homes-owner")
        for name, index in ADDRESSES.items():
            world.nodes[name] = world.run("wallet", "create", name)["address"]
            # A namespace on the Internet has no default route, by which libp2p would find its own address.
            host = ("--host", homes[index].address) if index == PUBLIC else ()
            flags = ("--client-only",) if index == SHUT else ("--port", "4001", *host)
            world.start(name, homes[index], "join", "--network", "homes", "--wallet", name, *flags)
        yield world
    finally:
        found.__exit__(None, None, None)
        shutil.rmtree(folder, ignore_errors=True)


def test_all_three_take_part_and_only_the_reachable_one_reduces(world: World) -> None:
    def all_counted() -> bool:
        chunks = [entry for body in world.bodies("result").values() for entry in body["chunks"]]
        return any(len(entry["senders"]) == len(ADDRESSES) for entry in chunks)

    world.until("a result with the chunks of all three", all_counted)
    nodes, opened = world.nodes, world.bodies("open")
    for number, assigned in world.bodies("assign").items():
        members = {member["slot"]: member for member in opened[number]["members"]}
        assert {members[entry["slot"]]["node"] for entry in assigned["reducers"]} == {nodes["public"]}
        assert {member["node"]: member["reduces"] for member in members.values()} == {
            nodes["public"]: True,
            nodes["home"]: False,
            nodes["shut"]: False,
        }
    assert f"others reach this node at /ip4/{world.homes[PUBLIC].address}/tcp/4001" in world.log("public")
    relay = f"/ip4/{world.homes[VERIFIER].address}/tcp/8421/p2p/"
    assert f"others reach this node through the relay {relay}" in world.log("home")
    assert "client only: this node opens no port" in world.log("shut")
    assert "Training goes on without it" in world.log("home")  # its RPC is on another machine, and silent


def test_a_home_that_reaches_nobody_says_what_was_tried_and_what_to_do(world: World) -> None:
    path = world.folder / "home" / "config" / "networks" / "homes.toml"
    gone = world.folder / "gone.toml"
    gone.write_text(path.read_text().replace(f"/ip4/{world.homes[VERIFIER].address}/", "/ip4/11.77.9.9/"))
    world.run("wallet", "create", "late")
    answer = world.run("join", "--network", str(gone), "--wallet", "late", home=BEHIND_NAT)
    assert answer["exit_code"] == 3
    assert "tried /ip4/11.77.9.9/tcp/8421/p2p/" in answer["error"]
    assert "it is behind a router" in answer["error"] and "--relay" in answer["error"]
