"""What a withheld audit secret costs on a real chain: its sealer's bond, unless it says the secret within 72 hours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from blake3 import blake3
from deployed import BURN_ADDRESS, TOKEN_WEI
from ledger_setting import LedgerSetting
from two_votes import as_argument, domain_of, two_votes

from anynode_contracts.deploy import BOND_WEI
from anynode_contracts.slashes import SlashesClient, SlashStatus
from anynode_contracts.stakes import VerifierStanding
from anynode_ledger.outbox import Outbox
from anynode_verifier.accuser import accused
from anynode_verifier.contesting import Contester
from anynode_verifier.slashing import Slashing
from anynode_verifier.withholding import Withheld

SECRET, EVIDENCE, OTHER_EVIDENCE = "7" * 64, "e" * 64, "d" * 64
APPEAL_WINDOW_S = 72 * 3600
PAID_WEI = 400 * TOKEN_WEI


@pytest.fixture
def withheld(setting: LedgerSetting) -> Withheld:
    """Round 3 of a job that has paid for work, sealed by the network's verifier, had to do without its secret."""
    deployed, job = setting.deployed, setting.deployed.open_job()
    draw = deployed.escrow.build_draw(job, batch=deployed.distributor.next_batch(), amount_wei=PAID_WEI)
    deployed.send(deployed.poster, draw)
    return Withheld(job.hex(), 3, deployed.verifier.address, blake3(bytes.fromhex(SECRET)).hexdigest(), EVIDENCE)


def slashing(setting: LedgerSetting, me: str = "") -> Slashing:
    return Slashing(setting.book, setting.deployed.w3, setting.deployed.network, me)


def contester(setting: LedgerSetting, secret_of: Callable[[str, int], str]) -> Contester:
    return Contester(setting.deployed.w3, setting.deployed.network, setting.deployed.verifier, secret_of)


def slashes(setting: LedgerSetting) -> SlashesClient:
    return SlashesClient(setting.deployed.w3, setting.deployed.network.stakes)


def deliver(setting: LedgerSetting) -> None:
    outbox = Outbox(
        setting.book,
        setting.deployed.w3,
        setting.deployed.slasher,
        setting.deployed.sign_root,
        slashes=True,
        finality=0,
    )
    while outbox.advance():  # a busy chain takes a moment until the block is there
        pass


def test_uncontested_it_costs_the_bond_once(setting: LedgerSetting, withheld: Withheld) -> None:
    deployed = setting.deployed
    slashing(setting).advance([withheld])
    assert setting.outbox().advance() == [], "roots do not wait for what the slasher sends"
    deliver(setting)
    assert [(item["verifier"], item["state"]) for item in accused(setting.book)] == [(withheld.sealer, "confirmed")]
    setting.open()
    again = Withheld(withheld.job, 4, withheld.sealer, withheld.secret_hash, OTHER_EVIDENCE)
    slashing(setting).advance([withheld, again])  # the whole bond is frozen by then
    deliver(setting)
    assert slashes(setting).count() == 1 and deployed.stakes.at_stake_wei(1) == BOND_WEI

    deployed.anvil.pass_time(APPEAL_WINDOW_S)
    slashing(setting).advance([withheld, again])
    deliver(setting)
    assert slashes(setting).slash(1).status is SlashStatus.EXECUTED
    assert deployed.stakes.at_stake_wei(1) == 0
    assert deployed.verifier_set.standing_of(withheld.sealer) is VerifierStanding.LEFT
    assert deployed.stakes.credited_wei(deployed.owner.address) == PAID_WEI, "the job has ended: its owner's"
    assert deployed.token.balance_wei(BURN_ADDRESS) == BOND_WEI - PAID_WEI, "more than it had paid"


def test_what_is_left_of_the_bond_is_taken(setting: LedgerSetting, withheld: Withheld) -> None:
    """Half of it is frozen by another slash before the slasher's transaction arrives."""
    deployed = setting.deployed
    slashing(setting).advance([withheld])
    other = slashes(setting).build_propose(1, amount_wei=BOND_WEI // 2, job=withheld.job, evidence=OTHER_EVIDENCE)
    deployed.send(deployed.slasher, other)
    deliver(setting)
    assert [slashes(setting).slash(id_).amount_wei for id_ in (1, 2)] == [BOND_WEI // 2, BOND_WEI // 2]
    assert slashes(setting).free_wei(1) == 0


def test_nothing_is_proposed_after_a_proof_has_taken_everything(setting: LedgerSetting, withheld: Withheld) -> None:
    deployed = setting.deployed
    slashing(setting).advance([withheld])
    deliver(setting)
    proof = as_argument(two_votes(deployed.verifier, domain_of(deployed), withheld.job))
    deployed.send(deployed.owner, deployed.verifier_set.build_prove(proof))
    again = Withheld(withheld.job, 4, withheld.sealer, withheld.secret_hash, OTHER_EVIDENCE)
    slashing(setting).advance([again])
    assert len(accused(setting.book)) == 1


def test_who_has_its_secret_contests_with_it(setting: LedgerSetting, withheld: Withheld) -> None:
    deployed = setting.deployed
    slashing(setting).advance([withheld])
    deliver(setting)
    contesting = contester(setting, lambda _, round_: SECRET if round_ == 3 else "")
    for _ in range(2):
        contesting.advance([withheld])
    assert slashes(setting).slash(1).status is SlashStatus.APPEALED
    assert slashes(setting).reasons(1, from_block=0) == [SECRET], "what the arbiter draws again with"
    deployed.anvil.pass_time(APPEAL_WINDOW_S)
    slashing(setting).advance([withheld])
    deliver(setting)
    assert slashes(setting).slash(1).status is SlashStatus.APPEALED, "a contested slash waits for its ruling"
    deployed.send(deployed.arbiter, slashes(setting).build_rule(1, upheld=False))
    slashing(setting).advance([withheld])
    deliver(setting)
    assert slashes(setting).slash(1).status is SlashStatus.DISMISSED
    assert slashes(setting).free_wei(1) == deployed.stakes.at_stake_wei(1) == BOND_WEI


def test_nobody_contests_with_another_secret_or_accuses_itself(setting: LedgerSetting, withheld: Withheld) -> None:
    slashing(setting, me=withheld.sealer).advance([withheld])
    assert accused(setting.book) == []
    slashing(setting).advance([withheld])
    deliver(setting)
    contester(setting, lambda *_: "8" * 64).advance([withheld])
    assert slashes(setting).slash(1).status is SlashStatus.PROPOSED


def test_what_the_chain_would_refuse_is_not_proposed(setting: LedgerSetting, withheld: Withheld) -> None:
    """A sealer without a bond here, and a job without a budget."""
    stranger = Withheld(withheld.job, 3, setting.deployed.owner.address, withheld.secret_hash, EVIDENCE)
    unpaid = Withheld("5" * 64, 3, withheld.sealer, withheld.secret_hash, OTHER_EVIDENCE)
    slashing(setting).advance([stranger, unpaid])
    assert accused(setting.book) == []
