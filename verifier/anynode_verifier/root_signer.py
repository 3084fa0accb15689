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
from anynode_contracts.events import ChainEvent, PayoutChangeCancelled, PayoutChangeRequested, RootPosted
from anynode_contracts.networks import Network
from anynode_contracts.typed_data import RootSignature, RootStatement, sign_root
from anynode_ledger import schema
from anynode_ledger.book import Book
from anynode_ledger.chain_log import dated_events_of, posted_at_s
from anynode_verifier.blocks import block_time_s
from anynode_verifier.holding_back import last_drawn_height
from anynode_verifier.root_checks import Knowledge, KnownNode, check_root
from anynode_verifier.root_promises import Promises

JobRecords = Callable[[], Mapping[str, tuple[Job, Sequence[Record]]]]
"""Every job of this verifier with its certified records so far."""

GRACE_S = 7 * 24 * 3600
"""For so long after a change of its payout account a node may be paid to the former one; longer until a root is posted.
"""


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
        """From the registry's events. A batch is settled after the newest root was posted, and signed whenever a quorum
        is there: who was to be paid at any time since then may be paid. Where that is longer, so may who was `GRACE_S`
        ago.
        """
        now_s, chain_id = int(self._w3.eth.get_block("latest")["timestamp"]), self._network.chain_id
        kinds = (PayoutChangeRequested, PayoutChangeCancelled, RootPosted)
        with self._book.read() as journal:
            nodes = {row.node_index: row.node for row in journal.connection.execute(select(schema.nodes))}
            registered: dict[int, str] = {}
            for row in journal.connection.execute(select(schema.payouts).order_by(schema.payouts.c.id)):
                registered.setdefault(row.node_index, row.payout)
            events = dated_events_of(journal, self._w3, chain_id, kinds)
        posted_at_s = max((at_s for at_s, event in events if isinstance(event, RootPosted)), default=0)
        since_s, changes = min(posted_at_s, now_s - GRACE_S), _changes(events, now_s)
        return {
            index: KnownNode(node, _accounts_since(since_s, registered[index], changes.get(index, [])))
            for index, node in nodes.items()
        }


def _changes(events: Sequence[tuple[int, ChainEvent]], now_s: int) -> dict[int, list[PayoutChangeRequested]]:
    """By node, the changes of its payout account that have taken effect, in order. What was cancelled before its time,
    or replaced by another request, never does.
    """
    changes: dict[int, list[PayoutChangeRequested]] = {}
    for at_s, event in events:
        if isinstance(event, PayoutChangeRequested | PayoutChangeCancelled):
            own = changes.setdefault(event.index, [])
            if own and own[-1].effective_at_s > at_s:
                own.pop()
            if isinstance(event, PayoutChangeRequested):
                own.append(event)
    return {index: [change for change in own if change.effective_at_s <= now_s] for index, own in changes.items()}


def _accounts_since(since_s: int, registered: str, changes: Sequence[PayoutChangeRequested]) -> frozenset[str]:
    """The account that was to be paid at ``since_s``, and those that came after."""
    accounts = [registered, *(change.payout for change in changes)]
    return frozenset(accounts[sum(change.effective_at_s < since_s for change in changes) :])
