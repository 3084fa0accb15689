"""The ledger against a real chain: fund, credit, settle, post, claim, close, refund; reconciled to the wei."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deployed import random_address
from ledger_setting import TOKEN, LedgerSetting
from web3 import Web3

from anynode_contracts.entries import GWEI
from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_contracts.networks import connect
from anynode_ledger import accounts as chart
from anynode_ledger.accounts import Transfer
from anynode_ledger.intake import Intake
from anynode_ledger.public import export_public
from anynode_ledger.rebuild import rebuild
from anynode_ledger.reconcile import check
from anynode_ledger.settlement import batches_of, settle


def proven(setting: LedgerSetting) -> None:
    check(setting.book, setting.deployed.w3, setting.deployed.network)


def test_the_demos_way_of_the_money(setting: LedgerSetting, tmp_path: Path) -> None:
    deployed, network = setting.deployed, setting.deployed.network
    setting.begin()
    one, two, cheat = setting.nodes
    setting.earn(0, [5 * TOKEN + 7 * GWEI, 3 * TOKEN, 0], limit_wei=2 * TOKEN)
    setting.earn(1, [0, 0, TOKEN], limit_wei=2 * TOKEN)
    assert setting.book.slash(cheat, setting.job_id, "segment 2 differs from its replay", "slash/1") == TOKEN
    proven(setting)

    assert settle(setting.book, network) is not None
    assert setting.deliver() == []
    assert deployed.distributor.waiting_root() is not None
    setting.take_in(pass_window=False)
    proven(setting)
    setting.take_in()
    assert setting.book.balances(one).payable_wei == 3 * TOKEN + 7 * GWEI
    proven(setting)
    setting.claim(one)
    setting.take_in()
    proven(setting)
    assert setting.balance_wei(one) == setting.book.balances(one).paid_wei == 3 * TOKEN + 7 * GWEI

    assert setting.book.close_job(setting.job_id) == 4 * TOKEN
    assert settle(setting.book, network) is not None
    assert setting.deliver() == []
    setting.take_in()
    for index in (one, two):
        setting.claim(index)
    deployed.send(deployed.owner, deployed.escrow.build_refund(setting.job_id))
    setting.take_in()
    proven(setting)

    assert [setting.balance_wei(index) for index in (one, two, cheat)] == [5 * TOKEN + 7 * GWEI, 3 * TOKEN, 0]
    assert [setting.book.balances(index).paid_wei for index in setting.nodes] == [5 * TOKEN + 7 * GWEI, 3 * TOKEN, 0]
    job = setting.book.job(setting.job_id)
    assert (job.in_escrow_wei, job.unspent_wei) == (0, 0)
    assert job.refunded_wei == 92 * TOKEN - 7 * GWEI
    assert deployed.token.balance_wei(deployed.distributor.address) == deployed.distributor.bond_wei()
    assert len(check(setting.book, None, network).proofs) == 3, "without a chain, all that needs none"
    public = json.loads(export_public(setting.book, tmp_path / "public").read_bytes())
    assert [batch.root for batch in rebuild(public, setting.deployed.network.daily_cap_gwei)] == [
        stored.batch.root for stored in batches_of(setting.book)
    ]


def test_a_veto_on_the_chain_voids_the_batch(setting: LedgerSetting) -> None:
    deployed, network = setting.deployed, setting.deployed.network
    setting.begin()
    first, *_ = setting.nodes
    setting.earn(0, [TOKEN, TOKEN, 0])
    settle(setting.book, network)
    setting.deliver()
    setting.take_in(pass_window=False)
    deployed.send(deployed.guardian, deployed.distributor.build_veto())
    setting.take_in(pass_window=False)
    assert [stored.state for stored in batches_of(setting.book)] == ["void"]
    proven(setting)
    again = settle(setting.book, network)
    assert again is not None
    assert (again.number, again.attempt, again.draws) == (1, 2, {})
    assert setting.deliver() == []
    setting.take_in()
    setting.claim(first)
    setting.take_in()
    proven(setting)
    assert setting.balance_wei(first) == TOKEN


def test_a_veto_and_a_slash_between_one_intake_and_the_next(setting: LedgerSetting) -> None:
    """Nothing was taken in while the root was posted and vetoed: both are read in one go."""
    deployed = setting.deployed
    setting.begin()
    setting.earn(0, [TOKEN, TOKEN, TOKEN])
    settle(setting.book, deployed.network)
    setting.deliver()
    deployed.send(deployed.guardian, deployed.distributor.build_veto())
    setting.take_in()
    assert [stored.state for stored in batches_of(setting.book)] == ["void"]


def test_missed_claims_and_payouts_are_read_later(setting: LedgerSetting) -> None:
    deployed = setting.deployed
    setting.begin()
    one, *_ = setting.nodes
    deployed.send(setting.nodes[one], deployed.registry.build_request_payout_change(one, random_address(5)))
    setting.earn(0, [TOKEN, 0, 0])
    settle(setting.book, deployed.network)
    setting.deliver()
    setting.take_in()
    setting.claim(one)
    deployed.anvil.pass_time(48 * 3600)
    setting.take_in()
    assert setting.book.balances(one).payout == random_address(5)
    proven(setting)
    setting.earn(1, [TOKEN, 0, 0])
    settle(setting.book, deployed.network)
    setting.deliver()
    setting.take_in()
    setting.claim(one)
    setting.take_in()
    proven(setting)
    assert deployed.token.balance_wei(random_address(5)) == TOKEN


def test_tokens_given_to_the_distributor_are_accounted_for(setting: LedgerSetting) -> None:
    deployed = setting.deployed
    setting.begin()
    deployed.send(deployed.owner, deployed.token.build_approve(deployed.distributor.address, TOKEN))
    deployed.send(deployed.owner, deployed.distributor.build_fund(TOKEN))
    deployed.send(deployed.owner, deployed.token.build_transfer(deployed.distributor.address, 5))
    setting.take_in()
    assert setting.book.totals()["gifts"] == TOKEN
    proven(setting)


def test_a_refund_of_what_was_owed_is_named(setting: LedgerSetting) -> None:
    deployed = setting.deployed
    setting.begin()
    setting.earn(0, [TOKEN, 0, 0])
    deployed.anvil.pass_time(40 * 86_400)
    deployed.send(deployed.owner, deployed.escrow.build_refund(setting.job_id))
    setting.take_in()
    with pytest.raises(RefusedError, match=f"has ended with {TOKEN} wei that nodes had earned"):
        proven(setting)


def test_a_difference_between_ledger_and_chain_is_named(setting: LedgerSetting) -> None:
    setting.begin()
    setting.book.fund_job(setting.job_id, 5, "made up")
    with pytest.raises(RefusedError, match=f"tokens funded for job {setting.job_id}") as caught:
        proven(setting)
    assert caught.value.exit_code == 1
    assert str(100 * TOKEN + 5) in str(caught.value)
    assert str(100 * TOKEN) in str(caught.value)


def test_a_foreign_root_is_named(setting: LedgerSetting) -> None:
    deployed = setting.deployed
    setting.begin()
    deployed.post_root(b"\x01" * 32, 0, b"\x02" * 32)
    setting.take_in(pass_window=False)
    with pytest.raises(RefusedError, match="not the ledger's"):
        proven(setting)
    setting.earn(0, [TOKEN, 0, 0])
    settle(setting.book, deployed.network)
    (draw, root) = setting.deliver()
    assert root.intent.kind == "postRoot"
    assert "WrongBatch" in draw.note


def test_a_ledger_that_lost_its_past_says_so(setting: LedgerSetting, tmp_path: Path) -> None:
    deployed = setting.deployed
    setting.begin()
    one, *_ = setting.nodes
    setting.earn(0, [TOKEN, 0, 0])
    settle(setting.book, deployed.network)
    setting.deliver()
    setting.take_in()
    setting.claim(one)
    (tmp_path / "new").mkdir()
    other = LedgerSetting(deployed, tmp_path / "new")
    with pytest.raises(RefusedError, match="restore it from its newest copy"):
        other.intake().advance()
    other.close()


def test_without_an_rpc_the_check_says_so(setting: LedgerSetting) -> None:
    setting.begin()
    dead: Web3 = connect("http://127.0.0.1:1", timeout_s=1)
    with pytest.raises(UnreachableError, match="does not answer"):
        check(setting.book, dead, setting.deployed.network)
    with pytest.raises(UnreachableError, match="goes on where it stopped"):
        Intake(setting.book, dead, setting.deployed.network).advance()


def test_a_tampered_row_is_found(setting: LedgerSetting) -> None:
    """Somebody who can write the database drops the triggers and changes a credit."""
    setting.begin()
    setting.earn(0, [TOKEN, 0, 0])
    settle(setting.book, setting.deployed.network)
    proven(setting)
    with setting.book.write() as journal:
        journal.connection.exec_driver_sql("DROP TRIGGER credits_no_update")
        journal.connection.exec_driver_sql("UPDATE credits SET kind = 'audit'")
    with pytest.raises(RefusedError, match="would be paid twice"):
        proven(setting)
    with setting.book.write() as journal:
        journal.append(Transfer("stray", chart.CUSTODY_DISTRIBUTOR, chart.custody_escrow(setting.job_id), 1, "draw"))
    with pytest.raises(RefusedError):
        proven(setting)
