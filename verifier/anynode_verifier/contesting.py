"""Contests slashes that are proposed against this verifier for a secret that it has withheld, with that secret.

A verifier that was dead when its secret was needed still has it. What it gives as its reason is the secret itself, so
that the arbiter can draw again, and have replayed what the block alone has passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from eth_account.signers.local import LocalAccount
from web3 import Web3

from anynode.rounds.audit_secrets import opens
from anynode_contracts.calls import send
from anynode_contracts.clients import RegistryClient
from anynode_contracts.errors import RefusedError
from anynode_contracts.networks import Network
from anynode_contracts.slashes import SlashesClient, SlashStatus
from anynode_verifier.withholding import Withheld

log = logging.getLogger(__name__)

SecretOf = Callable[[str, int], str]
"""A job and a round: the audit secret that this verifier has for it, whether or not it has sealed it."""


class Contester:
    """``node`` is the verifier's own key, which sends and pays for its appeals."""

    def __init__(self, w3: Web3, network: Network, node: LocalAccount, secret_of: SecretOf) -> None:
        self._w3, self._network, self._node, self._secret_of = w3, network, node, secret_of
        self._slashes = SlashesClient(w3, network.stakes)
        self._registry = RegistryClient(w3, network.registry)
        self._against: dict[int, str] = {}
        self._complained: set[int] = set()
        self._seen = 0

    def advance(self, withheld: Iterable[Withheld]) -> None:
        """Contest what can be. Raises web3's errors while the RPC is down."""
        mine = {item.evidence: item for item in withheld if item.sealer == self._node.address}
        if not mine:
            return
        count = self._slashes.count()
        if count != self._seen:
            index = self._registry.index_of(self._node.address)
            if index is not None:
                self._against = self._slashes.proposed(index, from_block=self._network.deployed_block)
            self._seen = count
        for id_, evidence in list(self._against.items()):
            if self._slashes.slash(id_).status is not SlashStatus.PROPOSED:
                del self._against[id_]
            elif evidence in mine:
                self._contest(id_, mine[evidence])

    def _contest(self, id_: int, item: Withheld) -> None:
        secret = self._secret_of(item.job, item.round)
        if not opens(secret, item.secret_hash):
            log.error("slash %d is for the secret of round %d, which is lost here; it stands", id_, item.round)
            del self._against[id_]
            return
        try:
            send(self._w3, self._node, self._slashes.build_appeal(id_, secret))
        except RefusedError as error:
            if id_ not in self._complained:
                log.warning("slash %d is not contested yet: %s", id_, error)
            self._complained.add(id_)
            return
        log.warning("slash %d is contested with the secret of round %d, which this verifier had", id_, item.round)
        del self._against[id_]
