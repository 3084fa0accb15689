"""Four verifiers with one fault reject honest work; mended, with one of them dead, they take it back on an appeal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from four_verifiers import WORKERS, FourVerifiers
from small_network import NETWORK, VERIFIER_READY, VERIFIER_RUN, Wares

from anynode.rounds.certificates import Verifiers
from anynode.rounds.chain import verify
from anynode.rounds.judgements import Ruling
from anynode_contracts.networks import Network
from anynode_contracts.signing import SigningDomain
from anynode_verifier.blocks import SHARED_DELAY_BLOCKS

ERRING = str(Path(__file__).parents[2] / "e2e" / "programs" / "erring_verifier.py")
ALWAYS = "1000000"
"""Where the duty moves on meanwhile, each replays once more."""
HONEST, ACCUSED = WORKERS
PACE = ("--steps-per-s-max", "4")
NAMES = ("verifier", "verifier-2", "verifier-3", "verifier-4")
MENDED = (1, 2, 4)
"""The third stays dead: the quorum is three of four."""


def rejection(network: FourVerifiers, number: int, node: str) -> dict[str, Any]:
    """What verifier ``number`` shows of the rejection of round 0; empty if it knows of none."""
    rejected = network.status_of(number).get("rejected", [])
    return next((item for item in rejected if item["node"] == node and item["round"] == 0), {})


@pytest.mark.deep
def test_a_quorum_takes_a_false_rejection_back(quorum_wares: Wares) -> None:
    with FourVerifiers(quorum_wares) as network:
        job_id = network.take_in_job(rounds=5, inner_steps=40)
        known = Network.load(Path(network.facts["path"]))
        nodes = {name: network.wallet(name) for name in WORKERS}
        node = nodes[ACCUSED]
        network.start_program("verifier", VERIFIER_READY, (ERRING, node, ALWAYS), *VERIFIER_RUN[1:])
        for number in (2, 3, 4):
            network.start_other(number, ERRING, node, ALWAYS)
        for name in WORKERS:
            network.start_worker(name, *PACE)
        network.until(
            "the verdict",
            lambda: all(rejection(network, number, node) for number in (1, 2, 3, 4)),
            *(*NAMES, HONEST),
        )
        with network.training_stopped(HONEST):  # or the job would end while the owner of the node reads
            assert network.processes.wait(ACCUSED, 60.0) != 0, "it is told that it is out"
            for name in NAMES:
                network.processes.kill(name)
            network.start_verifier()
            network.start_other(2)
            network.start_other(4)
            request = ("appeal", "--network", NETWORK, "--wallet", ACCUSED, "--job", job_id[:12], "--round", "0")
            assert network.processes.run(*request)["taken_in"] is True
            network.until(
                "the ruling",
                lambda: all(
                    (rejection(network, number, node).get("appeal") or {}).get("outcome") == "granted"
                    for number in MENDED
                ),
                *(NAMES[number - 1] for number in MENDED),
            )
            network.start_worker(ACCUSED, *PACE)
        network.until(
            "the end of the job",
            lambda: network.all_finished(*MENDED),
            *(NAMES[number - 1] for number in MENDED),
        )
        network.mine(SHARED_DELAY_BLOCKS)
        network.until("its payments", lambda: network.status()["ledger"]["jobs"][0]["closed"], "verifier")
        account = next(item for item in network.status()["ledger"]["nodes"] if item["node"] == node)
        assert int(account["earned_wei"]) > 0 and int(account["slashed_wei"]) == 0, account
        chain = network.records_of(1, job_id)
        verify(chain, job_id, SigningDomain(known.chain_id, known.registry), Verifiers.of(known))
        (ruling,) = [item for item in chain if isinstance(item.record.body, Ruling)]
        assert ruling.record.body.granted and len(ruling.signatures) == len(MENDED)
