"""Books what judged rounds earn, and brings jobs to their end: last batch, release, final batch, finalised escrow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from anynode.jobs.job import Job
from anynode.rounds.course import Close, Finish, Seal
from anynode.rounds.records import Record
from anynode.rounds.reductions import rejected_reducers, unreadable_nodes
from anynode_contracts.deploy import DEVELOPMENT_CHAIN_ID
from anynode_contracts.errors import RefusedError
from anynode_contracts.networks import Network
from anynode_ledger.batch import Batch
from anynode_ledger.book import Book
from anynode_ledger.chain_log import posted_at_s
from anynode_ledger.earning import has_ended, last_release
from anynode_ledger.lapsing import has_lapsed
from anynode_ledger.latest_batch import is_pending, unsettled_since_s
from anynode_ledger.settlement import done_jobs, settle
from anynode_verifier.credits import (
    JudgedRound,
    RoundCollector,
    RuledRound,
    RulingCollector,
    replay_cost_wei,
    round_credits,
    ruling_credits,
)
from anynode_verifier.found_out import Fraud, LateFrauds, slash_id
from anynode_verifier.holding_back import stays_at_stake

log = logging.getLogger(__name__)


class JobAccount:
    """One job's way through the ledger: the coordinator adds records, the treasury books what they complete.

    ``lapsed``: the job's escrow pays nothing more.
    """

    def __init__(self, job: Job, records: Iterable[Record], appeals_wait: Callable[[], bool] = lambda: False) -> None:
        self.job = job
        self.appeals_wait = appeals_wait
        self.booked: set[int] = set()
        self.slashed: set[str] = set()
        self.lapsed = False
        self.drawn_height: int | None = None
        self.ruled: set[tuple[int, str]] = set()
        self._appealable: set[tuple[int, str]] = set()
        self._rulings: list[RuledRound] = []
        self._ruling_collector = RulingCollector()
        self._waiting: list[JudgedRound] = []
        self._collector = RoundCollector()
        self._closed_rounds: set[int] = set()
        self._late_frauds = LateFrauds()
        self._excised: list[Fraud] = []
        self._finished = False
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Take in the next record."""
        self._finished |= isinstance(record.body, Finish)
        if isinstance(record.body, Seal):
            self.drawn_height = max(self.drawn_height or 0, record.body.audit_height)
        late = self._late_frauds.add(record)
        self._excised.extend(late)
        self.ruled.update((fraud.round, fraud.node) for fraud in late)  # an appeal would only give what is taken now
        if isinstance(record.body, Close):
            self._closed_rounds.add(record.body.round)
        judged = self._collector.add(record)
        if judged is not None:
            self._waiting.append(judged)
            self._appealable.update((judged.open.round, item.node) for item in judged.verdict.judged if item.rejected)
        ruled = self._ruling_collector.add(record)
        if ruled is not None:
            self._rulings.append(ruled)
            self._appealable.discard((ruled.ruling.round, ruled.ruling.node))

    @property
    def to_book(self) -> list[JudgedRound]:
        """Judged rounds that are not booked yet."""
        return [round_ for round_ in list(self._waiting) if round_.open.round not in self.booked]

    @property
    def to_rule(self) -> list[RuledRound]:
        """What appeals have come to, as far as that is not booked yet."""
        return [item for item in list(self._rulings) if (item.ruling.round, item.ruling.node) not in self.ruled]

    @property
    def excised(self) -> list[Fraud]:
        """What was found out late, of rounds that are booked or never will be."""
        return [item for item in list(self._excised) if self.lapsed or item.round in self.booked]

    @property
    def complete(self) -> bool:
        """All rounds closed, all verdicts in, all booked."""
        return self._finished and self._closed_rounds == self.booked and not self.to_rule

    @property
    def over(self) -> bool:
        """Complete, or finished with an escrow that pays nothing more: what is not booked by then never is paid."""
        return self.complete or (self._finished and self.lapsed and not self.to_rule)

    @property
    def may_be_appealed(self) -> bool:
        """Whether there is a rejection against which nobody has appealed."""
        return bool(self._appealable)


class Treasury:
    """Called again and again by one thread; each call does what can be done now, and may be repeated after a crash."""

    def __init__(
        self,
        book: Book,
        network: Network,
        verifier_node: str,
        batch_interval_s: float,
        *,
        block_time_s: Callable[[int], int | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book, self._network, self._verifier_node = book, network, verifier_node
        self._batch_interval_s, self._clock = batch_interval_s, clock
        self._block_time_s, self._drawn_at_s = block_time_s, dict[int, int]()
        self._looked_at_s = 0.0
        self._ended: set[str] | None = None
        self._said: dict[str, str] = {}
        self._settled_over: set[str] = set()

    def advance(self, accounts: list[JobAccount]) -> None:
        """Book new verdicts, settle when it is time, close jobs that are complete. What cannot be booked of one job
        holds up no other, and no settlement.
        """
        if self._ended is None:
            with self._book.read() as journal:
                self._ended = done_jobs(journal)
        accounts = [account for account in accounts if account.job.job_id not in self._ended]
        for account in accounts:
            self._book_account(account)
        if is_pending(self._book):
            return
        # Also what an earlier run had closed: it may have died before it settled what the close released.
        over = {account.job.job_id: account for account in accounts if account.over}
        newly_over, batch = over.keys() - self._settled_over, None
        if any(node.accrued_wei for node in self._book.nodes()) and (newly_over or self._is_time()):
            batch = settle(self._book, self._network)
            self._looked_at_s = self._clock()
        self._settled_over |= newly_over
        if batch is not None:
            log.info("batch %d: root %s, %d gwei in all", batch.number, batch.root, batch.total_gwei)
            return
        for job_id, account in over.items():
            # over still, for a ruling may have come since: its appeal waits no longer then
            if self._awaits_appeals(account) or self._is_held_back(account) or not account.over:
                continue
            batch = self._end(account)
            self._ended.add(job_id)
            if batch is not None:
                return  # one root at a time: the other jobs are closed when it is active

    def _is_time(self) -> bool:
        """By the book's dates, which no restart changes; what was not worth a batch waits as long again."""
        since_s = max(self._looked_at_s, unsettled_since_s(self._book) or 0)
        return self._clock() >= since_s + self._batch_interval_s

    def _end(self, account: JobAccount) -> Batch | None:
        """Close a job. Where its escrow has lapsed before all was booked, what lies in the distributor already is paid,
        and that is all: a close says that every round is booked.
        """
        job_id, complete = account.job.job_id, account.complete
        released = self._book.close_job(job_id) if complete else self._book.release(job_id, last_release(job_id))
        if released:
            log.info("job %s is over; %d wei held back are released", job_id[:16], released)
        return settle(self._book, self._network)

    def _book_account(self, account: JobAccount) -> None:
        job_id, chain_id = account.job.job_id, self._network.chain_id
        with self._book.read() as journal:
            ended = has_ended(journal, job_id)
            account.lapsed = has_lapsed(journal, job_id, posted_at_s(journal, chain_id))
        self._book_verdicts(account)
        if ended:  # what comes of an appeal now was taken in too late
            account.ruled.update((item.ruling.round, item.ruling.node) for item in account.to_rule)
        self._book_rulings(account)
        for fraud in account.excised:  # after what appeals have given back before
            self._slash(account, fraud)

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
                how = "is not paid" if account.lapsed else "cannot be booked yet"
                self._say_once(account.job.job_id, f"round {number} {how}: {error}")
                break
            self._slash_rejected(account, round_)
            account.booked.add(number)
        for round_ in account.to_book if account.lapsed else ():
            self._slash_rejected(account, round_)  # no pay is waited for, and what is held back is released soon

    def _slash_rejected(self, account: JobAccount, round_: JudgedRound) -> None:
        for node, reason in round_.rejected.items():
            self._slash(account, Fraud(round_.open.round, node, reason))

    def _awaits_appeals(self, account: JobAccount) -> bool:
        """A job is not closed while an appeal waits, nor before the network's window since its last rejection."""
        if account.appeals_wait():
            return True
        if not account.may_be_appealed:
            return False
        return self._clock() < self._book.last_slash_s(account.job.job_id) + self._network.window_s

    def _is_held_back(self, account: JobAccount) -> bool:
        """On a public chain what the job holds back stays at stake for a while longer. Also as long as nobody can say
        when its last audits were drawn.
        """
        height, chain_id = account.drawn_height, self._network.chain_id
        if height is None or chain_id == DEVELOPMENT_CHAIN_ID:
            return False
        if height not in self._drawn_at_s:
            drawn_at_s = self._block_time_s(height)
            if drawn_at_s is None:
                return True
            self._drawn_at_s[height] = drawn_at_s
        with self._book.read() as journal:
            return stays_at_stake(chain_id, self._drawn_at_s[height], posted_at_s(journal, chain_id))

    def _book_rulings(self, account: JobAccount) -> None:
        """Granted: what was slashed, then the pay, so that no more is held back than the limit; upheld: the cost of the
        replay, if there was one, out of the slash. Each once; of a job whose escrow has lapsed, as far as it goes.
        """
        for ruled in account.to_rule:
            ruling = ruled.ruling
            try:
                waits = not self._book_ruling(account, ruled)
            except RefusedError as error:
                how = "is not paid" if account.lapsed else "cannot be booked yet"
                self._say_once(account.job.job_id, f"the ruling on an appeal of round {ruling.round} {how}: {error}")
                waits = True
            if waits and not account.lapsed:
                return
            account.ruled.add((ruling.round, ruling.node))

    def _book_ruling(self, account: JobAccount, ruled: RuledRound) -> bool:
        """Whether all that the ruling is about is here, so that nothing more is to come of it."""
        job, ruling, judged = account.job, ruled.ruling, ruled.judged
        verifier, index = self._book.node_index(self._verifier_node), self._book.node_index(ruling.node)
        is_booked = ruling.round in account.booked
        if verifier is None or index is None or not (is_booked or account.lapsed):
            return False
        slash = slash_id(job.job_id, ruling.round, index)
        if ruling.granted:
            if ruling.node not in rejected_reducers(judged.verdict) | unreadable_nodes(judged.open, judged.assign):
                self._book.reinstate(index, job.job_id, slash)
            if is_booked:
                self._book.credit(ruling_credits(job, ruled, index), self._network.held_back_limit_wei)
        elif ruling.heard:
            self._book.repay(verifier, job.job_id, slash, replay_cost_wei(job, ruled))
        return True

    def _say_once(self, job_id: str, sentence: str) -> None:
        if self._said.get(job_id) != sentence:
            log.warning("%s", sentence)
            self._said[job_id] = sentence

    def _slash(self, account: JobAccount, fraud: Fraud) -> None:
        index, job_id = self._book.node_index(fraud.node), account.job.job_id
        if index is None:
            return
        slash = slash_id(job_id, fraud.round, index, late=fraud.late)
        if slash not in account.slashed:
            self._book.slash(index, job_id, fraud.reason, slash)
            account.slashed.add(slash)
