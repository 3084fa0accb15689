"""Jobs that end on the chain: what is drawable is known before it is planned, and no dead job holds up another."""

from __future__ import annotations

import pytest
from eth_utils.address import to_checksum_address
from ledger_actors import JOB, OTHER_JOB, TOKEN, address, decide, pay, public

from anynode_contracts.errors import RefusedError
from anynode_contracts.events import (
    ChainEvent,
    JobCancelled,
    JobCreated,
    JobDrawn,
    JobFinalised,
    JobRefunded,
    LogPosition,
)
from anynode_contracts.networks import Network
from anynode_ledger.book import Book
from anynode_ledger.chain_events import book_event
from anynode_ledger.intents import intents
from anynode_ledger.lapsing import REFUND_DELAY_S, SPARE_S, pass_time
from anynode_ledger.rebuild import rebuild
from anynode_ledger.settlement import batches_of, settle

OWNER = to_checksum_address(address(7))
CREATED_S, DEADLINE_S = 1_000_000, 9_000_000
DAY_S = 24 * 3600
THIS = "3" * 64


class Chain:
    """Final blocks with at most one event each, booked as they come."""

    def __init__(self, book: Book, network: Network) -> None:
        self.book, self.network, self.now_s, self.height = book, network, CREATED_S, 0

    def at(self, now_s: int) -> None:
        with self.book.write() as journal:
            pass_time(journal, self.now_s, now_s)
        self.now_s = now_s

    def happens(self, kind: type[ChainEvent], job: str, *values: object) -> None:
        self.height += 1
        position = LogPosition(self.height, self.height.to_bytes(32, "big"), b"\2" * 32, 0)
        with self.book.write() as journal:
            book_event(journal, self.network, kind(position, bytes.fromhex(job), *values))  # type: ignore[arg-type]

    def draw(self, *jobs: str) -> None:
        """The newest batch's draws are made, of these jobs."""
        batch = batches_of(self.book, newest=1)[0].batch
        for job in jobs:
            self.happens(JobDrawn, job, batch.number, batch.draws[job])


@pytest.fixture
def chain(book: Book, network: Network) -> Chain:
    """Two jobs of 100 tokens each beside the fixture's: what it has put in is not the chain's."""
    chain = Chain(book, network)
    for job in (THIS, OTHER_JOB):
        chain.happens(JobCreated, job, OWNER, 100 * TOKEN, 100 * TOKEN, DEADLINE_S)
    return chain


def test_what_was_accepted_until_a_cancellation_is_drawn_in_the_29_days_after(
    book: Book, network: Network, chain: Chain
) -> None:
    book.credit([pay(1, 0, 3 * TOKEN, THIS)], 0)
    chain.at(CREATED_S + 10)
    chain.happens(JobCancelled, THIS, CREATED_S + 10)
    chain.at(CREATED_S + 10 + 29 * DAY_S - 1)
    assert book.job(THIS).refundable_wei == 0
    batch = settle(book, network)
    assert batch is not None
    assert batch.draws == {THIS: 3 * TOKEN}
    chain.at(CREATED_S + 10 + 29 * DAY_S)
    chain.draw(THIS)
    chain.at(CREATED_S + 10 + 30 * DAY_S)
    decide(book, "posted")
    chain.happens(JobRefunded, THIS, OWNER, 97 * TOKEN)
    job = book.job(THIS)
    assert (job.credited_wei, job.drawn_wei, job.refunded_wei, job.missing_wei) == (3 * TOKEN, 3 * TOKEN, 97 * TOKEN, 0)
    assert (job.unspent_wei, job.refundable_wei, job.in_escrow_wei) == (0, 0, 0)
    rebuild(public(book), network.daily_cap_gwei)


def test_a_job_that_has_ended_is_credited_nothing_and_holds_up_nobody(
    book: Book, network: Network, chain: Chain
) -> None:
    book.credit([pay(1, 0, 3 * TOKEN, THIS)], 0)
    chain.at(DEADLINE_S + REFUND_DELAY_S - SPARE_S)  # nobody has settled in all this time
    assert book.job(THIS).missing_wei == 3 * TOKEN
    with pytest.raises(RefusedError, match="has 0 wei left"):
        book.credit([pay(1, 1, 1, THIS)], 0)
    book.credit([pay(1, 0, TOKEN), pay(2, 0, TOKEN)], 0)
    batch = settle(book, network)
    assert batch is not None
    assert batch.draws == {JOB: 2 * TOKEN}
    assert [entry.index for entry in batch.entries] == [1, 2]
    decide(book, "posted")
    chain.happens(JobRefunded, THIS, OWNER, 100 * TOKEN)
    assert settle(book, network) is None
    rebuild(public(book), network.daily_cap_gwei)


def test_a_deadline_counts_once_and_a_cancellation_before_it(book: Book, chain: Chain) -> None:
    chain.happens(JobCancelled, THIS, CREATED_S + 5)
    chain.at(CREATED_S + 5 + 29 * DAY_S)
    assert (book.job(THIS).refundable_wei, book.job(OTHER_JOB).refundable_wei) == (100 * TOKEN, 0)
    chain.at(DEADLINE_S + 40 * DAY_S)
    assert (book.job(THIS).refundable_wei, book.job(OTHER_JOB).refundable_wei) == (100 * TOKEN, 100 * TOKEN)


def test_a_planned_draw_that_is_never_made_is_given_up_and_the_batch_settled_anew(
    book: Book, network: Network, chain: Chain
) -> None:
    """The RPC was down for a day, say: then one job is lost, and the other is paid."""
    book.credit([pay(1, 0, 3 * TOKEN, THIS), pay(2, 0, 2 * TOKEN, OTHER_JOB)], 0)
    chain.happens(JobCancelled, THIS, CREATED_S)
    chain.at(CREATED_S + 29 * DAY_S - 1)
    first = settle(book, network)
    assert first is not None
    assert first.draws == {THIS: 3 * TOKEN, OTHER_JOB: 2 * TOKEN}
    chain.at(CREATED_S + 30 * DAY_S - 1)
    assert batches_of(book)[-1].state == "pending"
    chain.at(CREATED_S + 30 * DAY_S)
    assert batches_of(book)[-1].state == "void"
    with book.read() as journal:
        left = [(status.intent.kind, status.intent.subject) for status in intents(journal, open_only=True)]
        notes = [status.note for status in intents(journal) if status.intent.subject.startswith(THIS)]
    assert left == [("draw", f"{OTHER_JOB}/1.1")]
    assert notes == ["withdrawn: the job's escrow pays nothing more"]
    chain.draw(OTHER_JOB)
    again = settle(book, network)
    assert again is not None
    assert (again.number, again.attempt, again.draws) == (1, 2, {})
    assert [(entry.index, entry.cumulative_gwei) for entry in again.entries] == [(2, 2 * 10**9)]
    decide(book, "posted")
    assert (book.job(THIS).missing_wei, book.balances(1).accrued_wei) == (3 * TOKEN, 3 * TOKEN)
    assert settle(book, network) is None
    assert rebuild(public(book), network.daily_cap_gwei) == [stored.batch for stored in batches_of(book)]


def test_after_its_final_batch_nothing_more_of_a_job_is_planned(book: Book, network: Network, chain: Chain) -> None:
    book.credit([pay(1, 0, 3 * TOKEN, THIS)], 0)
    book.close_job(THIS)
    assert settle(book, network) is not None
    chain.happens(JobFinalised, THIS, 1)
    assert book.job(THIS).refundable_wei == 97 * TOKEN  # three are still to be drawn
    chain.draw(THIS)
    decide(book, "posted")
    chain.happens(JobRefunded, THIS, OWNER, 97 * TOKEN)
    assert book.job(THIS).refunded_wei == 97 * TOKEN
    rebuild(public(book), network.daily_cap_gwei)


def test_what_a_cap_held_up_until_the_end_is_missing(book: Book, network: Network, chain: Chain) -> None:
    """It is settled as far as it was drawn."""
    terms = {"owner": OWNER, "budget_wei": 100 * TOKEN, "price_wei_per_million_samples": 1}
    book.open_job(THIS, cap_per_batch_wei=2 * TOKEN, **terms)  # type: ignore[arg-type]
    book.credit([pay(1, 0, 3 * TOKEN, THIS)], 0)
    assert settle(book, network) is not None
    chain.draw(THIS)
    decide(book, "posted")
    chain.at(DEADLINE_S + 29 * DAY_S)
    assert (book.job(THIS).missing_wei, book.job(THIS).refundable_wei) == (TOKEN, 98 * TOKEN)
    assert settle(book, network) is None
    rebuild(public(book), network.daily_cap_gwei)
