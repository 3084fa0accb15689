"""Registers newcomers on the chain and pays the gas, so that they need neither coins nor tokens."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Annotated

from annotated_types import MaxLen
from eth_account.signers.local import LocalAccount
from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from web3 import Web3

from anynode.rounds.ids import Address
from anynode_contracts.calls import send
from anynode_contracts.clients import RegistryClient
from anynode_contracts.errors import BreachError, Offence, RefusedError, UserError
from anynode_contracts.networks import Network
from anynode_contracts.typed_data import SignedRegistration, sign_registration, signer_of_registration

log = logging.getLogger(__name__)

WAITING_MAX = 1000
MANY_MAX = 50
DEADLINE_S_MIN = 86_400
OWN_LIFE_S = 30 * 86_400


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class _Request:
    node: Address
    payout: Address
    deadline_s: int
    signature: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{130}$"), MaxLen(132)]


_request: TypeAdapter[_Request] = TypeAdapter(_Request)


class Registrar:
    """Keeps registrations until the chain has taken them. Workers hand theirs in again, so none is kept on disk."""

    def __init__(
        self, w3: Web3, network: Network, account: LocalAccount, clock: Callable[[], float] = time.time
    ) -> None:
        self._w3, self._network, self._account, self._clock = w3, network, account, clock
        self._registry = RegistryClient(w3, network.registry)
        self._waiting: dict[str, SignedRegistration] = {}

    def hand_in_own(self, index_of: Callable[[str], int | None]) -> None:
        """Register the verifier itself, unless the chain knows it."""
        own = sign_registration(
            self._account,
            payout=self._account.address,
            deadline_s=int(self._clock()) + OWN_LIFE_S,
            chain_id=self._network.chain_id,
            registry=self._network.registry,
        )
        if index_of(own.node) is None:
            self._waiting[own.node] = own

    def hand_in(self, data: bytes, index_of: Callable[[str], int | None]) -> bytes:
        """Take a registration from a peer; the answer holds the node's index once the ledger knows it."""
        try:
            request = _request.validate_json(data)
        except ValidationError as error:
            raise BreachError("the registration is malformed; update AnyNode", Offence.SCHEMA) from error
        node = Web3.to_checksum_address(request.node)
        index = index_of(node)
        if index is None:
            if len(self._waiting) >= WAITING_MAX:
                raise RefusedError("too many registrations are waiting; try again later")
            self._waiting[node] = self._checked(request)
        return json.dumps({"node": request.node, "index": index}).encode()

    def knows(self, node: str) -> bool:
        """Whether a valid registration of ``node`` waits for the chain."""
        return node in self._waiting

    def _checked(self, request: _Request) -> SignedRegistration:
        registration = SignedRegistration(
            node=Web3.to_checksum_address(request.node),
            payout=Web3.to_checksum_address(request.payout),
            deadline_s=request.deadline_s,
            signature=bytes.fromhex(request.signature[2:]),
        )
        signer = signer_of_registration(registration, chain_id=self._network.chain_id, registry=self._network.registry)
        if signer != registration.node:
            raise BreachError("the registration is not signed by its node; sign it again", Offence.SIGNATURE)
        if registration.deadline_s < self._clock() + DEADLINE_S_MIN:
            raise RefusedError("the registration ends within a day; sign one for longer")
        return registration

    def advance(self) -> None:
        """Send what is waiting, in one transaction. Raises ``UnreachableError`` while the RPC is down."""
        for node in list(self._waiting):
            if self._registry.index_of(node) is not None:
                del self._waiting[node]
        batch = list(self._waiting.values())[:MANY_MAX]
        if not batch:
            return
        try:
            send(self._w3, self._account, self._registry.build_register_many(batch))
        except RefusedError as error:
            self._send_singly(batch, str(error))
            return
        for item in batch:
            self._waiting.pop(item.node, None)

    def _send_singly(self, batch: list[SignedRegistration], why: str) -> None:
        """One bad registration must not keep the others out."""
        log.warning("%d registrations at once: %s; sent one by one", len(batch), why)
        for item in batch:
            self._waiting.pop(item.node, None)
            try:
                send(self._w3, self._account, self._registry.build_register_many([item]))
            except UserError as error:
                log.warning("the registration of %s failed: %s", item.node, error)
