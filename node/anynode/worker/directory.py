"""The network's directory in the DHT: which peer coordinates, signed by a verifier that the network file names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from pydantic import BaseModel, ConfigDict, Field

from anynode.swarm.peer import Peer
from anynode.swarm.records import RecordRules, Sign
from anynode_contracts.errors import UnreachableError
from anynode_contracts.networks import Network

log = logging.getLogger(__name__)

COORDINATOR_TTL_S = 3600
ANNOUNCE_AGAIN_S = 60.0
LOOKUP_PAUSES_S = (1, 2, 4, 8, 15, 30)


class CoordinatorEntry(BaseModel):
    """``peer`` is the libp2p peer id of the coordinator on duty."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    peer: str = Field(max_length=100)


def directory_rules(network: Network) -> RecordRules:
    """Only verifiers of the network may write its directory."""
    verifiers = {address.lower() for address in network.verifiers}

    def recover(message: bytes, signature: str) -> str:
        return str(Account.recover_message(encode_defunct(message), signature=signature))

    return RecordRules(
        network=network.name,
        recover=recover,
        schemas={"coordinator": CoordinatorEntry},
        admits=lambda _, signer: signer.lower() in verifiers,
    )


def record_signer(account: LocalAccount) -> Sign:
    """Signs DHT records with a node key."""

    def sign(message: bytes) -> tuple[str, str]:
        signature = account.sign_message(encode_defunct(message)).signature
        return account.address, "0x" + bytes(signature).hex()

    return sign


async def announce_coordinator(peer: Peer, network: Network, account: LocalAccount) -> None:
    """Say for the next hour that this peer coordinates."""
    body = {"peer": peer.peer_id}
    await peer.put_record(f"coordinator/{network.name}", body, record_signer(account), COORDINATOR_TTL_S)


async def keep_announcing(peer: Peer, network: Network, account: LocalAccount) -> None:
    """Say so until cancelled; what no peer has stored is said again soon."""
    while True:
        try:
            await announce_coordinator(peer, network, account)
            pause_s = COORDINATOR_TTL_S / 4
        except UnreachableError as error:
            log.warning("new members do not find this verifier yet: %s", error)
            pause_s = ANNOUNCE_AGAIN_S
        await asyncio.sleep(pause_s)


async def find_coordinator(peer: Peer, network: Network, say: Callable[[str], None]) -> str:
    """The peer id of the coordinator. One that has just started may not be in the directory yet, so it is looked for
    more than once; ``say`` hears of the wait. Raises ``UnreachableError`` when the directory names none."""
    key = f"coordinator/{network.name}"
    for pause_s in LOOKUP_PAUSES_S:
        if records := await peer.get_records(key):
            break
        say(f"the directory names no coordinator yet; asking again in {pause_s} s")
        await asyncio.sleep(pause_s)
    else:
        records = await peer.get_records(key)
    if not records:
        raise UnreachableError(
            f"the initial peers of network {network.name} answer, but their directory names no verifier on duty;"
            " start one with `anynode verifier run`, or ask the network's operator"
        )
    newest = max(records, key=lambda record: record.expires_s)
    return CoordinatorEntry.model_validate(newest.body).peer
