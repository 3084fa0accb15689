"""Earnings of a node and of a job: what of it was slashed and came back, when, and in which roots."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ledger_actors import JOB, OTHER_JOB, TOKEN, address, decide, pay

from anynode_contracts.errors import RefusedError
from anynode_ledger.book import Book
from anynode_ledger.earnings import JobEarnings, NodeEarnings, Share, job_earnings, node_earnings
from anynode_ledger.pay import Credit, credit_id
from anynode_ledger.settlement import settle
from unasked_network import NETWORK


@pytest.fixture
def ticking() -> Iterator[Book]:
    """A book with two funded jobs, whose clock goes on by a second with each look at it."""
    seconds = iter(range(1, 1000))
    book = Book.open("sqlite://", clock=lambda: next(seconds))
    for index in (1, 2):
        book.register_node(index, address(index), address(100 + index))
    for job_id in (JOB, OTHER_JOB):
        book.fund_job(job_id, 100 * TOKEN, f"fund/{job_id}")
    yield book
    book.close()


def of_node(book: Book, index: int) -> NodeEarnings:
    with book.read() as journal:
        return node_earnings(journal, index)


def of_job(book: Book, job_id: str) -> JobEarnings:
    with book.read() as journal:
        return job_earnings(journal, job_id)


def reducing(node: int, amount: int) -> Credit:
    return Credit(credit_id(JOB, 0, node, "reducing"), JOB, 0, node, "reducing", amount)


def test_kinds_of_work_and_times(ticking: Book) -> None:
    ticking.credit([pay(1, 0, 5), reducing(1, 3)], 4)
    ticking.credit([pay(1, 1, 7), pay(1, 0, 11, OTHER_JOB)], 4)
    one, other = of_node(ticking, 1).shares
    assert (one.job_id, one.rounds, one.samples_wei, one.reducing_wei) == (JOB, 2, 12, 3)
    assert (one.held_back_wei, one.accrued_wei, other.accrued_wei) == (4, 11, 11)
    assert 0 < one.first_at_s < one.last_at_s <= other.first_at_s == other.last_at_s


def test_a_slash_that_was_taken_back_and_one_that_was_not(ticking: Book) -> None:
    ticking.credit([pay(1, 0, 50), pay(2, 0, 60)], 0)
    for index in (1, 2):
        ticking.slash(index, JOB, "differs", f"{JOB}/1/{index}")
    ticking.reinstate(1, JOB, f"{JOB}/1/1")
    ticking.repay(1, JOB, f"{JOB}/1/2", 40)
    one, two = of_job(ticking, JOB).shares
    assert (one.slashed_wei, one.replays_wei, one.accrued_wei) == (0, 40, 90)
    assert two == Share(JOB, 2, two.first_at_s, two.last_at_s, rounds=1, samples_wei=60, slashed_wei=60)


def test_roots_that_were_vetoed_became_active_and_wait(ticking: Book) -> None:
    ticking.credit([pay(1, 0, 2 * TOKEN)], 0)
    settle(ticking, NETWORK)
    decide(ticking, "void")
    assert of_node(ticking, 1).shares[0].in_roots_wei == 0
    settle(ticking, NETWORK)
    decide(ticking, "posted")
    ticking.credit([pay(1, 1, TOKEN)], 0)
    settle(ticking, NETWORK)
    found = of_node(ticking, 1)
    assert found.shares[0].in_roots_wei == 3 * TOKEN
    said = [(root.batch, root.attempt, root.state, root.amount_wei // TOKEN) for root in found.roots]
    assert said == [(1, 1, "void", 2), (1, 2, "posted", 2), (2, 1, "pending", 1)]
    times = [root.settled_at_s for root in found.roots]
    assert times == sorted(set(times)) and [root.transaction for root in found.roots] == [None] * 3


def test_a_jobs_money_on_the_chain(ticking: Book) -> None:
    (move,) = of_job(ticking, OTHER_JOB).moves
    assert (move.reason, move.amount_wei, move.transaction) == ("fund", 100 * TOKEN, None)
    assert move.moved_at_s > 0


def test_nobody_and_nothing(ticking: Book) -> None:
    assert of_node(ticking, 2).shares == ()
    with pytest.raises(RefusedError, match="no node with index 9"):
        of_node(ticking, 9)
    with pytest.raises(RefusedError, match="booked nothing of job"):
        of_job(ticking, "9" * 64)
