"""The intake: reads the contracts' events, follows the chain through reorganisations, and books what is final.

Blocks above the final one are only remembered: each header's parent is checked, and what a reorganisation replaced is
forgotten. From the final block down, every block is booked once, in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import BlockNotFound, Web3Exception
from web3.types import LogReceipt

from anynode_contracts.errors import RefusedError, UnreachableError, UserError, invariant
from anynode_contracts.events import (
    ChainEvent,
    PayoutChangeCancelled,
    PayoutChangeRequested,
    RootPosted,
    RootVetoed,
)
from anynode_contracts.networks import Network
from anynode_ledger.book import Book
from anynode_ledger.chain_events import activate, book_event, change_payouts
from anynode_ledger.chain_log import (
    Header,
    events_in,
    events_of,
    forget_block,
    header_of,
    keep_block,
    mark_posted,
    newest_block,
    posted_block,
    unposted_blocks,
)
from anynode_ledger.journal import Journal

BLOCKS_PER_REQUEST = 1_000
REWINDS_MAX = 3  # within one advance; the next one goes on


@dataclass(frozen=True, slots=True)
class IntakeStatus:
    """Heights: the chain's head, its final block, and the last block that is booked (-1 before the first)."""

    head: int
    final: int
    posted: int


class _ReorganisedError(Exception):
    """The chain changed while it was read."""


class Intake:
    """Reads one network's contracts. ``finality`` = the chain's own ``finalized`` block, or blocks on top of one."""

    def __init__(
        self, book: Book, w3: Web3, network: Network, *, finality: Literal["finalized"] | int = "finalized"
    ) -> None:
        invariant(finality == "finalized" or finality >= 0, "confirmations are not negative")
        self._book = book
        self._w3 = w3
        self._network = network
        self._finality = finality

    def advance(self) -> IntakeStatus:
        """Read up to the head and book up to the final block. Can be repeated after a crash at any point.

        Raises ``UnreachableError`` when the RPC does not answer, ``UserError`` on a wrong chain, ``RefusedError`` when
        the chain contradicts what is booked already.
        """
        try:
            return self._advance()
        except (RequestException, Web3Exception, OSError) as error:
            raise UnreachableError(
                f"the RPC at {self._network.rpc_url} does not answer ({_brief(error)}); start it, reading goes on where"
                " it stopped"
            ) from error

    def _advance(self) -> IntakeStatus:
        chain_id = self._w3.eth.chain_id
        if chain_id != self._network.chain_id:
            raise UserError(
                f"wrong chain id: {self._network.rpc_url} serves chain {chain_id} but network {self._network.name} is"
                f" on chain {self._network.chain_id}; correct rpc_url in the network file"
            )
        for _ in range(REWINDS_MAX):
            self._rewind()
            head = int(self._w3.eth.block_number)
            final = self._final(head)
            try:
                self._read(head, final)
                break
            except _ReorganisedError:
                continue
        posted = self._post(final)
        return IntakeStatus(head=head, final=final, posted=posted)

    def _final(self, head: int) -> int:
        if self._finality != "finalized":
            return max(0, head - self._finality)
        try:
            return int(self._w3.eth.get_block("finalized")["number"])
        except BlockNotFound:
            return 0

    def _rewind(self) -> None:
        """Forget remembered blocks that the chain has replaced."""
        while (newest := self._newest()) is not None:
            header, posted = newest
            if self._hash_at(header.number) == header.hash:
                return
            if posted:
                raise RefusedError(
                    f"the chain was rewritten at block {header.number}, which is booked as final; check that the RPC"
                    " serves the right chain, or restore the ledger's copy from before"
                )
            with self._book.write() as journal:
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
            former = self._keep_final(first, last) if last > number else self._keep_one(first)
            number = last + 1

    def _keep_final(self, first: Header, last: int) -> Header:
        """A stretch of final blocks in one request: only those with events, and the last, are remembered."""
        by_block: dict[int, list[LogReceipt]] = {last: []}
        for log in self._logs({"fromBlock": first.number, "toBlock": last}):
            by_block.setdefault(int(log["blockNumber"]), []).append(log)
        headers = {number: self._header(number) for number in sorted(by_block)}
        for number, logs in by_block.items():
            if any(bytes(log["blockHash"]).hex() != headers[number].hash for log in logs):
                raise _ReorganisedError
        with self._book.write() as journal:
            for number, header in headers.items():
                keep_block(journal, self._w3, self._network.chain_id, header, by_block[number])
        return headers[last]

    def _keep_one(self, header: Header) -> Header:
        logs = self._logs({"blockHash": HexBytes(header.hash)})
        with self._book.write() as journal:
            keep_block(journal, self._w3, self._network.chain_id, header, logs)
        return header

    def _header(self, number: int) -> Header:
        try:
            return header_of(self._w3.eth.get_block(number))
        except BlockNotFound as error:
            raise _ReorganisedError from error

    def _logs(self, where: dict[str, int | HexBytes]) -> list[LogReceipt]:
        contracts = [self._network.registry, self._network.escrow, self._network.distributor]
        logs = self._w3.eth.get_logs({"address": contracts, **where})  # type: ignore[typeddict-item]
        return sorted(logs, key=lambda log: (log["blockNumber"], log["logIndex"]))

    def _post(self, final: int) -> int:
        network = self._network
        with self._book.read() as journal:
            blocks = unposted_blocks(journal, network.chain_id, final)
        for block in blocks:
            with self._book.write() as journal:
                # what time has brought about comes before what this block's transactions did
                activate(journal, self._past(journal, (RootPosted, RootVetoed), block), block.timestamp_s)
                requests = self._past(journal, (PayoutChangeRequested, PayoutChangeCancelled), block)
                change_payouts(journal, requests, block.timestamp_s)
                for event in events_in(journal, self._w3, network.chain_id, block):
                    book_event(journal, network, event)
                mark_posted(journal, network.chain_id, block)
        with self._book.read() as journal:
            return posted_block(journal, network.chain_id)

    def _past(self, journal: Journal, kinds: tuple[type[ChainEvent], ...], block: Header) -> list[ChainEvent]:
        return events_of(journal, self._w3, self._network.chain_id, kinds, block.number - 1)


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
