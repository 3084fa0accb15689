"""The book: credits, held-back pay, slashes and releases; idempotent, immutable, and the same after reopening."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from ledger_actors import JOB, OTHER_JOB, TOKEN, decide, pay
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError

from anynode_contracts.errors import InvariantError, RefusedError, UserError
from anynode_contracts.networks import Network
from anynode_ledger import accounts as chart
from anynode_ledger.accounts import Balances, Transfer
from anynode_ledger.book import Book
from anynode_ledger.intents import intents, keep_signed, withdraw
from anynode_ledger.lapsing import note_deadline
from anynode_ledger.schema import IMMUTABLE, metadata
from anynode_ledger.settlement import settle


def test_pay_is_held_back_up_to_the_limit_and_accrues_above_it(book: Book) -> None:
    assert book.credit([pay(1, 0, 3 * TOKEN)], 5 * TOKEN) == 3 * TOKEN
    assert book.credit([pay(1, 1, 3 * TOKEN)], 5 * TOKEN) == 3 * TOKEN
    balance = book.balances(1)
    assert (balance.held_back_wei, balance.accrued_wei, balance.earned_wei) == (5 * TOKEN, TOKEN, 6 * TOKEN)
    assert book.job(JOB).unspent_wei == 994 * TOKEN


def test_the_limit_holds_over_all_jobs_of_a_node(book: Book) -> None:
    book.fund_job(OTHER_JOB, TOKEN, "fund/2")
    book.credit([pay(1, 0, 4), pay(1, 0, 4, OTHER_JOB)], 6)
    assert book.balances(1).held_back_wei == 6
    assert book.balances(1).accrued_wei == 2


def test_a_credit_is_booked_once(book: Book) -> None:
    book.credit([pay(1, 0, 7)], 0)
    assert book.credit([pay(1, 0, 7), pay(2, 0, 7)], 0) == 7
    assert book.balances(1).earned_wei == 7


def test_the_same_id_with_another_content_is_a_broken_invariant(book: Book) -> None:
    book.credit([pay(1, 0, 7)], 0)
    with pytest.raises(InvariantError, match="another content"):
        book.credit([pay(1, 0, 8)], 0)
    book.slash(1, JOB, "noise", "slash/1")
    with pytest.raises(InvariantError, match="another content"):
        book.slash(1, JOB, "something else", "slash/1")
    with pytest.raises(InvariantError, match="another content"):
        book.fund_job(JOB, 5, "fund/1")


def test_credits_beyond_the_escrow_are_refused_as_a_whole(book: Book) -> None:
    with pytest.raises(RefusedError, match="fund its escrow"):
        book.credit([pay(1, 0, 400 * TOKEN), pay(2, 0, 601 * TOKEN)], 0)
    assert book.balances(1).earned_wei == 0
    assert book.job(JOB).unspent_wei == 1_000 * TOKEN


def test_unknown_nodes_earn_nothing(book: Book) -> None:
    with pytest.raises(RefusedError, match="no node with index 9"):
        book.credit([pay(9, 0, 1)], 0)


def test_a_slash_returns_what_is_held_and_accrued_in_that_job_only(book: Book) -> None:
    book.fund_job(OTHER_JOB, TOKEN, "fund/2")
    book.credit([pay(1, 0, 100), pay(1, 0, 30, OTHER_JOB), pay(2, 0, 50)], 60)
    assert book.slash(1, JOB, "segment 3 differs", "slash/1") == 100
    assert book.slash(1, JOB, "segment 3 differs", "slash/1") == 0
    balance = book.balances(1)
    assert (balance.earned_wei, balance.slashed_wei) == (30, 100)
    assert book.balances(2).earned_wei == 50
    assert book.job(JOB).unspent_wei == 1_000 * TOKEN - 50


def test_what_a_node_would_lose_is_what_is_held_back_in_that_job(book: Book) -> None:
    book.fund_job(OTHER_JOB, TOKEN, "fund/2")
    book.credit([pay(1, 0, 100), pay(1, 0, 30, OTHER_JOB), pay(2, 0, 50)], 120)
    names = [book.balances(index).node for index in (1, 2)]
    assert book.held_back_wei(JOB) == {names[0]: 100, names[1]: 50}
    assert book.held_back_wei() == {names[0]: 120, names[1]: 50}
    assert book.held_back_wei(OTHER_JOB) == {names[0]: 20}, "the limit holds over all jobs"
    book.slash(1, JOB, "segment 3 differs", "slash/1")
    assert book.held_back_wei(JOB)[names[0]] == 0


def test_what_is_refused_is_tried_again_without_folding_all_transfers_anew(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that its escrow does not hold is asked for every second, and there may be a million transfers."""
    book.credit([pay(1, 0, 100), pay(2, 0, 40)], 60)
    book.slash(2, JOB, "noise", "slash/1")
    totals, applied, real = book.totals(), list[Transfer](), Balances.apply

    def counted(balances: Balances, transfer: Transfer) -> None:
        applied.append(transfer)
        real(balances, transfer)

    monkeypatch.setattr(Balances, "apply", counted)
    with pytest.raises(RefusedError, match="fund its escrow"):
        book.credit([pay(1, 1, TOKEN), pay(2, 1, 1_000 * TOKEN)], 60)
    assert book.totals() == totals and not applied
    book.close_job(JOB)
    applied.clear()
    for refused in (lambda: book.reinstate(2, JOB, "slash/1"), lambda: book.repay(1, JOB, "slash/1", 5)):
        with pytest.raises(RefusedError, match="has ended"):
            refused()
    assert book.balances(2).slashed_wei == 40 and not applied
    monkeypatch.undo()
    book.fund_job(JOB, 5, "fund/after")
    assert book.totals() == Book(book._engine, lambda: 0).totals(), "what is in memory is what the rows say"


def test_closing_releases_what_is_held_and_ends_the_credits(book: Book) -> None:
    book.credit([pay(1, 0, 100), pay(2, 0, 40)], 60)
    assert book.close_job(JOB) == 100
    assert book.close_job(JOB) == 0
    assert book.balances(1).held_back_wei == 0
    assert book.balances(1).accrued_wei == 100
    assert book.job(JOB).closed
    assert book.credit([pay(1, 0, 100)], 60) == 0  # booked before, so nothing happens
    with pytest.raises(RefusedError, match="has ended"):
        book.credit([pay(1, 1, 1)], 60)


def test_a_release_is_booked_once_and_another_one_later(book: Book) -> None:
    book.credit([pay(1, 0, 10)], 10)
    assert book.release(JOB, "release/a") == 10
    book.credit([pay(1, 1, 10)], 10)
    assert book.release(JOB, "release/a") == 0
    assert book.release(JOB, "release/b") == 10


def test_totals_prove_that_the_books_balance(book: Book) -> None:
    book.credit([pay(1, 0, 10), pay(2, 0, 20)], 15)
    totals = book.totals()
    assert totals["held_back"] == 25
    assert totals["accrued"] == 5
    assert totals["custody_escrow"] == 1_000 * TOKEN
    assert totals["escrow"] == 1_000 * TOKEN - 30


def test_reopening_and_a_second_book_see_the_same(book: Book, open_book: Callable[[], Book]) -> None:
    other = open_book()
    assert other.balances(1).earned_wei == 0
    book.credit([pay(1, 0, 10**30 % (900 * TOKEN))], 3)
    assert other.balances(1) == book.balances(1)
    other.credit([pay(2, 0, 5)], 0)
    assert book.balances(2).earned_wei == 5
    assert open_book().totals() == book.totals()


def test_threads_take_turns(book: Book) -> None:
    def earn(node: int) -> None:
        for round_number in range(10):
            book.credit([pay(node, round_number, 1)], 0)

    threads = [threading.Thread(target=earn, args=(node,)) for node in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [book.balances(node).earned_wei for node in (1, 2, 3)] == [10, 10, 10]


def test_a_failed_transaction_leaves_no_trace(book: Book) -> None:
    before = book.totals()
    with pytest.raises(RuntimeError), book.write() as journal:
        journal.append(Transfer("x", f"escrow/{JOB}", f"accrued/1/{JOB}", 5, "credit"))
        raise RuntimeError
    assert book.totals() == before
    book.credit([pay(1, 0, 5)], 0)
    assert book.balances(1).accrued_wei == 5


def test_an_appeal_on_an_empty_escrow_is_refused_and_an_upheld_one_pays_what_is_there(book: Book) -> None:
    book.credit([pay(1, 0, 600 * TOKEN), pay(2, 0, 400 * TOKEN)], 0)
    book.slash(1, JOB, "noise", "slash/1")
    book.slash(2, JOB, "noise", "slash/2")
    book.credit([pay(3, 0, 990 * TOKEN)], 0)
    before = book.totals()
    with pytest.raises(RefusedError, match="fund its escrow"):
        book.reinstate(1, JOB, "slash/1")
    assert book.totals() == before
    assert book.repay(3, JOB, "slash/2", 50 * TOKEN) == 10 * TOKEN
    assert book.repay(3, JOB, "slash/2", 50 * TOKEN) == 0
    book.fund_job(JOB, 600 * TOKEN, "fund/2")
    assert book.reinstate(1, JOB, "slash/1") == 600 * TOKEN
    book.close_job(JOB)
    assert book.reinstate(1, JOB, "slash/1") == 0
    with pytest.raises(RefusedError, match="has ended"):
        book.repay(3, JOB, "slash/3", 1)


def test_one_transaction_at_a_time(book: Book) -> None:
    with book.read(), pytest.raises(InvariantError, match="inside another"):
        book.totals()


@pytest.mark.parametrize("verb", ["UPDATE", "DELETE"])
def test_rows_are_immutable(book: Book, url: str, network: Network, verb: str) -> None:
    """Every table has a row, or what is refused for lack of one would prove nothing."""
    terms = {"budget_wei": 7, "cap_per_batch_wei": 10**20, "price_wei_per_million_samples": 1}
    book.open_job(JOB, owner=f"0x{7:040d}", **terms)
    book.credit([pay(1, 0, 5 * TOKEN)], 3)
    book.slash(2, JOB, "noise", "slash/1")
    assert settle(book, network) is not None
    with book.write() as journal:
        note_deadline(journal, JOB, 1)
        (draw, *_, root) = intents(journal)
        withdraw(journal, root.id, "the test has ended")
        fees = {"max_fee_wei": 2**70, "priority_fee_wei": 1}
        keep_signed(journal, intent_id=draw.id, sender=f"0x{8:040d}", nonce=0, tx_hash="1" * 64, raw="02", **fees)
    decide(book, "posted")
    engine = create_engine(url)
    with engine.connect() as connection:
        for table in IMMUTABLE:
            column = next(iter(metadata.tables[table].columns)).name
            statement = {"UPDATE": f"UPDATE {table} SET {column} = {column}", "DELETE": f"DELETE FROM {table}"}[verb]  # noqa: S608
            with pytest.raises(IntegrityError, match=f"rows of {table} are immutable"):
                connection.exec_driver_sql(statement)
            connection.rollback()
    engine.dispose()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_emptying_a_table_is_refused_too(book: Book, url: str) -> None:
    book.credit([pay(1, 0, 5)], 3)
    engine = create_engine(url)
    with engine.connect() as connection:
        for table in IMMUTABLE:
            with pytest.raises(IntegrityError, match="are immutable"):
                connection.exec_driver_sql(f"TRUNCATE {table} CASCADE")
            connection.rollback()
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "statement"),
    [
        ("sqlite", "INSERT OR REPLACE INTO nodes VALUES (1, '0x')"),
        ("postgresql", "INSERT INTO nodes VALUES (1, '0x') ON CONFLICT (node_index) DO UPDATE SET node = '0x'"),
    ],
    indirect=["url"],
)
def test_replacing_a_row_is_refused_too(book: Book, statement: str) -> None:
    book.credit([pay(1, 0, 5)], 0)
    with pytest.raises(IntegrityError, match="immutable"), book.write() as journal:
        journal.connection.exec_driver_sql(statement)


def test_amounts_beyond_64_bits_are_exact(open_book: Callable[[], Book]) -> None:
    book = open_book()
    book.register_node(1, f"0x{1:040d}", f"0x{2:040d}")
    amount = 2**200 + 12_345_678_901_234_567_891
    book.fund_job(JOB, amount, "fund")
    book.credit([pay(1, 0, amount - 1)], 2**90 + 1)
    again = open_book().balances(1)
    assert (again.held_back_wei, again.accrued_wei) == (2**90 + 1, amount - 1 - (2**90 + 1))


def test_an_index_belongs_to_one_key_for_ever(book: Book) -> None:
    book.register_node(1, f"0x{1:040d}", f"0x{555:040d}")
    assert book.balances(1).payout == f"0x{555:040d}"
    with pytest.raises(InvariantError, match="for ever"):
        book.register_node(1, f"0x{9:040d}", f"0x{555:040d}")
    assert book.node_index(f"0x{2:040d}") == 2
    assert book.node_index(f"0x{77:040d}") is None


def test_a_job_keeps_its_terms(book: Book) -> None:
    def open_job(budget: int) -> None:
        book.open_job(
            JOB,
            owner=f"0x{7:040d}",
            budget_wei=budget,
            cap_per_batch_wei=5,
            price_wei_per_million_samples=10,
        )

    open_job(7)
    open_job(7)
    with pytest.raises(InvariantError, match="other terms"):
        open_job(8)


def test_what_cannot_be_opened_is_said_in_one_sentence(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"this is no database, but it is long enough to look at" * 50)
    for url in ("nonsense", "sqlite:////nowhere/at/all/ledger", f"sqlite:///{damaged}", "oracle-x://host/name"):
        with pytest.raises(UserError) as caught:
            Book.open(url)
        assert "\n" not in str(caught.value)


def test_a_driver_that_is_missing_is_named_and_no_password_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"mysql://me:\*\*\*@host/name names no database") as caught:
        Book.read_only("mysql://me:secret@host/name")
    assert "secret" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match="scripts/setup"):
        Book.read_only("postgresql+psycopg://me:secret@host/name")


def test_a_reader_sees_a_live_book_and_writes_nothing(book: Book, url: str) -> None:
    book.credit([pay(1, 0, 5)], 3)
    reader = Book.read_only(url)
    book.credit([pay(1, 1, 5)], 3)
    assert reader.balances(1) == book.balances(1)
    with pytest.raises(UserError, match="cannot be written"):
        reader.credit([pay(1, 2, 5)], 3)
    reader.close()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_reader_of_a_file_makes_nothing_of_it(book: Book, tmp_path: Path) -> None:
    whole = book.totals()
    book.close()
    folder = tmp_path / "a copy & more"
    folder.mkdir()
    copy = folder / "100% ledger.sqlite"
    copy.write_bytes((tmp_path / "ledger.sqlite").read_bytes())
    reader = Book.read_only(f"sqlite:///{copy}")
    assert reader.totals() == whole
    reader.close()
    for nothing in (f"sqlite:///{tmp_path / 'none'}", "nonsense"):
        with pytest.raises(UserError):
            Book.read_only(nothing)
    sqlite3.connect(tmp_path / "empty.sqlite").execute("CREATE TABLE things (name TEXT)").connection.close()
    with pytest.raises(UserError, match="holds no ledger of this version"):
        Book.read_only(f"sqlite:///{tmp_path / 'empty.sqlite'}")


def test_a_newer_database_is_not_touched(book: Book, url: str, open_book: Callable[[], Book]) -> None:
    book.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(UserError, match="newer AnyNode"):
        open_book()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_full_disk_books_nothing_and_is_said(book: Book) -> None:
    before = book.totals()
    with book.write() as journal:
        pages = journal.connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        journal.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    earned = [pay(1 + number % 3, number, 1) for number in range(300)]
    with pytest.raises(UserError, match="nothing of this was booked"):
        book.credit(earned, 0)
    assert book.totals() == before
    with book.write() as journal:
        journal.connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert book.credit(earned, 0) == 300


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_server_that_goes_away_books_nothing_and_is_said(book: Book) -> None:
    """Its own connection is cut in the middle of a transaction; the next one finds the server again."""
    before = book.totals()
    with pytest.raises(UserError, match="nothing of this was booked"), book.write() as journal:
        journal.append(Transfer("fund/2", chart.custody_escrow(JOB), chart.escrow(JOB), 1, "fund"))
        journal.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    assert book.totals() == before
    book.fund_job(JOB, 1, "fund/2")
    assert book.job(JOB).funded_wei == 1_000 * TOKEN + 1


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_server_that_does_not_answer_is_named_without_its_password(url: str) -> None:
    gone = url.replace("anynode@", "anynode:hush@").replace("host=", "host=/nowhere")
    with pytest.raises(UserError, match="cannot be opened") as caught:
        Book.open(gone)
    assert "hush" not in str(caught.value)
