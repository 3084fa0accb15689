"""Four verifiers certify each record together; and where one of them lies and one is dead, rounds go on, nothing forks,
and the proof is kept and shown.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from four_verifiers import ROUNDS, WORKERS, FourVerifiers
from small_network import NETWORK, Wares

from anynode.jobs.job import Job
from anynode.rounds.certificates import Verifiers, check_proof
from anynode.rounds.chain import verify
from anynode.rounds.course import Close
from anynode.rounds.judgements import Verdict
from anynode.rounds.votes import Equivocation
from anynode.worker.home import JobHome
from anynode_contracts.clients import DistributorClient, RegistryClient
from anynode_contracts.networks import Network, connect
from anynode_contracts.signing import SigningDomain
from anynode_contracts.stakes import StakesClient, VerifierSetClient, VerifierStanding
from anynode_verifier.blocks import SHARED_DELAY_BLOCKS
from anynode_verifier.lineage import follow

LIAR = str(Path(__file__).parent / "programs" / "lying_verifier.py")


@pytest.mark.deep
def test_three_of_four_sign_every_record_and_each_has_the_whole_chain(quorum_wares: Wares) -> None:
    with FourVerifiers(quorum_wares) as network:
        known = Network.load(Path(network.facts["path"]))
        network.start_verifier()
        for number in (2, 3, 4):
            network.start_other(number)
        job_id = network.submit(network.job_file("job", rounds=1))["job_id"]
        worker = WORKERS[0]
        node = network.wallet(worker)
        network.start_worker(worker)
        names = ("verifier", "verifier-2", "verifier-3", "verifier-4")
        network.until("its work", lambda: network.status_of(1).get("round", 0) > 0, *names)
        network.mine(SHARED_DELAY_BLOCKS)

        network.until(
            "the verdict", lambda: all(network.has_verdict(number, job_id, 0) for number in (1, 2, 3, 4)), *names
        )
        assert network.processes.wait(worker, 60.0) == 0, network.words()
        chains = [network.records_of(number, job_id) for number in (1, 2, 3, 4)]
        assert len({tuple(item.record.hash for item in chain) for chain in chains}) == 1
        verify(chains[0], job_id, SigningDomain(known.chain_id, known.registry), Verifiers.of(known))
        assert all(len(item.signatures) == 3 for item in chains[0])
        (verdict,) = [item.record.body for item in chains[0] if isinstance(item.record.body, Verdict)]
        assert [(item.node, item.outcome) for item in verdict.judged] == [(node, "accepted")]


@pytest.mark.deep
def test_one_lies_and_one_is_dead(quorum_wares: Wares) -> None:
    with FourVerifiers(quorum_wares) as network:
        job_id = network.take_in_job()
        known = Network.load(Path(network.facts["path"]))
        liar = network.facts["addresses"]["verifier-3"]
        network.start_verifier()
        network.start_other(4)
        network.start_other(3, LIAR)
        network.start_workers()
        network.until(
            "the end of the job",
            lambda: network.all_finished(1, 4),
            *("verifier", "verifier-4"),
        )
        network.mine(SHARED_DELAY_BLOCKS)  # the last audit draws wait for a block that is so far ahead
        for name in WORKERS:
            assert network.processes.wait(name, 60.0) == 0, network.words()

        domain, verifiers = SigningDomain(known.chain_id, known.registry), Verifiers.of(known)
        assert verifiers.quorum == 3
        chain = network.records_of(1, job_id)
        assert [item.record.hash for item in network.records_of(4, job_id)][: len(chain)] == [
            item.record.hash for item in chain
        ][: len(network.records_of(4, job_id))]
        verify(chain, job_id, domain, verifiers)
        home = JobHome(network.home / "home" / "data" / "verifiers" / NETWORK / "jobs" / job_id)
        job = Job.from_bytes(home.job_path.read_bytes(), job_id=job_id)
        follow([item.record for item in chain], job, domain)
        closes = [item.record.body for item in chain if isinstance(item.record.body, Close)]
        assert [close.round for close in closes] == list(range(ROUNDS))
        assert not any(close.forks for close in closes)
        for item in chain:
            assert len(item.signatures) == 2, "two of the three that count"
            assert [proof.signer for proof in item.proofs] == [liar]

        # Its bond is gone, and it has left the set on chain: the first verifier has the poster's key.
        network.until("the proof on the chain", lambda: network.said_of_the_accused() == ["confirmed"], "verifier")
        w3 = connect(known.rpc_url)
        registry, verifier_set = RegistryClient(w3, known.registry), VerifierSetClient(w3, known.verifier_set)
        index = registry.index_of(liar)
        assert index is not None
        assert verifier_set.standing_of(liar) is VerifierStanding.PROVEN
        assert set(verifier_set.members()) == set(known.verifiers) - {liar} and verifier_set.quorum() == 2
        assert StakesClient(w3, known.stakes).at_stake_wei(index) == 0

        # The fourth verifier has no key to post with. It has rebuilt the root from its own records, and signed it.
        distributor = DistributorClient(w3, known.distributor)
        network.until("a root that two have signed", lambda: distributor.next_batch() > 1, "verifier", "verifier-4")

        status = network.processes.run("verifier", "status", "--network", NETWORK)
        assert [item["verifier"] for item in status["accused"]] == [liar]
        shown = status["jobs"][0]
        assert shown["signatures_needed"] == 2
        assert shown["on_duty"] in (network.facts["addresses"]["verifier"], network.facts["addresses"]["verifier-4"])
        (proof,) = shown["excluded"]
        kept = Equivocation(**proof | {"records": tuple(proof["records"]), "signatures": tuple(proof["signatures"])})
        assert kept.signer == liar
        check_proof(kept, domain, verifiers)

        folder = network.home / "result"
        network.processes.run("result", str(folder), "--network", NETWORK)
        report = network.processes.run("audit", str(folder), "--network", NETWORK)
        assert (report["audit_ok"], report["rounds"], report["blocks_doubted"]) == (True, ROUNDS, [])
