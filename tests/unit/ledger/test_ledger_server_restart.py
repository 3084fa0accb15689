"""A PostgreSQL server that ends and comes back, as for an update: a verifier waits for it, and goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from eth_account import Account
from ledger_actors import JOB, TOKEN, address, pay
from postgresql_server import Server
from web3 import Web3

from anynode_contracts.errors import UserError
from anynode_contracts.rpc import RpcProvider
from anynode_ledger.book import Book
from anynode_verifier.bookkeeping import Bookkeeping
from unasked_network import NETWORK


@pytest.fixture
def server(postgresql: Server) -> Iterator[Server]:
    """A server that a test may end. Where there can be none, the other one's fixture has skipped the test."""
    assert postgresql.folder.is_dir()
    with Server.start() as server:
        yield server


@pytest.fixture
def book(server: Server) -> Iterator[Book]:
    book = Book.open(server.url(server.create()), clock=lambda: 1_700_000_000)
    book.register_node(1, address(1), address(101))
    book.fund_job(JOB, TOKEN, "fund/1")
    yield book
    book.close()


def test_a_restart_between_two_transactions_is_not_noticed(book: Book, server: Server) -> None:
    server.halt()
    server.resume()
    assert book.node_index(address(1)) == 1
    server.halt()
    server.resume()
    assert book.credit([pay(1, 0, 10)], 0) == 10


def test_while_the_server_is_down_one_sentence_says_so(book: Book, server: Server) -> None:
    server.halt()
    with pytest.raises(UserError, match="cannot be read") as reading:
        book.nodes()
    with pytest.raises(UserError, match="cannot be written") as writing:
        book.credit([pay(1, 0, 10)], 0)
    for caught in (reading, writing):
        assert str(server.folder) not in str(caught.value), "where the database is is nobody else's business"
    server.resume()
    assert book.credit([pay(1, 0, 10)], 0) == 10
    assert book.balances(1).accrued_wei == 10


def test_a_server_that_ends_amid_a_transaction_has_kept_nothing_of_it(book: Book, server: Server) -> None:
    with pytest.raises(UserError, match="cannot be written"), book.write() as journal:
        journal.decide("slash/1", "slash", JOB, 1, "false work")
        server.halt()
        journal.decide("slash/2", "slash", JOB, 1, "false work")
    server.resume()
    with pytest.raises(UserError, match="cannot be read"), book.read() as journal:
        server.halt()
        journal.newest_seq()
    server.resume()
    with book.write() as journal:
        assert journal.decide("slash/1", "slash", JOB, 1, "false work")


def test_a_verifier_lives_on(book: Book, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    w3 = Web3(RpcProvider(NETWORK.rpc_url, exception_retry_configuration=None))  # gives up at once
    asyncio.run(lives_on(bookkeeping_of(book, w3), server, caplog))


def bookkeeping_of(book: Book, w3: Web3) -> Bookkeeping:
    return Bookkeeping(
        book,
        NETWORK,
        w3,
        node=Account.create(),
        poster=Account.create(),
        root_signatures=lambda _statement: [],
        slasher=None,
        secret_of=lambda _job, _round: "",
        batch_interval_s=60.0,
    )


async def lives_on(bookkeeping: Bookkeeping, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.halt()
    running = asyncio.create_task(bookkeeping.run(list, list))
    while "database cannot be read" not in caplog.text and not running.done():  # noqa: ASYNC110 (it tells nobody)
        await asyncio.sleep(0)
    server.resume()
    while bookkeeping.status()["waiting_for"] and not running.done():  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert not running.done()
    assert bookkeeping.status()["waiting_for"] == ""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
