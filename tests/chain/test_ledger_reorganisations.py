"""Reorganisations of depth 1 to 12 on a real chain: what is replaced is forgotten, the book is right after each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed import ROOT, Deployed
from ledger_setting import TOKEN, LedgerSetting
from sqlalchemy import select

from anynode_contracts.anvil import Anvil, find_anvil
from anynode_ledger import schema
from anynode_ledger.intake import Intake
from anynode_ledger.outbox import Outbox
from anynode_ledger.reconcile import check
from anynode_ledger.settlement import batches_of, settle

DEPTHS = range(1, 13)
EPOCH_BLOCKS = max(DEPTHS) // 2
FINAL_AFTER = 2 * EPOCH_BLOCKS
EITHER = ["sqlite", pytest.param("postgresql", marks=pytest.mark.deep)]
pytestmark = pytest.mark.parametrize("url", EITHER, indirect=True)


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    """A chain whose finalized block no reorganisation of these depths reaches."""
    with Anvil.start(find_anvil(ROOT), epoch_blocks=EPOCH_BLOCKS) as running:
        yield running


@pytest.fixture(scope="module")
def deployed_once(anvil: Anvil) -> Deployed:
    return Deployed.on(anvil)


@pytest.fixture
def setting(deployment: Deployed, tmp_path: Path, url: str) -> Iterator[LedgerSetting]:
    """A ledger with a job, whose owner may put in more."""
    setting = LedgerSetting(deployment, tmp_path, url=url)
    setting.begin()
    deployment.send(deployment.owner, deployment.token.build_approve(deployment.escrow.address, 10**24))
    yield setting
    setting.close()


@pytest.fixture
def intake(setting: LedgerSetting) -> Intake:
    """As a verifier has it."""
    return Intake(setting.book, setting.deployed.w3, setting.deployed.network)


def fund(setting: LedgerSetting, amount_wei: int) -> None:
    setting.deployed.send(setting.deployed.owner, setting.deployed.escrow.build_fund(setting.job_id, amount_wei))


def follows_the_chain(setting: LedgerSetting) -> None:
    """Every block that is remembered is the chain's, and so is every event."""
    with setting.book.read() as journal:
        blocks = list(journal.connection.execute(select(schema.chain_blocks)))
        events = list(journal.connection.execute(select(schema.chain_events)))
    w3 = setting.deployed.w3
    assert max(block.number for block in blocks) == w3.eth.block_number
    hashes = {number: bytes(w3.eth.get_block(number)["hash"]).hex() for number in {row.number for row in blocks}}
    assert {block.number: block.hash for block in blocks} == hashes
    assert all(event.block_hash == hashes.get(event.block_number, event.block_hash) for event in events)


def test_every_depth_is_rewound(setting: LedgerSetting, intake: Intake, deep: bool) -> None:
    """Another amount is funded in the lowest replaced block, on a branch that is longer by a block every other time."""
    depths = DEPTHS if deep else (1, 6, 12)
    anvil, funded_wei = setting.deployed.anvil, 100 * TOKEN
    anvil.mine(FINAL_AFTER)
    for depth in depths:
        intake.advance()
        fork = anvil.snapshot()
        fund(setting, 7)
        anvil.mine(depth - 1)
        intake.advance()
        follows_the_chain(setting)
        anvil.revert(fork)
        fund(setting, depth)
        anvil.mine(depth - 1 + depth % 2)
        intake.advance()
        follows_the_chain(setting)
        assert setting.book.job(setting.job_id).funded_wei == funded_wei, "nothing counts before it is final"
        anvil.mine(FINAL_AFTER)
        intake.advance()
        funded_wei += depth
        assert setting.book.job(setting.job_id).funded_wei == funded_wei
        follows_the_chain(setting)
    check(setting.book, setting.deployed.w3, setting.deployed.network)


def until_mined(outbox: Outbox) -> None:
    """Until every intent is in a block; a busy chain takes a moment."""
    while any(status.state != "mined" for status in outbox.advance()):
        pass


def test_posting_survives_every_depth(setting: LedgerSetting, intake: Intake, deep: bool) -> None:
    """A batch is mined and replaced, by the outbox of a verifier: the same nonces go out again, and the batch is posted
    once. Every other time so late that what was dropped is overdue, and replaced.
    """
    depths = DEPTHS if deep else (1, 2, 12)
    deployed, anvil = setting.deployed, setting.deployed.anvil
    anvil.mine(FINAL_AFTER)
    for done, depth in enumerate(depths):
        setting.earn(depth, [TOKEN, TOKEN, TOKEN])
        assert settle(setting.book, deployed.network) is not None
        outbox = Outbox(setting.book, deployed.w3, deployed.poster, deployed.sign_root)
        fork = anvil.snapshot()
        until_mined(outbox)
        anvil.mine(max(0, depth - 2))
        outbox.advance()
        intake.advance()
        anvil.revert(fork)
        setting.now_s += done % 2 * 100
        intake.advance()
        until_mined(outbox)
        anvil.mine(FINAL_AFTER)
        assert outbox.advance() == []
        deployed.pass_window()
        anvil.mine(FINAL_AFTER)
        intake.advance()
        assert [stored.state for stored in batches_of(setting.book)] == ["posted"] * (done + 1)
        check(setting.book, deployed.w3, deployed.network)
    assert deployed.w3.eth.get_transaction_count(deployed.poster.address) == 2 * len(depths)


def test_the_last_block_alone_is_replaced(setting: LedgerSetting, intake: Intake) -> None:
    """Only the root was in it, or the draw too, with blocks on top in which others' transactions are."""
    deployed, anvil = setting.deployed, setting.deployed.anvil
    setting.earn(1, [TOKEN, TOKEN, TOKEN])
    assert settle(setting.book, deployed.network) is not None
    outbox = Outbox(setting.book, deployed.w3, deployed.poster, deployed.sign_root)
    forks: dict[str, str] = {}
    anvil.rpc("evm_setAutomine", False)
    while len(forks) < 2:
        for status in outbox.advance():
            if status.state == "sent" and status.intent.kind not in forks:
                forks[status.intent.kind] = anvil.snapshot()
        anvil.mine(1)
    anvil.rpc("evm_setAutomine", True)
    until_mined(outbox)
    for kind in ("postRoot", "draw"):
        anvil.revert(forks[kind])
        setting.now_s += 1_000
        until_mined(outbox)
    anvil.mine(FINAL_AFTER)
    assert outbox.advance() == []
    assert deployed.w3.eth.get_transaction_count(deployed.poster.address) == 2
    intake.advance()
    setting.deployed.pass_window()
    anvil.mine(FINAL_AFTER)
    intake.advance()
    assert [stored.state for stored in batches_of(setting.book)] == ["posted"]
    check(setting.book, deployed.w3, deployed.network)
