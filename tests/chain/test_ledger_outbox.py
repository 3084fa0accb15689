"""The outbox against a real chain: exactly once through every crash, a silent RPC, replacements and lost nonces."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ledger_setting import TOKEN, LedgerSetting
from requests.exceptions import ConnectionError as NoConnectionError
from web3 import HTTPProvider, Web3
from web3.types import RPCEndpoint, RPCResponse

from anynode_contracts.networks import connect
from anynode_ledger.fees import raised
from anynode_ledger.intents import Intent, IntentState, IntentStatus
from anynode_ledger.outbox import ATTEMPTS_MAX, Outbox, progress
from anynode_ledger.settlement import settle

OnStep = Callable[[Intent, IntentState], None]
NEVER = 1_000_000


class Crash(BaseException):
    """The process dies here."""


class Faulty:
    """Dies at the n-th dangerous point: around every sending, and after every committed step."""

    def __init__(self, point: int, error: BaseException) -> None:
        self.left = point
        self.error = error

    def pass_point(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error

    def step(self, _intent: Intent, _state: IntentState) -> None:
        self.pass_point()


class FaultyProvider(HTTPProvider):
    """An RPC connection that breaks before or after a transaction has reached the node.

    A node that mines at once still answers before it has: on a busy machine the outbox might ask too early, and come to
    fewer points. So this connection is slow to answer until the block is there.
    """

    def __init__(self, url: str, faulty: Faulty) -> None:
        super().__init__(url)
        self.faulty = faulty

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        if method != "eth_sendRawTransaction":
            return super().make_request(method, params)
        self.faulty.pass_point()
        answer = super().make_request(method, params)
        if "error" not in answer:
            receipt = RPCEndpoint("eth_getTransactionReceipt")
            while super().make_request(receipt, [answer["result"]])["result"] is None:
                pass
        self.faulty.pass_point()
        return answer


def over(setting: LedgerSetting, faulty: Faulty, on_step: OnStep | None) -> Outbox:
    """An outbox over a connection that fails where ``faulty`` says."""
    w3 = Web3(FaultyProvider(setting.deployed.anvil.url, faulty))
    return setting.outbox(on_step, w3=w3)


@pytest.fixture
def setting(setting: LedgerSetting) -> Iterator[LedgerSetting]:
    """A ledger with one settled batch and nothing sent."""
    setting.settle_all()
    yield setting
    setting.deployed.anvil.rpc("evm_setAutomine", True)


def test_in_order_and_once(setting: LedgerSetting) -> None:
    steps: list[tuple[str, str]] = []
    outbox = over(setting, Faulty(NEVER, Crash()), lambda intent, state: steps.append((intent.kind, state)))
    assert outbox.advance() == []
    assert outbox.advance() == []
    states = ("signed", "sent", "confirmed")
    assert steps == [(kind, state) for kind in ("draw", "finalise", "postRoot") for state in states]
    assert progress([]) == "everything is on the chain"
    setting.sent_once()


@pytest.mark.parametrize("lost", ["process", "connection"])
def test_any_point_of_failure_can_be_repeated(setting: LedgerSetting, lost: str) -> None:
    """Die, or lose the connection, at one dangerous point after the other, until a run meets none."""
    deployed = setting.deployed
    start = (setting.folder / "ledger.sqlite", setting.folder / "start.sqlite")
    setting.close()
    shutil.copy(*start)
    point = 0
    while True:
        point += 1
        snapshot = deployed.anvil.snapshot()
        shutil.copy(*reversed(start))
        setting.open()
        faulty = Faulty(point, Crash() if lost == "process" else NoConnectionError("the line is dead"))
        outbox = over(setting, faulty, faulty.step if lost == "process" else None)
        try:
            left = outbox.advance()
        except Crash:
            left = []
        if lost == "connection" and faulty.left <= 0:
            assert "does not answer" in left[0].note
        setting.close()
        setting.open()
        assert setting.deliver() == [], f"point {point}"
        setting.sent_once()
        setting.close()
        deployed.anvil.revert(snapshot)
        if faulty.left > 0:
            break
    assert point == {"process": 9 + 6, "connection": 6}[lost] + 1


def test_a_silent_rpc_is_waited_for(setting: LedgerSetting) -> None:
    dead = connect("http://127.0.0.1:1", timeout_s=1)
    left = setting.outbox(w3=dead).advance()
    assert [status.state for status in left] == ["waiting"] * 3
    assert "the chain's RPC does not answer" in progress(left)
    assert setting.deliver() == []
    setting.sent_once()


def test_a_stuck_transaction_is_replaced_on_its_nonce(setting: LedgerSetting) -> None:
    setting.deployed.anvil.rpc("evm_setAutomine", False)
    (draw, *_) = setting.outbox().advance()
    assert (draw.state, draw.intent.kind) == ("sent", "draw")
    setting.now_s += 89
    setting.outbox().advance()
    assert len(setting.signed(draw)) == 1
    setting.now_s += 1
    setting.outbox().advance()
    first, second = setting.signed(draw)
    assert first.nonce == second.nonce
    assert second.max_fee_wei >= raised(first.max_fee_wei) >= first.max_fee_wei * 9 / 8
    assert second.priority_fee_wei >= raised(first.priority_fee_wei)
    setting.deployed.anvil.mine(1)
    setting.deployed.anvil.rpc("evm_setAutomine", True)
    assert setting.deliver() == []
    assert len(setting.signed(draw)) == 2
    setting.sent_once()


def test_fees_end_at_the_limit(setting: LedgerSetting) -> None:
    (draw, *_) = setting.outbox(max_fee_wei=1).advance()
    assert (draw.state, draw.note[:9]) == ("waiting", "gas costs")
    setting.deployed.anvil.rpc("evm_setAutomine", False)
    setting.outbox().advance()
    (first,) = setting.signed(draw)
    setting.now_s += 1_000
    setting.outbox(max_fee_wei=first.max_fee_wei).advance()
    assert setting.signed(draw) == [first]


def test_a_dropped_transaction_is_sent_again(setting: LedgerSetting) -> None:
    anvil = setting.deployed.anvil
    anvil.rpc("evm_setAutomine", False)
    (draw, *_) = setting.outbox().advance()
    anvil.rpc("anvil_dropTransaction", f"0x{setting.signed(draw)[0].tx_hash}")
    anvil.rpc("evm_setAutomine", True)
    assert setting.deliver() == []
    assert len(setting.signed(draw)) == 1
    setting.sent_once()


def test_a_nonce_that_something_else_took_is_given_up(setting: LedgerSetting) -> None:
    deployed = setting.deployed
    deployed.anvil.rpc("evm_setAutomine", False)
    (draw, *_) = setting.outbox().advance()
    deployed.anvil.rpc("anvil_dropTransaction", f"0x{setting.signed(draw)[0].tx_hash}")
    deployed.anvil.rpc("evm_setAutomine", True)
    deployed.send(deployed.poster, deployed.token.build_approve(deployed.escrow.address, 1))
    assert setting.deliver() == []
    first, second = setting.signed(draw)
    assert second.nonce == first.nonce + 1
    setting.sent_once()


def until_mined(outbox: Outbox) -> list[IntentStatus]:
    """Advance until the chain has mined all that was sent, which takes a busy one a moment; what is still open."""
    for _ in range(1_000):
        left = outbox.advance()
        if all(status.state == "mined" for status in left):
            break
    return left


def test_nothing_is_confirmed_before_it_is_final_and_a_reorganisation_starts_again(setting: LedgerSetting) -> None:
    anvil = setting.deployed.anvil
    before = anvil.snapshot()
    left = until_mined(setting.outbox(finality=4))
    assert [status.state for status in left] == ["mined"] * 3
    assert "is not final yet" in left[0].note
    anvil.revert(before)
    left = until_mined(setting.outbox(finality=4))
    assert [status.state for status in left] == ["mined"] * 3
    assert [len(setting.signed(status)) for status in left] == [1, 1, 1]
    anvil.mine(4)
    assert setting.outbox(finality=4).advance() == []
    setting.sent_once()


def test_a_transaction_that_failed_in_a_block_that_is_not_final_is_not_signed_again(setting: LedgerSetting) -> None:
    """In that block's place comes one in which it succeeds: signed for the next nonce too, it would draw twice."""
    deployed, anvil = setting.deployed, setting.deployed.anvil
    before = anvil.snapshot()
    anvil.rpc("evm_setAutomine", False)
    (draw, *_) = setting.outbox(finality=4).advance()
    anvil.pass_time(60 * 86_400)  # the draw comes too late, and fails in its block
    (draw, *_) = setting.outbox(finality=4).advance()
    assert (draw.state, len(setting.signed(draw))) == ("sent", 1)
    assert "tried again by itself when that is final" in draw.note
    anvil.revert(before)
    anvil.rpc("evm_setAutomine", True)
    outbox = setting.outbox(finality=4)
    assert len(until_mined(outbox)) == 3
    anvil.mine(4)
    assert outbox.advance() == []
    assert len(setting.signed(draw)) == 1
    assert deployed.w3.eth.get_transaction_count(deployed.poster.address) == 3
    setting.sent_once()


def test_what_another_copy_has_done_counts_when_it_is_final(setting: LedgerSetting) -> None:
    """Found done in a block that is not final, and dropped with it: then it is sent after all."""
    anvil = setting.deployed.anvil
    start = (setting.folder / "ledger.sqlite", setting.folder / "copy.sqlite")
    setting.close()
    shutil.copy(*start)
    setting.open()
    before = anvil.snapshot()
    until_mined(setting.outbox(finality=4))
    setting.close()
    shutil.copy(*reversed(start))
    setting.open()
    outbox = setting.outbox(finality=4)
    left = outbox.advance()
    assert [status.note for status in left] == ["done on the chain already, in a block that is not final yet"] * 3
    anvil.revert(before)
    assert len(until_mined(outbox)) == 3
    anvil.mine(4)
    assert outbox.advance() == []
    setting.sent_once()


def test_an_older_copy_of_the_database_sends_nothing_twice(setting: LedgerSetting) -> None:
    start = (setting.folder / "ledger.sqlite", setting.folder / "copy.sqlite")
    setting.close()
    shutil.copy(*start)
    setting.open()
    assert setting.deliver() == []
    setting.close()
    shutil.copy(*reversed(start))
    setting.open()
    left = setting.outbox().advance()
    assert left == []
    setting.sent_once()


def test_what_the_ledger_cannot_explain_is_not_built_on(setting: LedgerSetting) -> None:
    deployed = setting.deployed
    deployed.send(deployed.poster, deployed.escrow.build_draw(setting.job_id, batch=1, amount_wei=5))
    (draw, *_) = setting.deliver()
    assert "restore the ledger from its newest copy" in draw.note
    assert draw.state == "waiting"


def test_a_transaction_that_fails_on_the_chain_is_not_repeated_blindly(setting: LedgerSetting) -> None:
    deployed = setting.deployed
    deployed.anvil.rpc("evm_setAutomine", False)
    (draw, *_) = setting.outbox().advance()
    deployed.anvil.pass_time(60 * 86_400)  # now the draw comes too late, and fails in its block
    deployed.anvil.rpc("evm_setAutomine", True)
    (draw, *_) = setting.deliver()
    assert "JobEnded" in draw.note
    assert len(setting.signed(draw)) == 1


def fail_again_and_again(setting: LedgerSetting) -> IntentStatus:
    """The draw, as often as it is tried in a row: each time the simulation passes, and the block's state is another."""
    deployed, anvil = setting.deployed, setting.deployed.anvil
    escrow, refuse_all = deployed.escrow.address, "0xfe"
    code = "0x" + bytes(deployed.w3.eth.get_code(escrow)).hex()
    anvil.rpc("evm_setAutomine", False)
    for failures in range(1, ATTEMPTS_MAX + 1):
        (draw, *_) = setting.outbox().advance()
        assert len(setting.signed(draw)) == failures
        anvil.rpc("anvil_setCode", escrow, refuse_all)
        anvil.mine(1)
        anvil.rpc("anvil_setCode", escrow, code)
    return draw


def test_what_failed_again_and_again_is_tried_again_as_the_note_says(setting: LedgerSetting) -> None:
    fail_again_and_again(setting)
    setting.deployed.anvil.rpc("evm_setAutomine", True)
    (draw, *_) = setting.outbox().advance()
    assert (
        f"failed on the chain {ATTEMPTS_MAX} times" in draw.note and "tried again by itself 3600 s after" in draw.note
    )
    setting.now_s += 3_599
    setting.outbox().advance()
    assert len(setting.signed(draw)) == ATTEMPTS_MAX
    setting.now_s += 1
    assert setting.deliver() == []
    assert len(setting.signed(draw)) == ATTEMPTS_MAX + 1
    setting.sent_once()


def test_what_is_tried_again_after_that_is_sent_again_and_replaced_like_any_other(setting: LedgerSetting) -> None:
    draw, anvil = fail_again_and_again(setting), setting.deployed.anvil
    setting.now_s += 3_600
    setting.outbox().advance()
    *_, again = setting.signed(draw)
    anvil.rpc("anvil_dropTransaction", f"0x{again.tx_hash}")
    (draw, *_) = setting.outbox().advance()
    assert (draw.note, setting.signed(draw)[-1]) == (f"transaction 0x{again.tx_hash} waits for a block", again)
    setting.now_s += 90
    setting.outbox().advance()
    *_, former, replaced = setting.signed(draw)
    assert (former, replaced.nonce, len(setting.signed(draw))) == (again, again.nonce, ATTEMPTS_MAX + 2)
    anvil.rpc("evm_setAutomine", True)
    anvil.mine(1)
    assert setting.deliver() == []
    setting.sent_once()


def test_another_chain_gets_nothing(setting: LedgerSetting) -> None:
    deployed = setting.deployed
    folder = setting.folder / "other"
    folder.mkdir()
    other = LedgerSetting(deployed, folder)
    other.begin()
    other.earn(0, [TOKEN, 0, 0])
    settle(other.book, deployed.network.model_copy(update={"chain_id": 1}))
    (draw, _root) = other.deliver()
    other.close()
    assert "wrong chain id" in draw.note


def test_keys_stay_out_of_the_database(setting: LedgerSetting) -> None:
    setting.deliver()
    setting.close()
    content = b"".join(path.read_bytes() for path in setting.folder.iterdir())
    key = bytes(setting.deployed.poster.key)
    assert key not in content
    assert key.hex().encode() not in content
