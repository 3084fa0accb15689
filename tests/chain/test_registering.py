"""A node that starts tells where its rewards go by what the chain says, not by what it was started with."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from deployed import Deployed, random_address
from eth_account.signers.local import LocalAccount

from anynode.wallet.times import show_time
from anynode.worker.link import CoordinatorLink
from anynode.worker.registering import register
from anynode_contracts.networks import Network
from anynode_contracts.typed_data import SignedRegistration

PAYOUT, ASKED = random_address(1), random_address(2)


class Link:
    """As a verifier answers whose ledger knows the node as ``index``."""

    def __init__(self, index: int) -> None:
        self.index, self.handed_in = index, list[SignedRegistration]()

    async def register(self, registration: SignedRegistration) -> int | None:
        self.handed_in.append(registration)
        return self.index


@pytest.fixture
def node(deployment: Deployed) -> LocalAccount:
    """Registered as node 2, with rewards to PAYOUT."""
    account = deployment.account()
    deployment.send(account, deployment.registry.build_register(PAYOUT))
    return account


def told(network: Network, node: LocalAccount, asked: str | None, index: int = 2) -> str:
    said: list[str] = []
    link = Link(index)
    asyncio.run(register(cast(CoordinatorLink, link), network, node, asked, said.append))
    assert [item.payout for item in link.handed_in] == [asked or node.address]
    (sentence,) = said
    return sentence


def test_rewards_go_where_the_chain_has_them_go(deployment: Deployed, node: LocalAccount) -> None:
    words = f"registered on the chain as node 2; rewards go to {PAYOUT}"
    assert told(deployment.network, node, None) == words
    assert told(deployment.network, node, PAYOUT) == words
    other = told(deployment.network, node, ASKED)
    assert other.startswith(f"{words}, not to {ASKED}: --payout counts once") and "`anynode payout change`" in other


def test_a_change_that_waits_is_told(deployment: Deployed, node: LocalAccount) -> None:
    deployment.send(node, deployment.registry.build_request_payout_change(2, ASKED))
    waiting = deployment.registry.payout_change_of(2)
    assert waiting is not None
    words = f"rewards go to {PAYOUT}, and from {show_time(waiting[1])} on to {ASKED}"
    assert told(deployment.network, node, None).endswith(words)
    assert told(deployment.network, node, ASKED).endswith(words)
    deployment.anvil.pass_time(48 * 3600)
    assert told(deployment.network, node, None).endswith(f"rewards go to {ASKED}")
    assert f"rewards go to {ASKED}, not to {PAYOUT}: " in told(deployment.network, node, PAYOUT)


def test_without_the_chain_no_address_is_told(deployment: Deployed, node: LocalAccount) -> None:
    words = "registered on the chain as node 2; `anynode payout show` says where its rewards go"
    silent = deployment.network.model_copy(update={"rpc_url": "http://127.0.0.1:1"})
    assert told(silent, node, ASKED) == words
    assert told(deployment.network, node, ASKED, index=1) == words.replace("node 2", "node 1"), "of another node"
