"""Proposes to take the bonds of verifiers that have withheld audit secrets, and has it taken when its time has come.

The record chain is the evidence: a verdict that had to do without the secret, certified by a quorum, whose hash binds
the seal with its sealer and the secret's hash. Nobody can prove to a contract that something was not said, so the slash
waits for 72 hours, in which its sealer may still say it (`contesting.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from web3 import Web3

from anynode_contracts.clients import EscrowClient, RegistryClient
from anynode_contracts.networks import Network
from anynode_contracts.slashes import Slash, SlashesClient, SlashStatus
from anynode_contracts.stakes import VerifierSetClient
from anynode_ledger.book import Book
from anynode_ledger.intents import SLASHES, Intent, IntentKind, intents, queue
from anynode_verifier.withholding import Withheld

log = logging.getLogger(__name__)


class Slashing:
    """Writes what the slasher means to do into the outbox. ``me`` accuses everybody but itself."""

    def __init__(self, book: Book, w3: Web3, network: Network, me: str) -> None:
        self._book, self._w3, self._network, self._me = book, w3, network, me
        self._slashes = SlashesClient(w3, network.stakes)
        self._registry = RegistryClient(w3, network.registry)
        self._escrow = EscrowClient(w3, network.escrow)
        self._verifier_set = VerifierSetClient(w3, network.verifier_set)
        self._seen: set[str] = set()
        self._ids: dict[str, int] = {}

    def advance(self, withheld: Iterable[Withheld]) -> None:
        """Queue what is new, and what can be carried out now. Raises web3's errors while the RPC is down."""
        for item in withheld:
            if item.evidence not in self._seen and item.sealer != self._me:
                self._propose(item)
            self._seen.add(item.evidence)
        self._execute()

    def _propose(self, item: Withheld) -> None:
        index = self._registry.index_of(item.sealer)
        if index is None or self._escrow.job(item.job) is None:
            log.info("the secret that %s has withheld costs nothing: it has no bond there, or the job", item.sealer)
            return
        amount_wei = min(self._verifier_set.bond_wei(), self._slashes.free_wei(index))
        if not amount_wei:
            log.info("nothing more is at stake of %s, which has withheld a secret again", item.sealer)
            return
        arguments = {
            "verifier": item.sealer,
            "index": index,
            "amount_wei": str(amount_wei),
            "job": item.job,
            "evidence": item.evidence,
            "from_block": self._network.deployed_block,
        }
        if self._queue("proposeSlash", item.evidence, arguments):
            log.warning(
                "verifier %s has withheld the secret of round %d: it is to lose its bond", item.sealer, item.round
            )

    def _execute(self) -> None:
        """Have taken what was contested by nobody, or upheld, and has waited long enough."""
        with self._book.read() as journal:
            queued = [item.intent for item in intents(journal) if item.intent.kind in SLASHES]
        over = {intent.subject for intent in queued if intent.kind == "executeSlash"}
        for intent in (intent for intent in queued if intent.subject not in over):
            slash = self._slash_of(int(str(intent.arguments["index"])), intent.subject)
            if slash is None or slash.status not in (SlashStatus.PROPOSED, SlashStatus.UPHELD):
                continue
            if self._w3.eth.get_block("latest")["timestamp"] >= slash.executable_at_s:
                self._queue("executeSlash", intent.subject, {"id": slash.id})

    def _slash_of(self, index: int, evidence: str) -> Slash | None:
        """The slash that was proposed with this evidence, as it stands."""
        if evidence not in self._ids:
            proposed = self._slashes.proposed(index, from_block=self._network.deployed_block)
            self._ids |= {hash_: id_ for id_, hash_ in proposed.items()}
        return self._slashes.slash(self._ids[evidence]) if evidence in self._ids else None

    def _queue(self, kind: IntentKind, evidence: str, arguments: dict[str, Any]) -> bool:
        """Whether it was not meant yet."""
        with self._book.write() as journal:
            known = {(item.intent.kind, item.intent.subject) for item in intents(journal)}
            if (kind, evidence) not in known:
                queue(journal, Intent(self._network.chain_id, self._network.stakes, kind, evidence, arguments))
        return (kind, evidence) not in known
