"""A verifier's own signature over a reward root: made only for what it has rebuilt itself, and has promised before."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from eth_account.signers.local import LocalAccount
from sqlalchemy import select
from web3 import Web3

from anynode.jobs.job import Job
from anynode.rounds.course import Finish
from anynode.rounds.records import Record
from anynode_contracts.canonical import parse_json
from anynode_contracts.clients import DistributorClient
from anynode_contracts.deploy import DEVELOPMENT_CHAIN_ID
from anynode_contracts.errors import RefusedError
from anynode_contracts.events import PayoutChangeRequested
from anynode_contracts.networks import Network
from anynode_contracts.typed_data import RootSignature, RootStatement, sign_root
from anynode_ledger import schema
from anynode_ledger.book import Book
from anynode_ledger.chain_log import events_of, newest_block, posted_at_s
from anynode_verifier.blocks import block_time_s
from anynode_verifier.holding_back import last_drawn_height
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
            now_s = posted_at_s(journal, self._network.chain_id)
        jobs = self._jobs()
        drawn_at_s = self._drawn_at_s(jobs)
        return Knowledge(self._network, jobs, self._nodes(), root, undrawn_wei, drawn_at_s, now_s)

    def _drawn_at_s(self, jobs: Mapping[str, tuple[Job, Sequence[Record]]]) -> dict[str, float]:
        """When the last audits of jobs that are over were drawn; of a block that is not to be had, never yet."""
        if self._network.chain_id == DEVELOPMENT_CHAIN_ID:
            return {}
        drawn_at_s: dict[str, float] = {}
        for job_id, (_, records) in jobs.items():
            height = last_drawn_height(records)
            if height is not None and any(isinstance(record.body, Finish) for record in records):
                found_s = block_time_s(self._w3, height)
                drawn_at_s[job_id] = math.inf if found_s is None else found_s
        return drawn_at_s

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
