"""Books what judged rounds earn, and brings jobs to their end: last batch, release, final batch, finalised escrow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from anynode.jobs.job import Job
from anynode.rounds.records import Close, Finish, Record
from anynode_contracts.deploy import DEVELOPMENT_CHAIN_ID
from anynode_contracts.errors import RefusedError
from anynode_contracts.networks import Network
from anynode_ledger.batch import Batch
from anynode_ledger.book import Book
from anynode_ledger.settlement import batches_of, settle
from anynode_verifier.credits import JudgedRound, RoundCollector, round_credits

log = logging.getLogger(__name__)


class JobAccount:
    """One job's way through the ledger: the coordinator adds records, the treasury books what they complete."""

    def __init__(self, job: Job, records: Iterable[Record]) -> None:
        self.job = job
        self.booked: set[int] = set()
        self._waiting: list[JudgedRound] = []
        self._collector = RoundCollector()
        self._closed_rounds: set[int] = set()
        self._finished = False
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Take in the next record."""
        self._finished |= isinstance(record.body, Finish)
        if isinstance(record.body, Close):
            self._closed_rounds.add(record.body.round)
        judged = self._collector.add(record)
        if judged is not None:
            self._waiting.append(judged)

    @property
    def to_book(self) -> list[JudgedRound]:
        """Judged rounds that are not booked yet."""
        return [round_ for round_ in list(self._waiting) if round_.open.round not in self.booked]

    @property
    def complete(self) -> bool:
        """All rounds closed, all verdicts in, all booked."""
        return self._finished and self._closed_rounds == self.booked


class Treasury:
    """Called again and again by one thread; each call does what can be done now, and may be repeated after a crash."""

    def __init__(
        self,
        book: Book,
        network: Network,
        verifier_node: str,
        batch_interval_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book, self._network, self._verifier_node = book, network, verifier_node
        self._batch_interval_s, self._clock = batch_interval_s, clock
        self._settled_at = clock()
        self._ended: set[str] = set()

    def advance(self, accounts: list[JobAccount]) -> None:
        """Book new verdicts, settle when it is time, close jobs that are complete."""
        for account in accounts:
            self._book_verdicts(account)
        if any(batch.state == "pending" for batch in batches_of(self._book)):
            return
        # Also what an earlier run had closed: it may have died before it settled what the close released.
        complete = [
            account.job.job_id for account in accounts if account.complete and account.job.job_id not in self._ended
        ]
        accrued = any(node.accrued_wei for node in self._book.nodes())
        if accrued and (complete or self._clock() >= self._settled_at + self._batch_interval_s):
            batch = settle(self._book, self._network)
            self._settled_at = self._clock()
            if batch is not None:
                log.info("batch %d: root %s, %d gwei in all", batch.number, batch.root, batch.total_gwei)
                return
        for job_id in complete:
            batch = self._close(job_id)
            self._ended.add(job_id)
            if batch is not None:
                return  # one root at a time: the other jobs are closed when it is active

    def _close(self, job_id: str) -> Batch | None:
        if self._network.chain_id != DEVELOPMENT_CHAIN_ID:
            # Elsewhere held-back pay is a stake and stays one after the job (protocol.md, Held back).
            log.info("job %s is complete; what is held back stays held back", job_id[:16])
            return None
        released = self._book.close_job(job_id)
        if released:
            log.info("job %s is closed; %d wei held back are released", job_id[:16], released)
        return settle(self._book, self._network)

    def _book_verdicts(self, account: JobAccount) -> None:
        verifier = self._book.node_index(self._verifier_node)
        if verifier is None:
            return
        for round_ in account.to_book:
            number = round_.open.round
            indices = {node: self._book.node_index(node) for node in round_.paid_nodes}
            known = {node: index for node, index in indices.items() if index is not None}
            if len(known) != len(indices):
                continue  # a registration is still on its way to the chain
            try:
                earned = round_credits(account.job, round_, known, verifier)
                self._book.credit(earned, self._network.held_back_limit_wei)
            except RefusedError as error:
                log.warning("round %d cannot be booked yet: %s", number, error)
                return
            self._slash(account.job.job_id, round_)
            account.booked.add(number)

    def _slash(self, job_id: str, round_: JudgedRound) -> None:
        for node, reason in round_.rejected.items():
            index = self._book.node_index(node)
            if index is not None:
                self._book.slash(index, job_id, reason, f"{job_id}/{round_.open.round}/{index}")
