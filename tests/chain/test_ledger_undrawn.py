"""Jobs that end on a real chain: what the contract still pays is drawn, what it does not holds up nobody."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from eth_typing import HexStr
from ledger_setting import TOKEN, LedgerSetting

from anynode_contracts.errors import DifferenceError, RefusedError
from anynode_ledger import schema
from anynode_ledger.intents import intents
from anynode_ledger.lapsing import REFUND_DELAY_S, SPARE_S
from anynode_ledger.reconcile import check
from anynode_ledger.settlement import batches_of, settle


@pytest.fixture
def setting(setting: LedgerSetting) -> Iterator[LedgerSetting]:
    """A ledger with a job."""
    setting.begin()
    anvil = setting.deployed.anvil
    base_wei = setting.deployed.w3.eth.get_block("latest")["baseFeePerGas"]
    yield setting
    anvil.rpc("evm_setAutomine", True)
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(base_wei))
    anvil.mine(1)


def another_job(setting: LedgerSetting) -> str:
    """One more job, on which the setting's nodes work from now on; the id of the former one."""
    former, setting.job_id = setting.job_id, secrets.token_hex(32)
    deployed = setting.deployed
    deployed.send(deployed.owner, deployed.token.build_approve(deployed.escrow.address, setting.budget_wei))
    create = deployed.escrow.build_create(
        setting.job_id,
        budget_wei=setting.budget_wei,
        cap_per_batch_wei=setting.budget_wei,
        deadline_s=deployed.now_s + 300 * 86_400,
    )
    deployed.send(deployed.owner, create)
    return former


def pass_time(setting: LedgerSetting, seconds: int) -> None:
    setting.deployed.anvil.pass_time(seconds)
    setting.intake().advance()


def test_the_delay_is_the_contracts(setting: LedgerSetting) -> None:
    assert setting.deployed.escrow.contract.functions.REFUND_DELAY().call() == REFUND_DELAY_S


def test_a_cancelled_job_pays_what_was_accepted_and_then_holds_up_nobody(setting: LedgerSetting) -> None:
    deployed, network = setting.deployed, setting.deployed.network
    setting.earn(0, [3 * TOKEN, 0, 0])
    deployed.send(deployed.owner, deployed.escrow.build_cancel(setting.job_id))
    pass_time(setting, REFUND_DELAY_S - SPARE_S - 100)
    assert settle(setting.book, network) is not None
    assert setting.deliver() == []
    setting.take_in()
    setting.earn(1, [0, TOKEN, 0])  # too late to be drawn
    cancelled = another_job(setting)
    pass_time(setting, SPARE_S + 100)
    setting.earn(2, [0, 0, TOKEN])
    second = settle(setting.book, network)
    assert second is not None
    assert (second.draws, len(second.entries)) == ({setting.job_id: TOKEN}, 2)
    deployed.send(deployed.owner, deployed.escrow.build_refund(cancelled))
    assert setting.deliver() == []
    setting.take_in()
    assert [stored.state for stored in batches_of(setting.book)] == ["posted", "posted"]
    assert setting.book.job(cancelled).refunded_wei == 97 * TOKEN
    with pytest.raises(DifferenceError, match=f"{TOKEN} wei that nodes had earned and nobody has drawn"):
        check(setting.book, deployed.w3, network)


def test_what_nobody_has_drawn_hides_no_other_difference(setting: LedgerSetting) -> None:
    """It is told for ever; a change of payout that an RPC has left out is found by the check alone."""
    deployed, (first, *_) = setting.deployed, sorted(setting.nodes)
    setting.earn(0, [TOKEN, 0, 0])
    deployed.send(deployed.owner, deployed.escrow.build_cancel(setting.job_id))
    pass_time(setting, REFUND_DELAY_S)
    with pytest.raises(DifferenceError, match=f"{setting.job_id} has ended with {TOKEN} wei .* all else is as on"):
        check(setting.book, deployed.w3, deployed.network)
    deployed.send(setting.nodes[first], deployed.registry.build_request_payout_change(first, deployed.owner.address))
    setting.intake().advance()
    with setting.book.write() as journal:
        table = schema.chain_events
        journal.connection.execute(table.delete().where(table.c.name == "PayoutChangeRequested"))
    pass_time(setting, 48 * 3600)
    with pytest.raises(DifferenceError, match=f"the payout address of node {first}"):
        check(setting.book, deployed.w3, deployed.network)


@pytest.mark.parametrize("mined", ["the empty transaction", "the draw"])
def test_a_draw_that_was_signed_and_came_too_late_holds_up_nothing_behind_it(
    setting: LedgerSetting, mined: str
) -> None:
    """Gas had become dearer than it offers, so no block took it; then it is withdrawn, and its nonce is needed."""
    deployed, anvil, network = setting.deployed, setting.deployed.anvil, setting.deployed.network
    setting.earn(0, [3 * TOKEN, 0, 0])
    deployed.send(deployed.owner, deployed.escrow.build_cancel(setting.job_id))
    another_job(setting)
    pass_time(setting, REFUND_DELAY_S - SPARE_S - 100)
    assert settle(setting.book, network) is not None
    usual_wei = deployed.w3.eth.get_block("latest")["baseFeePerGas"]
    anvil.rpc("evm_setAutomine", False)
    (late, *_) = setting.outbox().advance()
    (lost,) = setting.signed(late)
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(20 * lost.max_fee_wei))
    pass_time(setting, SPARE_S + 200)
    assert setting.outbox().advance() == [], "all of it is withdrawn"
    setting.earn(1, [0, TOKEN, 0])
    assert settle(setting.book, network) is not None
    (draw, *_) = setting.outbox().advance()
    (waiting,) = setting.signed(draw)
    assert waiting.nonce == lost.nonce + 1
    setting.now_s += 90
    setting.outbox().advance()
    with setting.book.read() as journal:
        (fill,) = [status for status in intents(journal) if status.intent.kind == "fill"]
    (empty,) = setting.signed(fill)
    assert empty.nonce == lost.nonce and empty.max_fee_wei > deployed.w3.eth.get_block("latest")["baseFeePerGas"]
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(usual_wei))
    if mined == "the draw":
        anvil.rpc("anvil_dropTransaction", f"0x{empty.tx_hash}")
        deployed.w3.eth.send_raw_transaction(HexStr(f"0x{lost.raw}"))
    anvil.mine(1)
    anvil.rpc("evm_setAutomine", True)
    receipt = deployed.w3.eth.get_transaction_receipt(HexStr(f"0x{(lost if mined == 'the draw' else empty).tx_hash}"))
    assert receipt["status"] == (mined != "the draw"), "the escrow pays nothing more"
    assert setting.deliver() == []
    setting.take_in()
    setting.claim(sorted(setting.nodes)[1])
    setting.take_in()
    assert [setting.book.balances(index).paid_wei for index in sorted(setting.nodes)] == [0, TOKEN, 0]
    assert deployed.token.balance_wei(deployed.distributor.address) == deployed.distributor.bond_wei()
    with pytest.raises(DifferenceError, match=f"with {3 * TOKEN} wei that nodes had earned .* all else is as on the"):
        check(setting.book, deployed.w3, network)


def test_a_draw_that_came_too_late_is_given_up(setting: LedgerSetting) -> None:
    """It was planned in time; then nothing was sent for more than a day."""
    deployed, network = setting.deployed, setting.deployed.network
    setting.earn(0, [3 * TOKEN, 0, 0])
    deployed.send(deployed.owner, deployed.escrow.build_cancel(setting.job_id))
    cancelled = another_job(setting)
    pass_time(setting, REFUND_DELAY_S - SPARE_S - 100)
    setting.earn(1, [0, TOKEN, 0])
    assert settle(setting.book, network) is not None
    deployed.anvil.pass_time(SPARE_S + 200)
    refused = [status for status in setting.deliver() if status.intent.subject.startswith(cancelled)]
    assert len(refused) == 1 and "JobEnded" in refused[0].note
    setting.intake().advance()
    assert setting.deliver() == []
    assert settle(setting.book, network) is not None
    assert setting.deliver() == []
    setting.take_in()
    assert [(stored.batch.attempt, stored.state) for stored in batches_of(setting.book)] == [(1, "void"), (2, "posted")]
    setting.claim(sorted(setting.nodes)[1])
    with pytest.raises(RefusedError, match="has 0 wei left"):
        setting.job_id = cancelled
        setting.earn(2, [TOKEN, 0, 0])
