"""Takes proofs that a verifier has broken its word to the chain, where they cost the signer its bond, once each."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from web3 import Web3

from anynode.rounds.votes import Equivocation
from anynode.rounds.words import what_was_signed
from anynode_contracts.networks import Network
from anynode_contracts.stakes import VerifierSetClient, VerifierStanding
from anynode_ledger.book import Book
from anynode_ledger.intents import Intent, intents, queue

log = logging.getLogger(__name__)


class Accuser:
    """Writes each proof that the chain will take into the outbox. What it knows is read again after a restart."""

    def __init__(self, book: Book, w3: Web3, network: Network) -> None:
        self._book, self._network = book, network
        self._verifier_set = VerifierSetClient(w3, network.verifier_set)
        self._seen: set[tuple[str, str]] = set()

    def advance(self, proofs: Iterable[Equivocation]) -> None:
        """Queue what is new. An intent that the contract would refuse is never queued: the roots behind it would wait
        for it. Raises web3's errors while the RPC is down.
        """
        for proof in proofs:
            if (proof.signer, proof.job) not in self._seen:
                self._take_up(proof)
                self._seen.add((proof.signer, proof.job))

    def _take_up(self, proof: Equivocation) -> None:
        standing = self._verifier_set.standing_of(proof.signer)
        if standing not in (VerifierStanding.MEMBER, VerifierStanding.LEFT):
            log.info("the proof against %s stays off the chain: it is %s there", proof.signer, standing.name.lower())
            return
        arguments: dict[str, Any] = {
            "job": proof.job,
            "height": proof.height,
            "view": proof.view,
            "phase": proof.phase,
            "records": list(proof.records),
            "signatures": list(proof.signatures),
        }
        with self._book.write() as journal:
            meant = {item.intent.subject for item in intents(journal) if item.intent.kind == "prove"}
            if proof.signer not in meant:
                intent = Intent(self._network.chain_id, self._network.verifier_set, "prove", proof.signer, arguments)
                queue(journal, intent)
                log.warning(
                    "verifier %s has signed %s; the proof goes to the chain", proof.signer, what_was_signed(proof)
                )


def accused(book: Book) -> list[dict[str, str]]:
    """Whom this verifier has proven or accused on the chain, or is about to, and how far that has come."""
    with book.read() as journal:
        return [
            {
                "verifier": str(item.intent.arguments.get("verifier", item.intent.subject)),
                "state": item.state,
                "note": item.note,
            }
            for item in intents(journal)
            if item.intent.kind in ("prove", "proposeSlash")
        ]
