"""Whoever is on duty dies in the middle of a round: the next one goes on from there, and nothing forks."""

from __future__ import annotations

from pathlib import Path

import pytest
from four_verifiers import ROUNDS, WORKERS, FourVerifiers
from small_network import Wares

from anynode.rounds.certificates import Verifiers
from anynode.rounds.chain import verify
from anynode.rounds.course import Close
from anynode_contracts.networks import Network
from anynode_contracts.signing import SigningDomain
from anynode_verifier.blocks import SHARED_DELAY_BLOCKS

DOOMED = str(Path(__file__).parents[1] / "churn" / "programs" / "doomed.py")
SIGKILLED = -9
#: Of the first round's records. "before": a quorum has signed it, and only the one that dies knows.
MOMENTS = ("after open", "before seal", "after seal", "before assign", "after assign", "before result", "after result")
LEFT = ("verifier", "verifier-3", "verifier-4")


@pytest.mark.deep
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_next_verifier_goes_on_in_mid_round(quorum_wares: Wares, moment: str) -> None:
    """And the dead one, back again, has the chain of the others, with what it had written last in it."""
    with FourVerifiers(quorum_wares) as network:
        job_id = network.take_in_job()
        known = Network.load(Path(network.facts["path"]))
        network.start_verifier()
        network.start_other(2, DOOMED, moment, "verifier")  # on duty first
        network.start_other(3)
        network.start_other(4)
        network.start_workers()
        network.until("its death", lambda: network.processes.ended("verifier-2") is not None, *LEFT)
        assert network.processes.wait("verifier-2", 1.0) == SIGKILLED, network.words()
        written = [item.record.hash for item in network.records_of(2, job_id)]

        network.until("the end of the job", lambda: network.all_finished(1, 3, 4), *LEFT)
        network.mine(SHARED_DELAY_BLOCKS)
        for name in WORKERS:
            assert network.processes.wait(name, 60.0) == 0, network.words()
        chain = network.records_of(1, job_id)
        verify(chain, job_id, SigningDomain(known.chain_id, known.registry), Verifiers.of(known))
        closes = [item.record.body for item in chain if isinstance(item.record.body, Close)]
        assert [close.round for close in closes] == list(range(ROUNDS))
        assert not any(close.forks for close in closes)
        hashes = [item.record.hash for item in chain]
        assert hashes[: len(written)] == written
        network.start_other(2)
        network.until(
            "the chain of the others",
            lambda: [item.record.hash for item in network.records_of(2, job_id)][: len(hashes)] == hashes,
            *LEFT,
            "verifier-2",
        )
