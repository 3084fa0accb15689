"""Hands in a node's registration until the chain has it, and tells where its rewards go."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from eth_account.signers.local import LocalAccount
from requests.exceptions import RequestException
from web3.exceptions import Web3Exception

from anynode.wallet.payouts import payout_view, told_at_start
from anynode.worker.link import CoordinatorLink
from anynode_contracts.clients import RegistryClient
from anynode_contracts.errors import UserError
from anynode_contracts.networks import Network, connect
from anynode_contracts.typed_data import sign_registration

log = logging.getLogger(__name__)

REGISTRATION_LIFE_S = 30 * 86_400
REGISTRATION_PAUSE_S = 5.0


async def register(
    link: CoordinatorLink, network: Network, account: LocalAccount, payout: str | None, say: Callable[[str], None]
) -> None:
    """Register with rewards to ``payout``, or to the node itself. A node that is registered already keeps what it has.
    Work does not wait for it.
    """
    registration = sign_registration(
        account,
        payout=payout or account.address,
        deadline_s=int(time.time()) + REGISTRATION_LIFE_S,
        chain_id=network.chain_id,
        registry=network.registry,
    )
    while True:
        try:
            index = await link.register(registration)
            if index is not None:
                say(await asyncio.to_thread(_told, network, account.address, index, payout))
                return
        except UserError as error:
            log.info("registration: %s", error)
        await asyncio.sleep(REGISTRATION_PAUSE_S)


def _told(network: Network, node: str, index: int, asked: str | None) -> str:
    """What is told then. Where rewards go only the chain says, and it need not answer."""
    try:
        view = payout_view(RegistryClient(connect(network.rpc_url), network.registry), index)
    except (UserError, RequestException, Web3Exception, OSError) as error:
        log.info("where the rewards go: %s", error)
        view = None
    if view is None or view.node != node:
        return f"registered on the chain as node {index}; `anynode payout show` says where its rewards go"
    return told_at_start(view, asked)
