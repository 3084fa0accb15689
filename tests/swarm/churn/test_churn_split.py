"""The network splits and heals: both sides keep one history. Real links, cut between network namespaces."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from churn_network import ChurnNetwork
from homes import Homes
from processes import Processes
from small_network import Wares

from anynode.rounds.course import Open
from anynode_contracts.canonical import parse_json
from anynode_contracts.errors import UserError

WORKERS = ("worker-1", "worker-2", "worker-3")
#: Chain, verifier and owner live in home 0, each worker in one of its own.
HOME_OF = {name: index for index, name in enumerate(WORKERS, start=1)}


class HomeProcesses(Processes):
    """Each process runs in the home of its name, everything else in home 0."""

    homes: Homes

    def prefix(self, name: str) -> Sequence[str]:
        return self.homes[HOME_OF.get(name, 0)].enter


class SplitNetwork(ChurnNetwork):
    """A swarm whose peers reach each other only over lines that can be cut."""

    def __init__(self, wares: Wares, homes: Homes) -> None:
        super().__init__(wares)
        self.homes, self.host = homes, homes[0].address
        self.processes = HomeProcesses(self.home)
        self.processes.homes = homes

    def start_worker(self, name: str, *options: str) -> None:
        super().start_worker(name, "--host", self.homes[HOME_OF[name]].address, *options)

    def get(self, path: str) -> Any:
        """Asked from home 0, since the API cannot be reached from here."""
        program = "import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1], timeout=60).read())"
        done = self.homes[0].run(
            [sys.executable, "-c", program, self.api_url + path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert done.returncode == 0, done.stderr
        return parse_json(done.stdout)


pytestmark = pytest.mark.deep


@pytest.fixture(scope="module")
def homes() -> Iterator[Homes]:
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(Homes(1 + len(WORKERS), up_mbit=1000, down_mbit=1000))
        except UserError as error:
            pytest.skip(f"NO NETWORK IS SPLIT HERE: {error}")
        yield made


@pytest.fixture(scope="module")
def split(churn_wares: Wares, homes: Homes) -> Iterator[SplitNetwork]:
    with SplitNetwork(churn_wares, homes) as network:
        network.begin()
        network.start_worker(WORKERS[2])
        network.until_trained(WORKERS[2], 0, *WORKERS[:2])
        yield network


def test_a_worker_is_cut_off_and_comes_back(split: SplitNetwork) -> None:
    """Rounds go on without it as soon as it has been silent for a while; healed, it takes part as before."""
    before = split.lines()
    split.homes[HOME_OF["worker-3"]].cut()
    split.until("a round without it", lambda: len(split.bodies(Open)[-1].members) == 2, "verifier", *WORKERS)
    split.until_rounds(1, *WORKERS)
    split.homes[HOME_OF["worker-3"]].heal()
    split.until_trained("worker-3", split.bodies(Open)[-1].round, *WORKERS[:2])
    split.check(before)


def test_the_coordinator_is_alone_and_all_come_back(split: SplitNetwork) -> None:
    """No worker makes a history of its own, and the coordinator's goes on where it stood."""
    logs = {name: len(split.processes.log(name)) for name in WORKERS}

    def all_say(words: str) -> bool:
        return all(words in split.processes.log(name)[logs[name] :] for name in WORKERS)

    split.homes[0].cut()
    before = split.lines()
    split.until("that it is missed", lambda: all_say("does not answer"), "verifier", *WORKERS)
    split.homes[0].heal()
    split.until("its return", lambda: all_say("answers again"), "verifier", *WORKERS)
    split.until_rounds(2, *WORKERS)
    split.check(before)
