"""A proof of two signed records on its way to the chain: once, whatever dies on the way, and pay never waits for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from deployed import BURN_ADDRESS
from eth_account.signers.local import LocalAccount
from ledger_setting import LedgerSetting
from two_votes import as_argument, domain_of, two_votes

from anynode.rounds.votes import Equivocation
from anynode_contracts.deploy import BOND_WEI
from anynode_contracts.stakes import VerifierStanding
from anynode_ledger.intents import Intent, IntentState
from anynode_verifier.accuser import Accuser, accused


class Crash(BaseException):
    """The process dies here."""


def proof_against(setting: LedgerSetting, signer: LocalAccount, job: str, height: int = 7) -> Equivocation:
    return two_votes(signer, domain_of(setting.deployed), job, height=height)


def accuser(setting: LedgerSetting) -> Accuser:
    return Accuser(setting.book, setting.deployed.w3, setting.deployed.network)


def nonce_of(setting: LedgerSetting) -> int:
    return setting.deployed.w3.eth.get_transaction_count(setting.deployed.poster.address)


def dying_at(wanted: IntentState) -> Callable[[Intent, IntentState], None]:
    def die(_intent: Intent, state: IntentState) -> None:
        if state == wanted:
            raise Crash

    return die


@pytest.mark.parametrize("dies_at", ["signed", "sent", "confirmed"])
def test_a_proof_is_sent_once_whatever_dies(setting: LedgerSetting, dies_at: IntentState) -> None:
    liar, job = setting.deployed.verifier, setting.deployed.open_job().hex()
    proof, before = proof_against(setting, liar, job), nonce_of(setting)
    accuser(setting).advance([proof])
    outbox = setting.outbox(dying_at(dies_at))
    with pytest.raises(Crash):
        while outbox.advance():  # a busy chain takes a moment until the block is there
            pass
    setting.open()
    # After the restart the same proof is there again, and one of another height too.
    accuser(setting).advance([proof, proof_against(setting, liar, job, height=9)])
    outbox = setting.outbox()
    while outbox.advance():
        pass
    assert nonce_of(setting) == before + 1
    assert setting.deployed.verifier_set.standing_of(liar.address) is VerifierStanding.PROVEN
    assert setting.deployed.stakes.at_stake_wei(1) == 0
    (said,) = accused(setting.book)
    assert (said["verifier"], said["state"]) == (liar.address, "confirmed")


def test_who_comes_second_sends_nothing(setting: LedgerSetting) -> None:
    liar, job = setting.deployed.verifier, setting.deployed.open_job().hex()
    proof, before = proof_against(setting, liar, job), nonce_of(setting)
    accuser(setting).advance([proof])
    setting.deployed.send(setting.deployed.owner, setting.deployed.verifier_set.build_prove(as_argument(proof)))
    assert setting.deliver() == []
    assert nonce_of(setting) == before
    assert accused(setting.book)[0]["note"] == "done on the chain already"


def test_what_the_chain_would_refuse_is_never_in_the_way(setting: LedgerSetting) -> None:
    """A signer that is no verifier on this chain, and one that is proven already."""
    deployed = setting.deployed
    job = deployed.open_job().hex()
    accuser(setting).advance([proof_against(setting, deployed.owner, job)])
    assert accused(setting.book) == []
    proof = proof_against(setting, deployed.verifier, job)
    deployed.send(deployed.owner, deployed.verifier_set.build_prove(as_argument(proof)))
    accuser(setting).advance([proof])
    assert accused(setting.book) == []
    assert setting.outbox().advance() == []


def test_a_job_without_a_budget_saves_no_liar(setting: LedgerSetting) -> None:
    liar = setting.deployed.verifier
    accuser(setting).advance([proof_against(setting, liar, "5" * 64)])
    assert setting.deliver() == []
    assert setting.deployed.verifier_set.standing_of(liar.address) is VerifierStanding.PROVEN
    assert setting.deployed.token.balance_wei(BURN_ADDRESS) == BOND_WEI


def test_what_is_taken_is_nobody_s(setting: LedgerSetting) -> None:
    """The ledger still agrees with the chain: no job has more than before."""
    setting.begin(nodes=1)
    before_wei = setting.book.job(setting.job_id).funded_wei
    accuser(setting).advance([proof_against(setting, setting.deployed.verifier, setting.job_id)])
    assert setting.deliver() == []
    setting.take_in()
    escrow = setting.deployed.escrow.job(setting.job_id)
    assert escrow is not None
    assert escrow.funded_wei == setting.book.job(setting.job_id).funded_wei == before_wei
    assert setting.deployed.token.balance_wei(BURN_ADDRESS) == BOND_WEI
