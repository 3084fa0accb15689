"""Of four verifiers the one on duty seals without what it has receipted: its member proves it, and its bond is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from four_verifiers import FourVerifiers
from small_network import Wares

from anynode.rounds.certificates import Verifiers
from anynode.rounds.chain import verify
from anynode_contracts.clients import RegistryClient
from anynode_contracts.networks import Network, connect
from anynode_contracts.signing import SigningDomain
from anynode_contracts.stakes import StakesClient, VerifierSetClient, VerifierStanding
from anynode_verifier.blocks import SHARED_DELAY_BLOCKS

HIDING = str(Path(__file__).parent / "programs" / "hiding_verifier.py")


@pytest.mark.deep
def test_who_hides_a_receipted_commitment_is_out(quorum_wares: Wares) -> None:
    with FourVerifiers(quorum_wares) as network:
        job_id = network.take_in_job()
        known = Network.load(Path(network.facts["path"]))
        liar = network.facts["addresses"]["verifier-2"]  # on duty first
        network.start_verifier()
        # Second of all: before there is a quorum, nobody can take its duty for its silence.
        network.start_other(2, HIDING)
        network.start_other(3)
        network.start_other(4)
        network.start_workers()
        honest = (1, 3, 4)
        network.until(
            "the end of the job",
            lambda: network.all_finished(*honest),
            *("verifier", "verifier-3", "verifier-4"),
        )
        network.mine(SHARED_DELAY_BLOCKS)
        for number in honest:
            words = network.status_of(number)["quorum"]["broken_words"]
            assert list(words) == [liar] and words[liar].startswith("a receipt and a seal without it"), network.words()
        chain = network.records_of(1, job_id)
        verify(chain, job_id, SigningDomain(known.chain_id, known.registry), Verifiers.of(known))

        network.until("the proof on the chain", lambda: network.said_of_the_accused() == ["confirmed"], "verifier")
        w3 = connect(known.rpc_url)
        index = RegistryClient(w3, known.registry).index_of(liar)
        assert index is not None
        assert VerifierSetClient(w3, known.verifier_set).standing_of(liar) is VerifierStanding.PROVEN
        assert StakesClient(w3, known.stakes).at_stake_wei(index) == 0
