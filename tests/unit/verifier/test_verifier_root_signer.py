"""Whom a verifier lets a root pay, by the registry's events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from bank import NETWORK, VERIFIER
from eth_abi.abi import encode
from eth_utils.abi import event_abi_to_log_topic
from signed_world import key
from sqlalchemy import insert
from web3 import Web3
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from anynode_contracts import artifacts
from anynode_contracts.events import PayoutChangeCancelled, PayoutChangeRequested
from anynode_ledger import schema
from anynode_ledger.book import Book
from anynode_ledger.chain_events import change_payouts
from anynode_ledger.chain_log import Header, events_of, keep_block
from anynode_verifier.root_signer import GRACE_S, RootSigner

OLD, NEW, OTHER = (Web3.to_checksum_address(f"0x{number:040x}") for number in (0xA1, 0xA2, 0xA3))
DAY_S = 24 * 3600
WAIT_S = 2 * DAY_S
NOW_S = 1_000 * DAY_S


class Clock(BaseProvider):
    """A chain whose newest block is always from now."""

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        return cast(RPCResponse, {"jsonrpc": "2.0", "id": 1, "result": {"timestamp": hex(NOW_S)}})


class Registry:
    """A node that was registered with one payout account, and the events since, by days before now."""

    def __init__(self, folder: Path) -> None:
        self.book = Book.open(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.book.register_node(1, VERIFIER, OLD)
        self.height = 0
        account = key("a verifier")
        self.w3 = Web3(Clock())
        self.signer = RootSigner(self.book, NETWORK, self.w3, account=account, folder=folder, jobs=dict)

    def happens(self, days_ago: float, contract: str, name: str, indexed: int, **values: Any) -> None:
        at_s = round(NOW_S - days_ago * DAY_S)
        self.book_changes(at_s)
        self.height += 1
        abi = next(item for item in artifacts.load(contract).abi if item.get("name") == name and "anonymous" in item)
        types = [item["type"] for item in abi["inputs"] if not item["indexed"]]
        row = {
            "chain_id": NETWORK.chain_id,
            "block_hash": f"{self.height:064x}",
            "log_index": 0,
            "block_number": self.height,
            "contract": f"0x{902:040d}",
            "name": name,
            "transaction_hash": "c" * 64,
            "topics": json.dumps([event_abi_to_log_topic(cast(Any, abi)).hex(), f"{indexed:064x}"]),
            "data": encode(types, list(values.values())).hex(),
            "timestamp_s": at_s,
        }
        header = Header(self.height, f"{self.height:064x}", f"{self.height - 1:064x}", at_s)
        with self.book.write() as journal:
            keep_block(journal, self.w3, NETWORK.chain_id, header, [])
            journal.connection.execute(insert(schema.chain_events).values(**row))

    def requests(self, days_ago: float, payout: str) -> None:
        """A request, which takes effect two days later."""
        effective_at_s = round(NOW_S - days_ago * DAY_S) + WAIT_S
        self.happens(days_ago, "MinerRegistry", "PayoutChangeRequested", 1, payout=payout, effectiveAt=effective_at_s)

    def cancels(self, days_ago: float) -> None:
        self.happens(days_ago, "MinerRegistry", "PayoutChangeCancelled", 1)

    def posts(self, days_ago: float) -> None:
        nothing = b"\0" * 32
        self.happens(
            days_ago, "RewardDistributor", "RootPosted", 1, root=nothing, total=1, data_hash=nothing, active_at=1
        )

    def book_changes(self, now_s: int) -> None:
        """What time has brought about, as the intake books it."""
        kinds = (PayoutChangeRequested, PayoutChangeCancelled)
        with self.book.write() as journal:
            change_payouts(journal, events_of(journal, self.w3, NETWORK.chain_id, kinds, self.height), now_s)

    def payouts(self) -> frozenset[str]:
        self.book_changes(NOW_S)
        return self.signer._nodes()[1].payouts


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path)
    yield registry
    registry.book.close()


def test_a_node_is_paid_to_its_account(registry: Registry) -> None:
    assert registry.payouts() == {OLD}
    registry.requests(1, NEW)
    assert registry.payouts() == {OLD}, "the change waits"


def test_the_former_account_is_good_for_a_while_after_a_change(registry: Registry) -> None:
    registry.posts(1)
    registry.requests(2 + GRACE_S / DAY_S - 0.1, NEW)
    assert registry.payouts() == {OLD, NEW}


def test_the_former_account_is_not_good_for_ever(registry: Registry) -> None:
    registry.requests(100, NEW)
    registry.requests(2 + GRACE_S / DAY_S + 0.1, OTHER)
    registry.posts(1)
    assert registry.payouts() == {OTHER}


def test_a_batch_that_was_settled_before_a_change_is_signed_whenever_the_quorum_is_there(registry: Registry) -> None:
    """For over a week too few verifiers were there: what was settled names the former account, and stays as it is."""
    registry.requests(100, NEW)
    registry.posts(31)
    registry.requests(30, OTHER)
    assert registry.payouts() == {NEW, OTHER}


def test_an_account_whose_change_was_cancelled_is_never_paid(registry: Registry) -> None:
    registry.requests(4, NEW)
    registry.cancels(3)
    assert registry.payouts() == {OLD}
    registry.requests(2.5, OTHER)
    assert registry.payouts() == {OLD, OTHER}


def test_an_account_whose_request_was_replaced_in_time_is_never_paid(registry: Registry) -> None:
    registry.requests(4, NEW)
    registry.requests(3, OTHER)
    assert registry.payouts() == {OLD, OTHER}


def test_a_change_that_had_taken_effect_stays_when_the_next_is_cancelled(registry: Registry) -> None:
    registry.requests(6, NEW)
    registry.requests(3, OTHER)
    registry.cancels(2)
    assert registry.payouts() == {OLD, NEW}
