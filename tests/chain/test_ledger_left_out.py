"""Events that an RPC leaves out are missed: what the contracts hold is compared, however far back a block is final."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from bad_rpc import BadRpc, Meets
from ledger_setting import TOKEN, LedgerSetting
from sqlalchemy import select

from anynode_contracts.errors import DifferenceError, RefusedError, UnreachableError
from anynode_contracts.events import decode_event
from anynode_ledger import schema
from anynode_ledger.intake import Intake
from anynode_ledger.reconcile import check
from anynode_ledger.settlement import batches_of, settle

FINAL_AFTER = 5
FAR_BACK = 70  # as a public chain's final block is
PRUNED = Meets("*", "pruned", amount=3)


@pytest.fixture
def setting(setting: LedgerSetting) -> LedgerSetting:
    """A ledger with a job."""
    setting.begin()
    return setting


@pytest.fixture
def bad(setting: LedgerSetting) -> Iterator[BadRpc]:
    with BadRpc.before(setting.deployed.anvil.url) as bad:
        yield bad


def intake_of(setting: LedgerSetting, bad: BadRpc, *, finality: int = FINAL_AFTER, settles: bool = True) -> Intake:
    return Intake(setting.book, bad.connect(), setting.deployed.network, finality=finality, settles=settles)


def post(setting: LedgerSetting) -> None:
    """A batch is settled and its root posted; nothing is read of it."""
    setting.earn(0, [TOKEN, TOKEN, TOKEN])
    assert settle(setting.book, setting.deployed.network) is not None
    assert setting.deliver() == []


def veto(setting: LedgerSetting) -> None:
    """A root that was taken in is vetoed."""
    post(setting)
    setting.take_in(pass_window=False)
    deployed = setting.deployed
    deployed.send(deployed.guardian, deployed.distributor.build_veto())


def register(setting: LedgerSetting) -> None:
    node = setting.deployed.account()
    setting.deployed.send(node, setting.deployed.registry.build_register(node.address))


def claim(setting: LedgerSetting) -> None:
    """Of a root that was taken in and is active."""
    post(setting)
    setting.take_in()
    setting.claim(next(iter(setting.nodes)))


def topic_of(setting: LedgerSetting, name: str) -> str:
    deployed = setting.deployed
    for log in deployed.w3.eth.get_logs({"fromBlock": deployed.network.deployed_block}):
        event = decode_event(deployed.w3, log)
        if event is not None and type(event).__name__ == name:
            return "0x" + bytes(log["topics"][0]).hex()
    raise AssertionError(f"there was no {name}")


HIDDEN = [
    (post, "RootPosted", "the number of the next batch: the ledger says 1, the chain says 2"),
    (veto, "RootVetoed", "roots cancelled: the ledger says 0, the chain says 1"),
    (register, "Registered", "nodes registered: the ledger says 4, the chain says 5"),
    (post, "JobDrawn", "tokens ever put into the distributor"),
    (claim, "Claimed", "the distributor holds"),
]


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("hidden", HIDDEN, ids=[name for _, name, _ in HIDDEN])
def test_any_event_that_is_left_out_is_missed(
    setting: LedgerSetting,
    bad: BadRpc,
    caplog: pytest.LogCaptureFixture,
    hidden: tuple[Callable[[LedgerSetting], None], str, str],
    pruned: bool,
) -> None:
    """Also by a node that keeps the newest states only: then its newest is compared, and that is said once."""
    happens, name, says = hidden
    happens(setting)
    setting.deployed.anvil.mine(FINAL_AFTER)
    hide = Meets("eth_getLogs", "hide", topic=topic_of(setting, name))
    reading = intake_of(setting, bad)
    bad.faults([hide, PRUNED] if pruned else [hide])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with pytest.raises(RefusedError, match=f"will be read again: {says}"):
                reading.advance()
    assert caplog.text.count("has no state of final blocks") == pruned
    bad.faults([PRUNED] if pruned else [])
    reading.advance()
    check(setting.book, setting.deployed.w3, setting.deployed.network)
    with setting.book.read() as journal:
        assert name in set(journal.connection.execute(select(schema.chain_events.c.name)).scalars())


def test_a_final_block_far_behind_the_head_is_compared_too(setting: LedgerSetting, bad: BadRpc) -> None:
    post(setting)
    setting.deployed.anvil.mine(FAR_BACK)
    before = setting.book.totals()
    bad.fault("eth_getLogs", "empty")
    with pytest.raises(RefusedError, match="will be read again: tokens ever put into the distributor"):
        intake_of(setting, bad, finality=FAR_BACK).advance()
    assert setting.book.totals() == before


def test_what_happened_since_is_allowed_for_in_the_newest_state(setting: LedgerSetting, bad: BadRpc) -> None:
    """Claims, funding, a draw and a root behind the final block, of a node that has no state of it."""
    claim(setting)
    deployed = setting.deployed
    deployed.anvil.mine(FINAL_AFTER)
    for index in list(setting.nodes)[1:]:
        setting.claim(index)
    deployed.send(deployed.owner, deployed.token.build_approve(deployed.escrow.address, 7))
    deployed.send(deployed.owner, deployed.escrow.build_fund(setting.job_id, 7))
    setting.earn(1, [TOKEN, 0, TOKEN])
    register(setting)
    bad.faults([PRUNED])
    status = intake_of(setting, bad).advance()
    assert status.posted == status.final == status.head - FINAL_AFTER
    assert setting.book.balances(next(iter(setting.nodes))).paid_wei == TOKEN
    assert setting.book.job(setting.job_id).funded_wei == 100 * TOKEN
    with pytest.raises(UnreachableError, match="has no state of block"):
        check(setting.book, bad.connect(), deployed.network)
    check(setting.book, deployed.w3, deployed.network)


def test_a_ledger_that_does_not_settle_misses_events_too(setting: LedgerSetting, bad: BadRpc) -> None:
    register(setting)
    setting.deployed.anvil.mine(FINAL_AFTER)
    bad.faults([Meets("eth_getLogs", "hide", topic=topic_of(setting, "Registered"))])
    with pytest.raises(RefusedError, match="nodes registered"):
        intake_of(setting, bad, settles=False).advance()


def test_the_check_names_an_event_that_is_missing(setting: LedgerSetting) -> None:
    """As in a database that somebody has cut a row out of."""
    post(setting)
    setting.take_in(pass_window=False)
    assert [stored.state for stored in batches_of(setting.book)] == ["pending"]
    check(setting.book, setting.deployed.w3, setting.deployed.network)
    with setting.book.write() as journal:
        table = schema.chain_events
        journal.connection.execute(table.delete().where(table.c.name == "RootPosted"))
    with pytest.raises(DifferenceError, match="the number of the next batch: the ledger says 1, the chain says 2"):
        check(setting.book, setting.deployed.w3, setting.deployed.network)
