"""A verifier that was off while a job began, or as long as it went on, takes it up, and signs roots that name it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from four_verifiers import WORKERS, FourVerifiers
from processes import ANYNODE
from small_network import VERIFIER_READY, VERIFIER_RUN, Wares

from anynode.rounds.certificates import Verifiers
from anynode.rounds.chain import verify
from anynode_contracts.clients import DistributorClient, EscrowClient
from anynode_contracts.networks import Network, connect
from anynode_contracts.signing import SigningDomain
from anynode_verifier.blocks import SHARED_DELAY_BLOCKS

FIRST, SECOND = WORKERS
NAMES = ("verifier", "verifier-2", "verifier-3")
WITH_LATE = ("verifier", "verifier-2", "verifier-4")
"""A quorum that the late one is needed for."""
PACE = ("--steps-per-s-max", "4")
OFTEN = ("--batch-hours", "0.001")


class LateVerifier(FourVerifiers):
    """The fourth verifier is off at first."""

    def __init__(self, wares: Wares) -> None:
        super().__init__(wares)
        self.jobs: list[str] = []

    def start_three(self) -> None:
        self.start_program("verifier", VERIFIER_READY, ANYNODE, *VERIFIER_RUN, *OFTEN)
        self.start_other(2)
        self.start_other(3)

    def begin(self, name: str, worker: str, *options: str, rounds: int, verifiers: tuple[int, ...]) -> None:
        """A job that these verifiers know before its worker asks one of them for it."""
        self.jobs.append(self.submit(self.job_file(name, rounds=rounds))["job_id"])
        self.until("the job", lambda: all(self.knows(number, self.jobs[-1]) for number in verifiers), "verifier")
        self.wallet(worker)
        self.start_worker(worker, *options)

    def replace_the_third_by_the_fourth(self) -> None:
        self.start_other(4)
        self.processes.kill("verifier-3")

    def knows(self, number: int, job_id: str) -> bool:
        url = f"http://127.0.0.1:{self.api_ports[number]}/v1/jobs/{job_id}"
        return httpx.get(url, timeout=60.0).status_code == httpx.codes.OK

    def mined(self) -> bool:
        """Draws wait for blocks that are far ahead."""
        self.mine(SHARED_DELAY_BLOCKS)
        return True

    @property
    def known(self) -> Network:
        return Network.load(Path(self.facts["path"]))

    @property
    def distributor(self) -> DistributorClient:
        return DistributorClient(connect(self.known.rpc_url), self.known.distributor)

    def drawn_wei(self) -> int:
        job = EscrowClient(connect(self.known.rpc_url), self.known.escrow).job(self.jobs[0])
        assert job is not None
        return job.drawn_wei

    def all_paid(self) -> bool:
        self.mined()
        jobs = self.status()["ledger"]["jobs"]
        batches = self.get("/v1/ledger")["batches"]
        return len(jobs) == len(self.jobs) and all(job["closed"] for job in jobs) and batches[-1]["state"] == "posted"

    def require_one_chain(self, job_id: str) -> None:
        """The late verifier has every record of a job that another one has."""
        chain = self.records_of(1, job_id)
        self.until(
            "the records",
            lambda: [item.record for item in self.records_of(4, job_id)] == [item.record for item in chain],
            *WITH_LATE,
        )
        verify(chain, job_id, SigningDomain(self.known.chain_id, self.known.registry), Verifiers.of(self.known))


@pytest.mark.deep
def test_one_that_comes_after_the_first_draw(quorum_wares: Wares) -> None:
    with LateVerifier(quorum_wares) as network:
        network.start_three()
        network.begin("job", FIRST, *PACE, rounds=16, verifiers=(1, 2, 3))
        network.until("a draw", lambda: network.mined() and network.drawn_wei() > 0, *NAMES)
        network.replace_the_third_by_the_fourth()
        batch = network.distributor.next_batch()

        network.until("the end of the job", lambda: network.all_finished(1, 2, 4), *WITH_LATE)
        network.until("its payments", network.all_paid, *WITH_LATE)
        assert network.distributor.next_batch() > batch, "the late one has signed a root"
        network.require_one_chain(network.jobs[0])


@pytest.mark.deep
def test_one_that_comes_when_all_is_over_and_paid(quorum_wares: Wares) -> None:
    """Roots go on naming the job, with others after it."""
    with LateVerifier(quorum_wares) as network:
        network.start_three()
        network.begin("first", FIRST, rounds=2, verifiers=(1, 2, 3))
        network.until("its payments", network.all_paid, *NAMES)
        network.replace_the_third_by_the_fourth()
        batch = network.distributor.next_batch()

        network.begin("second", SECOND, rounds=1, verifiers=(1, 2, 4))
        network.until("the payments of the second job", network.all_paid, *WITH_LATE)
        assert network.distributor.next_batch() > batch, "the late one has signed a root"
        for job_id in network.jobs:
            network.require_one_chain(job_id)
