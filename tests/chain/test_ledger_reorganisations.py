"""Reorganisations of depth 1 to 12 on a real chain: what is replaced is forgotten, the book is right after each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed import Deployed
from ledger_setting import TOKEN, LedgerSetting
from sqlalchemy import select

from anynode_ledger import schema
from anynode_ledger.intake import Intake
from anynode_ledger.reconcile import check
from anynode_ledger.settlement import batches_of, settle

DEPTHS = range(1, 13)
FINALITY = max(DEPTHS) + 1
EITHER = ["sqlite", pytest.param("postgresql", marks=pytest.mark.deep)]
pytestmark = pytest.mark.parametrize("url", EITHER, indirect=True)


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
    """Final is what no reorganisation of these depths reaches."""
    return Intake(setting.book, setting.deployed.w3, setting.deployed.network, finality=FINALITY)


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
    anvil.mine(FINALITY)
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
        anvil.mine(FINALITY)
        intake.advance()
        funded_wei += depth
        assert setting.book.job(setting.job_id).funded_wei == funded_wei
        follows_the_chain(setting)
    check(setting.book, setting.deployed.w3, setting.deployed.network)


@pytest.mark.deep
def test_posting_survives_every_depth(setting: LedgerSetting, intake: Intake) -> None:
    """A batch is mined and replaced: the same transactions go out again, and the batch is posted once."""
    deployed, anvil = setting.deployed, setting.deployed.anvil
    anvil.mine(FINALITY)
    for depth in DEPTHS:
        setting.earn(depth, [TOKEN, TOKEN, TOKEN])
        assert settle(setting.book, deployed.network) is not None
        outbox = setting.outbox(confirmations=FINALITY)
        fork = anvil.snapshot()
        while any(status.state != "mined" for status in outbox.advance()):
            pass
        anvil.mine(max(0, depth - 2))
        intake.advance()
        anvil.revert(fork)
        intake.advance()
        while any(status.state != "mined" for status in outbox.advance()):
            pass
        anvil.mine(FINALITY)
        assert outbox.advance() == []
        deployed.pass_window()
        anvil.mine(FINALITY)
        intake.advance()
        assert [stored.state for stored in batches_of(setting.book)] == ["posted"] * depth
        check(setting.book, deployed.w3, deployed.network)
    assert deployed.w3.eth.get_transaction_count(deployed.poster.address) == 2 * len(DEPTHS)
