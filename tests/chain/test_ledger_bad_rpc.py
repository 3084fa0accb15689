"""Outbox and intake behind an RPC that fails as RPCs do: whatever it says, everything is paid once in the end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bad_rpc import BadRpc, Fault
from deployed import Deployed
from ledger_setting import TOKEN, LedgerSetting

from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_ledger.fees import raised
from anynode_ledger.intake import Intake
from anynode_ledger.intents import IntentStatus, intents
from anynode_ledger.outbox import GAP_MAX, Outbox
from anynode_ledger.reconcile import check
from anynode_ledger.settlement import settle

GWEI = 10**9
COUNT, SEND, NUMBER = "eth_getTransactionCount", "eth_sendRawTransaction", "eth_blockNumber"


@pytest.fixture
def setting(setting: LedgerSetting) -> Iterator[LedgerSetting]:
    """A ledger with one settled batch and nothing sent."""
    setting.settle_all()
    yield setting
    setting.deployed.anvil.rpc("evm_setAutomine", True)


@pytest.fixture
def bad(setting: LedgerSetting) -> Iterator[BadRpc]:
    with BadRpc.before(setting.deployed.anvil.url) as bad:
        yield bad


@pytest.fixture
def outbox(setting: LedgerSetting, bad: BadRpc) -> Outbox:
    return setting.outbox(w3=bad.connect())


@pytest.fixture
def pass_at(setting: LedgerSetting) -> Iterator[Callable[[int], None]]:
    """Let the time of a replacement pass, and a block in which gas costs so many gwei."""
    anvil = setting.deployed.anvil
    before = setting.deployed.w3.eth.get_block("latest")["baseFeePerGas"]

    def pass_it(base_gwei: int) -> None:
        setting.now_s += 100
        anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(base_gwei * GWEI))
        anvil.mine(1)

    yield pass_it
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(before))


def finish(setting: LedgerSetting, outbox: Outbox, *, advances_max: int = 12) -> None:
    """Call again and again, as the service does, with the time of a replacement between; then look at everything."""
    for _ in range(advances_max):
        if not outbox.advance():
            break
        setting.now_s += 100
    assert outbox.advance() == []
    setting.sent_once()
    deployed = setting.deployed
    counts = {deployed.w3.eth.get_transaction_count(deployed.poster.address, at) for at in ("latest", "pending")}
    assert len(counts) == 1, "a transaction waits for a nonce that nobody will use"


def fills(setting: LedgerSetting) -> list[IntentStatus]:
    with setting.book.read() as journal:
        return [status for status in intents(journal) if status.intent.kind == "fill"]


@pytest.mark.deep
@pytest.mark.parametrize("does", ["silent", "broken"])
@pytest.mark.parametrize("method", [NUMBER, SEND])
def test_no_answer_is_waited_for(setting: LedgerSetting, bad: BadRpc, outbox: Outbox, does: Fault, method: str) -> None:
    bad.fault(method, does)
    assert "does not answer" in outbox.advance()[0].note
    assert "does not answer" in outbox.advance()[0].note
    bad.heal()
    finish(setting, outbox)


def test_a_transaction_that_arrived_although_nobody_said_so(
    setting: LedgerSetting, bad: BadRpc, outbox: Outbox
) -> None:
    bad.fault(SEND, "late", times=1)
    (draw, *_) = outbox.advance()
    assert (draw.state, len(setting.signed(draw))) == ("signed", 1)
    finish(setting, outbox)
    assert len(setting.signed(draw)) == 1


def test_a_node_that_forgets_transactions(setting: LedgerSetting, bad: BadRpc, outbox: Outbox) -> None:
    bad.fault(SEND, "drop", times=2)
    (draw, *_) = outbox.advance()
    outbox.advance()
    assert (draw.state, len(setting.signed(draw))) == ("sent", 1)
    finish(setting, outbox)
    assert len(setting.signed(draw)) == 1


def test_too_high_a_nonce_is_made_good(setting: LedgerSetting, bad: BadRpc, outbox: Outbox) -> None:
    """Signed with a nonce that cannot come up: empty transactions use what lies below it."""
    bad.fault(COUNT, "add", amount=3)
    (draw, *_) = outbox.advance()
    assert draw.state == "sent"
    bad.heal()
    finish(setting, outbox)
    assert len(setting.signed(draw)) == 1
    assert [(one.intent.contract, one.state) for one in fills(setting)] == [
        (setting.deployed.poster.address, "confirmed")
    ] * 3


@pytest.mark.deep
def test_an_absurd_nonce_is_left_to_a_person(setting: LedgerSetting, bad: BadRpc, outbox: Outbox) -> None:
    bad.fault(COUNT, "add", amount=GAP_MAX + 1)
    outbox.advance()
    bad.heal()
    setting.now_s += 100
    assert "use up the nonces between by hand" in outbox.advance()[0].note
    assert fills(setting) == []


def test_a_nonce_said_to_be_used_is_not_given_up(setting: LedgerSetting, bad: BadRpc, outbox: Outbox) -> None:
    """Believing it would sign the draw a second time, for the next nonce."""
    setting.deployed.anvil.rpc("evm_setAutomine", False)
    (draw, *_) = outbox.advance()
    bad.fault(COUNT, "add", amount=5)
    outbox.advance()
    outbox.advance()
    assert len(setting.signed(draw)) == 1
    setting.deployed.anvil.rpc("evm_setAutomine", True)
    bad.heal()
    finish(setting, outbox)


@pytest.mark.deep
def test_too_low_a_nonce_costs_nothing(setting: LedgerSetting, bad: BadRpc, outbox: Outbox) -> None:
    deployed = setting.deployed
    for _ in range(3):
        deployed.send(deployed.poster, deployed.token.build_approve(deployed.escrow.address, 1))
    bad.fault(COUNT, "add", amount=-2)
    (draw, *_) = outbox.advance()
    assert draw.state == "sent"
    bad.heal()
    finish(setting, outbox)
    assert [one.nonce for one in setting.signed(draw)] == [1, 3]


@pytest.mark.parametrize(
    "blocks", [pytest.param(1, marks=pytest.mark.deep), 3, pytest.param(6, marks=pytest.mark.deep)]
)
def test_a_node_that_is_behind(setting: LedgerSetting, bad: BadRpc, outbox: Outbox, blocks: int) -> None:
    """Before anything is sent, and after all of it is in blocks."""
    bad.fault("*", "behind", amount=blocks)
    for _ in range(3):
        outbox.advance()
        setting.now_s += 100
    bad.heal()
    finish(setting, outbox)
    bad.fault("*", "behind", amount=blocks)
    assert outbox.advance() == []
    reading = Intake(setting.book, bad.connect(), setting.deployed.network, finality=0)
    with pytest.raises(UnreachableError, match="is behind"):
        reading.advance()
    bad.heal()
    reading.advance()
    setting.sent_once()


def test_an_intake_behind_a_broken_node(setting: LedgerSetting, bad: BadRpc) -> None:
    setting.deliver()
    reading = Intake(setting.book, bad.connect(), setting.deployed.network, finality=0)
    for method, does in (("eth_getLogs", "silent"), ("eth_getBlockByNumber", "broken"), ("*", "silent")):
        bad.fault(method, does)  # type: ignore[arg-type]
        with pytest.raises(UnreachableError, match="goes on where it stopped"):
            reading.advance()
    bad.heal()
    reading.advance()
    setting.sent_once()


def test_an_rpc_that_leaves_out_events_is_found_out(setting: LedgerSetting, bad: BadRpc) -> None:
    """The contracts hold what no event has told of: nothing is booked, and the blocks are read again."""
    setting.deliver()
    before = setting.book.totals()
    reading = Intake(setting.book, bad.connect(), setting.deployed.network, finality=0)
    bad.fault("eth_getLogs", "empty")
    for _ in range(2):
        with pytest.raises(RefusedError, match="will be read again: tokens ever put"):
            reading.advance()
        assert setting.book.totals() == before
    bad.heal()
    reading.advance()
    setting.sent_once()


def test_an_rpc_that_leaves_out_a_claim_is_found_out(setting: LedgerSetting, bad: BadRpc) -> None:
    """The distributor's bond is larger than what was claimed, and does not make up for it."""
    setting.deliver()
    setting.take_in()
    first, *_ = setting.nodes
    setting.claim(first)
    reading = Intake(setting.book, bad.connect(), setting.deployed.network, finality=0)
    bad.fault("eth_getLogs", "empty")
    with pytest.raises(RefusedError, match=rf"will be read again: the distributor holds .* {3 * TOKEN} wei less"):
        reading.advance()
    assert setting.book.balances(first).paid_wei == 0
    bad.heal()
    reading.advance()
    assert setting.book.balances(first).paid_wei == 3 * TOKEN
    check(setting.book, setting.deployed.w3, setting.deployed.network)


@pytest.mark.deep
def test_a_rising_price_is_followed_on_the_nonce(setting: LedgerSetting, pass_at: Callable[[int], None]) -> None:
    """Three replacements, each an eighth more or what the chain asks by then, until a block takes the last."""
    anvil, outbox = setting.deployed.anvil, setting.outbox()
    anvil.rpc("evm_setAutomine", False)
    (draw, *_) = outbox.advance()
    for base_gwei in (20, 60, 61):
        pass_at(base_gwei)
        outbox.advance()
    offers = setting.signed(draw)
    assert len({one.nonce for one in offers}) == 1
    for former, later in itertools.pairwise(offers):
        assert later.max_fee_wei >= raised(former.max_fee_wei) >= former.max_fee_wei * 9 / 8
        assert later.priority_fee_wei >= raised(former.priority_fee_wei)
    assert offers[-1].max_fee_wei > 61 * GWEI
    anvil.rpc("evm_setAutomine", True)
    anvil.mine(1)
    finish(setting, outbox)
    assert len(setting.signed(draw)) == len(offers)


def test_a_spike_above_the_limit_is_waited_out(setting: LedgerSetting, pass_at: Callable[[int], None]) -> None:
    anvil, limit_wei = setting.deployed.anvil, 50 * GWEI
    outbox = setting.outbox(max_fee_wei=limit_wei)
    anvil.rpc("evm_setAutomine", False)
    (draw, *_) = outbox.advance()
    for base_gwei in (20, 100, 400):
        pass_at(base_gwei)
        outbox.advance()
    offers = setting.signed(draw)
    assert offers[-1].max_fee_wei == limit_wei, "as much as is allowed, and not a wei more"
    anvil.rpc("evm_setAutomine", True)
    pass_at(10)
    finish(setting, outbox)
    assert setting.signed(draw) == offers


def test_what_fills_a_nonce_keeps_to_the_limit_too(
    setting: LedgerSetting, bad: BadRpc, pass_at: Callable[[int], None]
) -> None:
    limit_wei = 50 * GWEI
    outbox = setting.outbox(w3=bad.connect(), max_fee_wei=limit_wei)
    bad.fault(COUNT, "add", amount=1)
    outbox.advance()
    bad.heal()
    pass_at(400)
    (draw, *_) = outbox.advance()
    assert draw.note.startswith("gas costs")
    assert [setting.signed(one) for one in fills(setting)] == [[]]
    pass_at(10)
    finish(setting, outbox)
    assert [one.max_fee_wei <= limit_wei for fill in fills(setting) for one in setting.signed(fill)] == [True]


@pytest.mark.deep
def test_the_next_batch_goes_on_where_a_bad_node_was(deployment: Deployed, tmp_path: Path) -> None:
    """No nonce of the first batch stands in the way of the second."""
    setting = LedgerSetting(deployment, tmp_path)
    setting.begin()
    with BadRpc.before(deployment.anvil.url) as bad:
        outbox = setting.outbox(w3=bad.connect())
        for number in range(3):
            setting.earn(number, [TOKEN, TOKEN, TOKEN])
            assert settle(setting.book, deployment.network) is not None
            bad.fault(COUNT, "add", amount=1, times=1)
            for _ in range(8):
                outbox.advance()
                setting.now_s += 100
            assert outbox.advance() == []
            setting.take_in()
    assert [setting.book.balances(index).payable_wei for index in setting.nodes] == [3 * TOKEN] * 3
    setting.close()
