"""A verifier's own signature over a reward root: made only for what it has rebuilt itself, and has promised before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from eth_account.signers.local import LocalAccount
from sqlalchemy import select
from web3 import Web3

from anynode.jobs.job import Job
from anynode.rounds.records import Record
from anynode_contracts.canonical import parse_json
from anynode_contracts.clients import DistributorClient
from anynode_contracts.errors import RefusedError
from anynode_contracts.events import PayoutChangeRequested
from anynode_contracts.networks import Network
from anynode_contracts.typed_data import RootSignature, RootStatement, sign_root
from anynode_ledger import schema
from anynode_ledger.book import Book
from anynode_ledger.chain_log import events_of, newest_block
from anynode_verifier.root_checks import Knowledge, KnownNode, check_root
from anynode_verifier.root_promises import Promises

JobRecords = Callable[[], Mapping[str, tuple[Job, Sequence[Record]]]]
"""Every job of this verifier with its certified records so far."""

GRACE_S = 7 * 24 * 3600
"""So long after a change of its payout account a node may still be paid to the former one."""


class RootSigner:
    """Signs with ``account``, this verifier's key. Its promises are kept in ``folder``."""

    def __init__(
        self, book: Book, network: Network, w3: Web3, *, account: LocalAccount, folder: Path, jobs: JobRecords
    ) -> None:
        self._book, self._network, self._account, self._jobs = book, network, account, jobs
        self._w3 = w3
        self._promises = Promises(folder, network)
        self._distributor = DistributorClient(w3, network.distributor)
        self._one_at_a_time = threading.Lock()

    def sign(self, statement: RootStatement, ledger: bytes) -> RootSignature:
        """Rebuild the root from the public ledger and what is known here, and sign it. Blocks.

        Raises ``RefusedError`` for what does not follow or contradicts the promise, and web3's errors while the RPC is
        down.
        """
        try:
            raw = parse_json(ledger)
        except (ValueError, RecursionError) as error:
            raise RefusedError("the ledger that the root should come from is no JSON") from error
        with self._one_at_a_time:
            self._check_place(statement)
            check_root(statement, raw, self._known())
            self._promises.make(statement)
        network = self._network
        return sign_root(self._account, statement, chain_id=network.chain_id, distributor=network.distributor)

    def _check_place(self, statement: RootStatement) -> None:
        place = (self._distributor.next_batch(), self._distributor.cancelled())
        if statement.place != place:
            raise RefusedError(
                f"the chain waits for batch {place[0]} after {place[1]} cancelled roots, not for this one"
            )
        self._promises.require_unbroken(statement)

    def _known(self) -> Knowledge:
        active = self._distributor.active_root()
        root = active.root.hex() if active else ""
        with self._book.read() as journal:
            undrawn_wei = journal.balances.undrawn_wei()
        return Knowledge(self._network, self._jobs(), self._nodes(), root, undrawn_wei)

    def _nodes(self) -> dict[int, KnownNode]:
        """From the registry's events. Where a payout account has changed of late, its forerunner is as good: the batch
        may have been settled before, and must not be left without signatures for that.
        """
        now_s = int(self._w3.eth.get_block("latest")["timestamp"])
        chain_id = self._network.chain_id
        with self._book.read() as journal:
            nodes = {row.node_index: row.node for row in journal.connection.execute(select(schema.nodes))}
            payouts: dict[int, list[str]] = {}
            for row in journal.connection.execute(select(schema.payouts).order_by(schema.payouts.c.id)):
                payouts.setdefault(row.node_index, []).append(row.payout)
            newest = newest_block(journal, chain_id)
            head = newest[0].number if newest is not None else 0
            changes = events_of(journal, self._w3, chain_id, (PayoutChangeRequested,), head)
        recent = {
            change.index: change.payout
            for change in changes
            if isinstance(change, PayoutChangeRequested) and 0 <= now_s - change.effective_at_s < GRACE_S
        }
        return {
            index: KnownNode(
                node, frozenset([recent[index], *payouts[index][-2:]] if index in recent else payouts[index][-1:])
            )
            for index, node in nodes.items()
        }
