"""Stakes and verifiers on a real chain: what nodes sign is what the contract checks, and a liar loses its bond."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from deployed import BURN_ADDRESS, Deployed
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st
from two_votes import as_argument, domain_of, two_votes, two_words

from anynode.rounds.certificates import Verifiers, check_proof
from anynode.rounds.statements import statement
from anynode.rounds.votes import Equivocation, Phase, Vote
from anynode_contracts.deploy import BOND_WEI
from anynode_contracts.errors import RefusedError
from anynode_contracts.plan import PLAN
from anynode_contracts.signing import SigningDomain, low_signature, recover
from anynode_contracts.stakes import VerifierStanding

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
NUMBERS = st.integers(0, 2**48)
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
PHASES: st.SearchStrategy[Phase] = st.sampled_from(("prepare", "certify"))


def test_nodes_sign_what_the_contract_hashes(deployment: Deployed) -> None:
    domain = domain_of(deployment)

    @settings(max_examples=40, deadline=None)
    @given(HASHES, NUMBERS, NUMBERS, PHASES, HASHES)
    def same(job: str, height: int, view: int, phase: Phase, record: str) -> None:
        said = statement(job, Vote(height, view, phase, record))
        types = {said.name: [{"name": name, "type": kind} for name, kind in said.types]}
        here = _hash_eip191_message(encode_typed_data(domain.fields(), types, dict(said.values)))
        assert deployment.verifier_set.record_digest(job, height, view, phase, record) == bytes(here)

    same()


@pytest.mark.parametrize("signed", [two_votes, two_words])
def test_a_liar_loses_its_bond_and_its_place_once(
    deployment: Deployed, signed: Callable[[LocalAccount, SigningDomain, str], Equivocation]
) -> None:
    """The proof that nodes keep is taken as it is; what it takes is nobody's, neither the job's nor who sends it."""
    liar, job, stranger = deployment.verifier, deployment.open_job().hex(), deployment.account()
    domain = domain_of(deployment)
    proof = signed(liar, domain, job)
    check_proof(proof, domain, Verifiers((liar.address,), 1))
    assert deployment.verifier_set.members() == [liar.address]
    assert deployment.verifier_set.standing_of(liar.address) is VerifierStanding.MEMBER
    assert deployment.stakes.at_stake_wei(1) == BOND_WEI
    funded_wei = deployment.escrow.job(job).funded_wei  # type: ignore[union-attr]

    prove = deployment.verifier_set.build_prove(as_argument(proof))
    deployment.send(stranger, prove)
    assert deployment.verifier_set.standing_of(liar.address) is VerifierStanding.PROVEN
    assert deployment.verifier_set.members() == []
    assert deployment.stakes.at_stake_wei(1) == 0
    assert deployment.escrow.job(job).funded_wei == funded_wei  # type: ignore[union-attr]
    assert deployment.token.balance_wei(BURN_ADDRESS) == BOND_WEI
    assert deployment.token.balance_wei(stranger.address) == 0
    with pytest.raises(RefusedError, match="WrongStanding"):
        deployment.send(stranger, prove)


def test_who_has_left_can_still_be_proven(deployment: Deployed) -> None:
    liar, job = deployment.verifier, deployment.open_job().hex()
    domain = domain_of(deployment)
    assert deployment.verifier_set.quorum() == 1
    deployment.send(liar, deployment.verifier_set.build_resign())
    assert deployment.verifier_set.standing_of(liar.address) is VerifierStanding.LEFT
    votes = as_argument(two_votes(liar, domain, job, phase="prepare"))
    deployment.send(deployment.poster, deployment.verifier_set.build_prove(votes))
    assert deployment.verifier_set.standing_of(liar.address) is VerifierStanding.PROVEN
    assert deployment.stakes.at_stake_wei(1) == 0


def test_a_finder_announces_and_is_paid(deployment: Deployed) -> None:
    job, finder = deployment.open_job().hex(), deployment.account()
    domain = domain_of(deployment)
    votes, salt = as_argument(two_votes(deployment.verifier, domain, job)), b"\x07" * 32
    prove = deployment.verifier_set.build_prove(votes, finder=finder.address, salt=salt)
    with pytest.raises(RefusedError, match="NotAnnounced"):
        deployment.send(finder, prove)
    commitment = deployment.verifier_set.commitment_of(votes, finder.address, salt)
    deployment.send(finder, deployment.verifier_set.build_announce(commitment))
    deployment.anvil.mine(1)
    deployment.send(finder, prove)
    fee_wei = PLAN.settings["finders_fee_wei"]
    assert deployment.stakes.credited_wei(finder.address) == fee_wei == deployment.stakes.finders_fee_wei()
    deployment.send(deployment.poster, deployment.stakes.build_collect(finder.address))
    assert deployment.token.balance_wei(finder.address) == fee_wei


@pytest.mark.parametrize("elsewhere", ["chain", "network", "key"])
def test_a_proof_from_elsewhere_is_refused(deployment: Deployed, elsewhere: str) -> None:
    job = deployment.open_job().hex()
    domain = SigningDomain(
        1 if elsewhere == "chain" else deployment.addresses.chain_id,
        deployment.addresses.escrow if elsewhere == "network" else deployment.addresses.registry,
    )
    signer = deployment.owner if elsewhere == "key" else deployment.verifier
    with pytest.raises(RefusedError, match="WrongStanding" if elsewhere == "key" else "InvalidProof"):
        deployment.send(
            deployment.poster, deployment.verifier_set.build_prove(as_argument(two_votes(signer, domain, job)))
        )


def test_a_signature_that_nodes_take_is_one_that_the_contract_takes(deployment: Deployed) -> None:
    """A liar cannot hide behind another spelling of its signatures: s in the upper half, v as of another use."""
    job, liar = deployment.open_job().hex(), deployment.verifier
    domain = domain_of(deployment)
    proof = two_votes(liar, domain, job)

    def respelt(signature: str, record: str) -> str:
        raw = bytes.fromhex(signature[2:])
        s, v = ORDER - int.from_bytes(raw[32:64], "big"), 55 - raw[64]
        spelt = "0x" + (raw[:32] + s.to_bytes(32, "big") + bytes([v + 8])).hex()
        assert recover(domain, statement(job, Vote(7, 3, "certify", record)), spelt) == liar.address
        assert low_signature(spelt) == raw
        return spelt

    first, second = (respelt(*pair) for pair in zip(proof.signatures, proof.records, strict=True))
    votes = as_argument(replace(proof, signatures=(first, second)))
    deployment.send(deployment.poster, deployment.verifier_set.build_prove(votes))
    assert deployment.verifier_set.standing_of(liar.address) is VerifierStanding.PROVEN
