"""A network of four verifiers, each a real process, side by side on this machine."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path
from typing import Any

import httpx
from processes import ANYNODE, free_port
from small_network import NETWORK, VERIFIER_READY, VERIFIER_RUN, SmallNetwork, Wares

from anynode.rounds.chain import read_public
from anynode.rounds.judgements import Verdict
from anynode.rounds.records import SignedRecord
from anynode.worker.home import JobHome
from anynode_contracts.networks import Network

PORTS = range(20_000, 32_000)
"""Below those that outgoing connections take, at any moment, on Linux and macOS."""
WORKERS = ("worker-1", "worker-2")
ROUNDS = 3


def free_in_a_row(count: int) -> int:
    """The first of so many free ports in a row: verifiers of one network listen side by side."""
    for first in random.SystemRandom().sample(PORTS, 100):
        try:
            with contextlib.ExitStack() as taken:
                for port in range(first, first + count):
                    taken.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        return first
    raise AssertionError(f"no {count} free ports in a row")


class FourVerifiers(SmallNetwork):
    """One network with four verifiers, of which the first one settles and takes in jobs, and two workers."""

    init_options = ("--verifiers", "4")

    def __init__(self, wares: Wares) -> None:
        super().__init__(wares)
        self.peer_port = free_in_a_row(4)
        self.api_ports = {1: self.api_port} | {number: free_port() for number in (2, 3, 4)}

    def take_in_job(self, **settings: int) -> str:
        """Its id. No verifier runs yet when it is decided who is on duty for it first."""
        self.start_verifier()
        usual = {"rounds": ROUNDS, "workers": len(WORKERS), "exchange_s": 20}
        job_id = str(self.submit(self.job_file("job", **(usual | settings)))["job_id"])
        self.stop_verifier()
        self._arrange(job_id)
        return job_id

    def start_other(self, number: int, *program: str) -> None:
        """Start the second verifier or a later one; ``program`` stands in for an honest one."""
        program = program or (*ANYNODE, "verifier")
        options = (*VERIFIER_RUN[1:], "--number", str(number))
        api_url = f"http://127.0.0.1:{self.api_ports[number]}"
        self.start_program(f"verifier-{number}", VERIFIER_READY, program, *options, "--api-url", api_url)

    def start_workers(self) -> None:
        for name in WORKERS:
            self.wallet(name)
            self.start_worker(name)

    def status_of(self, number: int) -> dict[str, Any]:
        answer = httpx.get(f"http://127.0.0.1:{self.api_ports[number]}/v1/status", timeout=60.0)
        jobs: list[dict[str, Any]] = answer.json()["jobs"]
        return jobs[0] if jobs else {}

    def on_duty(self) -> int:
        """Which verifier is on duty for the job, as the second one has it."""
        holder = self.status_of(2)["quorum"]["on_duty"]
        return next(other for other in self.api_ports if self.address_of(other) == holder)

    def address_of(self, number: int) -> str:
        return str(self.facts["addresses"]["verifier" if number == 1 else f"verifier-{number}"])

    def all_finished(self, *numbers: int) -> bool:
        """Whether these verifiers know that the job has finished."""
        return all(self.status_of(number).get("phase") == "finished" for number in numbers)

    def has_verdict(self, number: int, job_id: str, round_: int) -> bool:
        """Whether verifier ``number`` has the verdict on a round in its records."""
        bodies = (item.record.body for item in self.records_of(number, job_id))
        return any(isinstance(body, Verdict) and body.round == round_ for body in bodies)

    def said_of_the_accused(self) -> list[str]:
        answer = httpx.get(f"{self.api_url}/v1/status", timeout=60.0)
        return [item["state"] for item in answer.json()["accused"]]

    def records_of(self, number: int, job_id: str) -> list[SignedRecord]:
        name = NETWORK if number == 1 else f"{NETWORK}-{number}"
        return read_public(JobHome(self.home / "home" / "data" / "verifiers" / name / "jobs" / job_id).records_path)

    def _arrange(self, job_id: str) -> None:
        """Put the verifiers into the order of the file in which the second is first on duty, then the third."""
        path = Path(self.facts["path"])
        known = Network.load(path)
        first = int(job_id[:16], 16) % 4
        order = [0] * 4
        for turn, place in enumerate((1, 2, 0, 3)):
            order[(first + turn) % 4] = place
        changed = {
            "verifiers": tuple(known.verifiers[place] for place in order),
            "initial_peers": tuple(known.initial_peers[place] for place in order),
        }
        known.model_copy(update=changed).save(path)
