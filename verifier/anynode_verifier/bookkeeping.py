"""A verifier's ledger and its dealings with the chain, for all of its jobs: reading, booking, settling, sending."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from eth_account.signers.local import LocalAccount
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3Exception

from anynode.rounds.records import Record
from anynode.rounds.votes import Equivocation
from anynode_contracts.errors import StorageError, UnreachableError, UserError
from anynode_contracts.networks import Network
from anynode_ledger.actions import RootSignatures
from anynode_ledger.book import Book
from anynode_ledger.intake import Intake
from anynode_ledger.outbox import Outbox
from anynode_verifier.accuser import Accuser, accused
from anynode_verifier.blocks import block_time_s
from anynode_verifier.contesting import Contester, SecretOf
from anynode_verifier.registrar import Registrar
from anynode_verifier.slashing import Slashing
from anynode_verifier.status import money_status
from anynode_verifier.treasury import JobAccount, Treasury
from anynode_verifier.withholding import Withheld

log = logging.getLogger(__name__)

CHAIN_PAUSE_S = 1.0


class Bookkeeping:
    """``node`` pays for registrations. Who has the ``poster``'s key settles and posts roots, with a quorum's
    ``root_signatures``; without, it only reads. Who can unlock the ``slasher``'s proposes slashes. ``secret_of`` gives
    our own audit secrets.
    """

    def __init__(
        self,
        book: Book,
        network: Network,
        w3: Web3,
        *,
        node: LocalAccount,
        poster: LocalAccount | None,
        root_signatures: RootSignatures,
        slasher: Callable[[], LocalAccount] | None,
        secret_of: SecretOf,
        batch_interval_s: float,
    ) -> None:
        self._book, self._network = book, network
        self._outbox = Outbox(book, w3, poster, root_signatures) if poster is not None else None
        self._intake = Intake(book, w3, network, settles=poster is not None)
        self._registrar = Registrar(w3, network, node)
        self._accuser = Accuser(book, w3, network)
        self._w3, self._root_signatures, self._unlock_slasher = w3, root_signatures, slasher
        self._slasher: Outbox | None = None
        self._slashing = Slashing(book, w3, network, node.address)
        self._contester = Contester(w3, network, node, secret_of)
        self._treasury = Treasury(
            book, network, node.address, batch_interval_s, block_time_s=lambda height: block_time_s(w3, height)
        )
        self._accounts: dict[str, JobAccount] = {}
        self._chain_note = "not read yet"
        self._waiting_for = ""
        self._handed_in = False

    def follow(self, account: JobAccount) -> None:
        """Book from now on what the records of a job earn."""
        self._accounts[account.job.job_id] = account

    def note(self, job_id: str, record: Record) -> None:
        """One more record of a job."""
        self._accounts[job_id].add(record)

    def hand_in(self, registration: bytes) -> bytes:
        """Take in the registration of a node; the answer says its index, once there is one."""
        return self._registrar.hand_in(registration, self._book.node_index)

    def can_pay(self, node: str) -> bool:
        """Whether a node is registered, or will be."""
        return self._registrar.knows(node) or self._book.node_index(node) is not None

    async def run(
        self, proofs: Callable[[], Iterable[Equivocation]], withheld: Callable[[], Iterable[Withheld]]
    ) -> None:
        """Go on until cancelled; an RPC that is down makes all of it wait and nothing else. ``proofs`` are those that
        verifiers have broken their word, ``withheld`` the audit secrets that verdicts had to do without.
        """
        while True:
            await asyncio.to_thread(self._advance, proofs, withheld)
            await asyncio.sleep(CHAIN_PAUSE_S)

    def _advance(
        self, proofs: Callable[[], Iterable[Equivocation]], withheld: Callable[[], Iterable[Withheld]]
    ) -> None:
        try:
            reading = self._intake.advance()
            if self._outbox is not None:
                self._register()
                self._accuser.advance(proofs())
            self._answer_for_secrets(list(withheld()))
            warning = f"; {reading.warning}" if reading.warning else ""
            self._chain_note = f"block {reading.head}, booked up to block {reading.posted}{warning}"
        except (UnreachableError, RequestException, Web3Exception, OSError) as error:
            note = (
                f"no answer from the RPC at {self._network.rpc_shown}; everything that waits for it goes on by itself"
            )
            if self._chain_note != note:
                log.warning("%s (%s)", note, error)
            self._chain_note = note
        except StorageError:
            raise
        except UserError as error:
            if self._chain_note != str(error):
                log.warning("%s", error)
            self._chain_note = str(error)
            return  # on a book that the chain contradicts nothing is settled
        if self._outbox is None:
            return  # who settles and posts has the poster's key
        try:
            self._treasury.advance(list(self._accounts.values()))
            waiting = self._outbox.advance()
            self._waiting_for = waiting[0].note if waiting else ""
        except StorageError:
            raise
        except UserError as error:
            log.warning("%s", error)
            self._waiting_for = str(error)

    def _register(self) -> None:
        if not self._handed_in:
            self._registrar.hand_in_own(self._book.node_index)
            self._handed_in = True
        self._registrar.advance()

    def _answer_for_secrets(self, withheld: list[Withheld]) -> None:
        """Have others slashed for theirs, and say ours."""
        if withheld and self._slasher is None and self._unlock_slasher is not None:
            try:  # its key is not in memory before it is needed
                key = self._unlock_slasher()
                self._slasher = Outbox(self._book, self._w3, key, self._root_signatures, slashes=True)
            except UserError as error:
                log.warning("no slash is proposed for withheld audit secrets: %s", error)
                self._unlock_slasher = None
        if withheld and self._slasher is not None:
            self._slashing.advance(withheld)
            self._slasher.advance()
        self._contester.advance(withheld)

    def status(self) -> dict[str, object]:
        """How far the chain has been read, what waits for it, whom this verifier has proven to lie, and the money."""
        return {
            "chain": self._chain_note,
            "waiting_for": self._waiting_for,
            "accused": accused(self._book),
            "ledger": money_status(self._book, list(self._accounts)),
        }
