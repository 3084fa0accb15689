"""Four verifiers take a fraud that was found late out of the model, and never what only one of them calls a fraud."""

from __future__ import annotations

from pathlib import Path

import pytest
from four_verifiers import WORKERS, FourVerifiers
from small_network import NETWORK, Wares

from anynode.rounds.certificates import Verifiers
from anynode.rounds.chain import verify
from anynode.rounds.course import Close, Open
from anynode.rounds.judgements import Correct
from anynode.rounds.records import SignedRecord
from anynode_contracts.networks import Network
from anynode_contracts.signing import SigningDomain
from anynode_verifier.blocks import SHARED_DELAY_BLOCKS

TURNING = (str(Path(__file__).parents[2] / "e2e" / "programs" / "turning_worker.py"),)
UNJUST = str(Path(__file__).parent / "programs" / "unjust_verifier.py")
FRAUD = 1
"""The first round in which it cheats, as a proven member."""
VERIFIERS = ("verifier", "verifier-2", "verifier-3", "verifier-4")
JOB = {"rounds": 16, "inner_steps": 40}
PACE = ("--steps-per-s-max", "8")
"""So that the job is still running when a fraud of its second round is found."""


def slots(chain: list[SignedRecord], round_: int) -> dict[str, int]:
    """The slot of each node in a round."""
    bodies = (item.record.body for item in chain)
    opened = next(body for body in bodies if isinstance(body, Open) and body.round == round_)
    return {member.node: slot for slot, member in enumerate(opened.members)}


@pytest.mark.deep
def test_a_quorum_repeats_an_excision_and_signs_it(quorum_wares: Wares) -> None:
    """Whoever is on duty is asked, by another verifier; one that is not on duty says who is."""
    with FourVerifiers(quorum_wares) as network:
        job_id = network.take_in_job(**JOB, workers=3)
        known = Network.load(Path(network.facts["path"]))
        nodes = {name: network.wallet(name) for name in (*WORKERS, "turning")}
        network.start_verifier()
        for number in (2, 3, 4):
            network.start_other(number)
        for name in WORKERS:
            network.start_worker(name, *PACE)
        network.processes.start("turning", "--network", NETWORK, "--wallet", "turning", *PACE, program=TURNING)
        alive = (*VERIFIERS, *WORKERS)

        network.until("a round with its fraud", lambda: network.status_of(2).get("round", 0) > FRAUD, *alive)
        network.mine(SHARED_DELAY_BLOCKS)  # the draw waits for a block that is so far ahead
        with network.training_stopped(WORKERS[0]):
            network.until("the verdict on it", lambda: network.has_verdict(2, job_id, FRAUD), *alive)
            slot_of = slots(network.records_of(2, job_id), FRAUD)
            duty = network.on_duty()  # the second one, unless it was too slow for the others
            number = next(n for n in (4, 3) if n != duty)
            ask = ("verifier", "excise", job_id[:12], "--network", NETWORK, "--number", str(number))
            ask += ("--round", str(FRAUD))
            on_duty = ("--api-url", f"http://127.0.0.1:{network.api_ports[duty]}")
            words, _ = network.refused(*ask, *on_duty, "--slot", str(slot_of[nodes[WORKERS[0]]]))
            assert "not proven a fraud" in words
            fraud = ("--slot", str(slot_of[nodes["turning"]]))
            words, _ = network.refused(*ask, *fraud)
            assert f"verifier {network.address_of(duty)} is on duty" in words
            network.processes.start("excise", *ask, *on_duty, *fraud)
            network.until(
                "the recomputed round", lambda: "waits for the round" in network.processes.log("excise"), *alive
            )
        assert network.processes.wait("excise", 120.0) == 0, network.words()

        network.until("the end of the job", lambda: network.all_finished(1, 2, 3, 4), *VERIFIERS)
        for name in WORKERS:
            assert network.processes.wait(name, 60.0) == 0, network.words()
        for number in (1, 2, 3, 4):
            (excised,) = network.status_of(number)["excised"]
            assert (excised["round"], excised["node"]) == (FRAUD, nodes["turning"])
        chain = network.records_of(1, job_id)
        verify(chain, job_id, SigningDomain(known.chain_id, known.registry), Verifiers.of(known))
        (correct,) = [item for item in chain if isinstance(item.record.body, Correct)]
        assert len(correct.signatures) >= 3
        assert not any(item.record.body.forks for item in chain if isinstance(item.record.body, Close))


@pytest.mark.deep
def test_one_verifier_takes_no_honest_work_out(quorum_wares: Wares) -> None:
    """It proposes to, and the duty moves on: the job ends with the work of everybody in its model."""
    with FourVerifiers(quorum_wares) as network:
        job_id = network.take_in_job(**JOB)
        known = Network.load(Path(network.facts["path"]))
        nodes = {name: network.wallet(name) for name in WORKERS}
        network.start_verifier()
        network.start_other(2, UNJUST)  # on duty first
        network.start_other(3)
        network.start_other(4)
        for name in WORKERS:
            network.start_worker(name, *PACE)
        alive = (*VERIFIERS, *WORKERS)
        network.until("a second round", lambda: network.status_of(2).get("round", 0) >= 1, *alive)
        network.mine(SHARED_DELAY_BLOCKS)  # the draw waits for a block that is so far ahead
        with network.training_stopped(WORKERS[0]):
            network.until("the first verdict", lambda: network.has_verdict(2, job_id, 0), *alive)
            slot = slots(network.records_of(2, job_id), 0)[nodes[WORKERS[0]]]
            ask = ("verifier", "excise", job_id[:12], "--network", NETWORK, "--number", "2", "--round", "0")
            on_duty = ("--api-url", f"http://127.0.0.1:{network.api_ports[2]}")
            network.processes.start("excise", *ask, *on_duty, "--slot", str(slot))
            network.until("the round to end", lambda: "waits for the round" in network.processes.log("excise"), *alive)
        assert network.processes.wait("excise", 120.0) != 0, network.words()
        assert "is on duty for this job" in network.processes.log("excise")

        honest = ("verifier", "verifier-3", "verifier-4")
        network.until("the end of the job", lambda: network.all_finished(1, 3, 4), *honest)
        for name in WORKERS:
            assert network.processes.wait(name, 60.0) == 0, network.words()
        chain = network.records_of(1, job_id)
        verify(chain, job_id, SigningDomain(known.chain_id, known.registry), Verifiers.of(known))
        assert not any(isinstance(item.record.body, Correct) for item in chain)
        refused = [log for log in verifier_logs(network) if "(correct) is not signed here" in log]
        assert len(refused) >= len(honest) - 1, network.words()


def verifier_logs(network: FourVerifiers) -> list[str]:
    return [path.read_text() for path in (network.home / "home" / "data" / "verifiers").rglob("verifier.log")]
