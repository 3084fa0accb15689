"""When a batch is settled: once an interval, which no restart puts off, and once when jobs come to their end."""

from __future__ import annotations

from collections.abc import Callable

from bank import NETWORK, VERIFIER_INDEX, Bank, up_to
from signed_world import SignedWorld
from sqlalchemy import Engine, event

from anynode.rounds.judgements import Verdict
from anynode_ledger.pay import Credit, credit_id
from anynode_ledger.settlement import batches_of


def test_a_job_that_waits_to_be_closed_asks_for_one_batch(open_bank: Callable[..., Bank], grown: SignedWorld) -> None:
    """What it holds back stays a stake for 14 days; other jobs go on to earn, and are settled when it is time."""
    bank = open_bank(NETWORK.model_copy(update={"chain_id": 11155111})).fill()
    account = bank.account()
    bank.treasury.advance([account])
    bank.decide("posted")
    earn_elsewhere(bank, 0)
    bank.treasury.advance([account])
    assert len(batches_of(bank.book)) == 1
    bank.now_s += 3_600.0
    bank.treasury.advance([account])
    assert len(batches_of(bank.book)) == 2


def test_jobs_that_an_earlier_run_has_brought_to_their_end_ask_for_no_batch(bank: Bank) -> None:
    bank.finish(bank.account())
    assert len(batches_of(bank.book)) == 2
    earn_elsewhere(bank, 0)
    bank.treasury = bank.restarted()
    bank.treasury.advance([bank.account()])
    assert len(batches_of(bank.book)) == 2
    bank.now_s += 3_600.0
    bank.treasury.advance([bank.account()])
    assert len(batches_of(bank.book)) == 3


def earn_elsewhere(bank: Bank, number: int) -> None:
    """The verifier's node earns in a job that goes on."""
    other = "9" * 64
    bank.book.fund_job(other, 10**18, f"fund/other/{number}")
    one = Credit(credit_id(other, number, VERIFIER_INDEX, "samples"), other, number, VERIFIER_INDEX, "samples", 10**17)
    bank.book.credit([one], 0)


def test_accrued_pay_is_settled_when_the_interval_is_over(bank: Bank, grown: SignedWorld) -> None:
    account = bank.account(up_to(grown.records, Verdict, 1))
    bank.treasury.advance([account])
    assert sum(node.accrued_wei for node in bank.book.nodes()) > 0
    assert batches_of(bank.book) == []
    bank.now_s += 3_599.0
    bank.treasury.advance([account])
    assert batches_of(bank.book) == []
    bank.now_s += 1.0
    bank.treasury.advance([account])
    assert len(batches_of(bank.book)) == 1


def test_restarts_do_not_put_off_a_batch(bank: Bank, grown: SignedWorld) -> None:
    """One before every look, much more often than the interval: the book's dates count, not the process's."""
    settled_at: list[float] = []
    for records in (up_to(grown.records, Verdict, 1), list(grown.records[:-1])):
        began_s, before = bank.now_s, len(batches_of(bank.book))
        while len(batches_of(bank.book)) == before and bank.now_s < began_s + 3 * 3_600.0:
            bank.treasury = bank.restarted()
            bank.treasury.advance([bank.account(records)])
            bank.now_s += 600.0
        settled_at.append(bank.now_s - 600.0 - began_s)
        bank.decide("posted")
    assert settled_at == [3_600.0, 3_000.0], "the second batch an interval after the first was settled"


def test_a_look_at_the_batches_loads_no_entries(bank: Bank, grown: SignedWorld) -> None:
    """There may be a million in each, and it is looked every second."""
    bank.finish(bank.account())
    asked: list[str] = []

    def listen(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        bank.treasury.advance([bank.account()])
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    assert asked and not [statement for statement in asked if "FROM entries" in statement]
