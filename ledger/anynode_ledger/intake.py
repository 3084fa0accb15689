"""The intake: reads the contracts' events, follows the chain through reorganisations, and books what is final.

Blocks above the final one are only remembered: each header's parent is checked, and what a reorganisation replaced is
forgotten. From the final block down, every block is booked once, in one transaction, and only if the contracts then
hold what the book says: an RPC that leaves out events is found out, and the blocks are read again. Several processes
may read into one database.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import BlockNotFound, Web3Exception, Web3RPCError
from web3.types import LogReceipt

from anynode_contracts.errors import DifferenceError, RefusedError, UnreachableError, UserError, brief
from anynode_contracts.events import (
    ChainEvent,
    Claimed,
    PayoutChangeCancelled,
    PayoutChangeRequested,
    RootPosted,
    RootVetoed,
)
from anynode_contracts.networks import Network
from anynode_ledger.book import Book
from anynode_ledger.chain_events import activate, book_event, change_payouts, foreign_root
from anynode_ledger.chain_log import (
    Header,
    events_in,
    events_of,
    forget_block,
    header_of,
    keep_block,
    mark_posted,
    newest_block,
    newest_event,
    posted_at_s,
    posted_block,
    unposted_blocks,
)
from anynode_ledger.chain_state import MOVES, check_custody, check_told, moved_by, told_by
from anynode_ledger.finality import Finality, final_block
from anynode_ledger.journal import Journal
from anynode_ledger.lapsing import pass_time

log = logging.getLogger(__name__)

BLOCKS_PER_REQUEST = 1_000
REWINDS_MAX = 3  # within one advance; the next one goes on


@dataclass(frozen=True, slots=True)
class IntakeStatus:
    """Heights: the chain's head, its final block, and the last block that is booked (-1 before the first).

    ``warning`` says that a root on the chain is not the ledger's, as soon as it waits there.
    """

    head: int
    final: int
    posted: int
    warning: str


class _ReorganisedError(Exception):
    """The chain changed while it was read, or another process read it too."""


class Intake:
    """Reads one network's contracts. ``finality`` = the chain's own ``finalized`` block, or blocks on top of one.

    A ledger that ``settles`` knows what is payable to whom, and books what is claimed of it; another one does not.
    """

    def __init__(
        self,
        book: Book,
        w3: Web3,
        network: Network,
        *,
        finality: Finality = "finalized",
        settles: bool = True,
    ) -> None:
        self._book = book
        self._w3 = w3
        self._network = network
        self._finality = finality
        self._settles = settles
        self._said_pruned = False
        self._said_foreign = ""

    def advance(self) -> IntakeStatus:
        """Read up to the head and book up to the final block. Can be repeated after a crash at any point.

        Raises ``UnreachableError`` when the RPC does not answer, ``UserError`` on a wrong chain, ``RefusedError`` when
        the chain contradicts what is booked already.
        """
        try:
            return self._advance()
        except (RequestException, Web3Exception, OSError) as error:
            raise UnreachableError(
                f"the RPC at {self._network.rpc_shown} does not answer ({brief(error)}); start it, reading goes on"
                " where it stopped"
            ) from error

    def _advance(self) -> IntakeStatus:
        chain_id = self._w3.eth.chain_id
        if chain_id != self._network.chain_id:
            raise UserError(
                f"wrong chain id: {self._network.rpc_shown} serves chain {chain_id} but network {self._network.name} is"
                f" on chain {self._network.chain_id}; correct rpc_url in the network file"
            )
        for _ in range(REWINDS_MAX):
            self._rewind()
            head = int(self._w3.eth.block_number)
            final = final_block(self._w3, self._finality)
            try:
                self._read(head, final)
                break
            except _ReorganisedError:
                continue
        warning = self._foreign_root()
        posted = self._post(final)
        return IntakeStatus(head=head, final=final, posted=posted, warning=warning)

    def _rewind(self) -> None:
        """Forget remembered blocks that the chain has replaced."""
        while (newest := self._newest()) is not None:
            header, posted = newest
            found = self._hash_at(header.number)
            if found == header.hash:
                return
            if posted and found is None:
                raise UnreachableError(
                    f"the RPC at {self._network.rpc_shown} is behind: it has no block {header.number}, which is booked"
                    " already; reading goes on when it has caught up"
                )
            if posted:
                raise RefusedError(
                    f"the chain was rewritten at block {header.number}, which is booked as final; check that the RPC"
                    " serves the right chain, or restore the ledger's copy from before"
                )
            with self._book.write() as journal:
                if newest_block(journal, self._network.chain_id) == newest:
                    forget_block(journal, self._network.chain_id, header)

    def _newest(self) -> tuple[Header, bool] | None:
        with self._book.read() as journal:
            return newest_block(journal, self._network.chain_id)

    def _hash_at(self, number: int) -> str | None:
        try:
            return bytes(self._w3.eth.get_block(number)["hash"]).hex()
        except BlockNotFound:
            return None

    def _read(self, head: int, final: int) -> None:
        newest = self._newest()
        former = None if newest is None else newest[0]
        number = self._network.deployed_block if former is None else former.number + 1
        while number <= head:
            last = min(final, number + BLOCKS_PER_REQUEST - 1) if number <= final else number
            first = self._header(number)
            if former is not None and first.parent_hash != former.hash:
                raise _ReorganisedError
            former = self._keep_final(former, first, last) if last > number else self._keep_one(former, first)
            number = last + 1

    def _keep_final(self, former: Header | None, first: Header, last: int) -> Header:
        """A stretch of final blocks in one request: only those with events, and the last, are remembered."""
        by_block: dict[int, list[LogReceipt]] = {last: []}
        for log in self._logs({"fromBlock": first.number, "toBlock": last}):
            by_block.setdefault(int(log["blockNumber"]), []).append(log)
        headers = {number: self._header(number) for number in sorted(by_block)}
        for number, logs in by_block.items():
            if any(bytes(log["blockHash"]).hex() != headers[number].hash for log in logs):
                raise _ReorganisedError
        self._keep(former, [(header, by_block[number]) for number, header in headers.items()])
        return headers[last]

    def _keep_one(self, former: Header | None, header: Header) -> Header:
        self._keep(former, [(header, self._logs({"blockHash": HexBytes(header.hash)}))])
        return header

    def _keep(self, former: Header | None, blocks: Sequence[tuple[Header, list[LogReceipt]]]) -> None:
        """Remember the blocks that follow ``former``, unless something else is remembered by now."""
        with self._book.write() as journal:
            newest = newest_block(journal, self._network.chain_id)
            if (None if newest is None else newest[0]) != former:
                raise _ReorganisedError
            for header, logs in blocks:
                keep_block(journal, self._w3, self._network.chain_id, header, logs)

    def _header(self, number: int) -> Header:
        try:
            return header_of(self._w3.eth.get_block(number))
        except BlockNotFound as error:
            raise _ReorganisedError from error

    def _logs(self, where: dict[str, int | HexBytes]) -> list[LogReceipt]:
        contracts = [self._network.registry, self._network.escrow, self._network.distributor]
        logs = self._w3.eth.get_logs({"address": contracts, **where})  # type: ignore[typeddict-item]
        return sorted(logs, key=lambda log: (log["blockNumber"], log["logIndex"]))

    def _foreign_root(self) -> str:
        """Told before it is final, and whatever becomes of the booking: a veto must come while the root waits."""
        if not self._settles:
            return ""
        chain_id = self._network.chain_id
        with self._book.read() as journal:
            newest = newest_block(journal, chain_id)
            event = newest_event(journal, self._w3, chain_id, (RootPosted, RootVetoed))
            words = foreign_root(journal, event, newest[0].timestamp_s if newest else 0)
        if words and words != self._said_foreign:
            log.error("%s", words)
        self._said_foreign = words
        return words

    def _post(self, final: int) -> int:
        chain_id = self._network.chain_id
        with self._book.read() as journal:
            blocks = unposted_blocks(journal, chain_id, final)
            newest = newest_block(journal, chain_id)
        if blocks and newest is not None:
            if self._has_state(blocks[0]):
                for block in blocks:
                    self._post_together([block], block)
            else:
                # a node that was started anew, or keeps few states: a later one shows what all before it have done
                self._post_together(blocks, blocks[-1] if self._has_state(blocks[-1]) else self._instead(newest[0]))
        with self._book.read() as journal:
            return posted_block(journal, chain_id)

    def _has_state(self, block: Header) -> bool:
        try:
            self._w3.eth.get_balance(Web3.to_checksum_address(self._network.distributor), block.number)
        except Web3RPCError:
            return False
        return True

    def _instead(self, newest: Header) -> Header:
        if not self._said_pruned:
            log.warning(
                "the RPC has no state of final blocks; what is booked is compared with its newest block's, less what"
                " has happened since"
            )
            self._said_pruned = True
        return newest

    def _post_together(self, blocks: Sequence[Header], seen: Header) -> None:
        """Book blocks in one transaction, and only if after block ``seen`` the contracts hold what the book says, with
        what is remembered of the blocks between.
        """
        try:
            with self._book.write() as journal:
                new = [block for block in blocks if posted_block(journal, self._network.chain_id) < block.number]
                for block in new:
                    self._book_block(journal, block)
                if new:
                    self._compare(journal, new[-1], seen)
        except DifferenceError as error:
            if self._hash_at(seen.number) != seen.hash:
                return  # the chain was rewritten meanwhile: it is read again, and this says nothing
            self._forget_unposted()
            raise RefusedError(f"block {blocks[-1].number} is not booked and will be read again: {error}") from error

    def _compare(self, journal: Journal, last: Header, seen: Header) -> None:
        w3, network = self._w3, self._network
        if self._settles:
            later = events_of(journal, w3, network.chain_id, MOVES, seen.number, after=last.number)
            check_custody(journal.balances, w3, network, seen.number, moved_by(journal.balances, later))
        check_told(told_by(journal, w3, network.chain_id, seen.number), w3, network, seen.number)

    def _book_block(self, journal: Journal, block: Header) -> None:
        network = self._network
        # what time has brought about comes before what this block's transactions did
        activate(journal, self._past(journal, (RootPosted, RootVetoed), block), block.timestamp_s)
        requests = self._past(journal, (PayoutChangeRequested, PayoutChangeCancelled), block)
        change_payouts(journal, requests, block.timestamp_s)
        pass_time(journal, posted_at_s(journal, network.chain_id), block.timestamp_s)
        for event in events_in(journal, self._w3, network.chain_id, block):
            if self._settles or not isinstance(event, Claimed):
                book_event(journal, network, event)
        mark_posted(journal, network.chain_id, block)

    def _forget_unposted(self) -> None:
        chain_id = self._network.chain_id
        with self._book.write() as journal:
            while (newest := newest_block(journal, chain_id)) is not None and not newest[1]:
                forget_block(journal, chain_id, newest[0])

    def _past(self, journal: Journal, kinds: tuple[type[ChainEvent], ...], block: Header) -> list[ChainEvent]:
        return events_of(journal, self._w3, self._network.chain_id, kinds, block.number - 1)
