"""A fresh book in a file, with a clock that the test moves, and names for its actors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from ledger_actors import JOB, TOKEN, address

from anynode_contracts.networks import Network
from anynode_ledger.book import Book
from unasked_network import NETWORK


@pytest.fixture
def open_book(url: str) -> Iterator[Callable[[], Book]]:
    """Opens the same database again and again, as after a crash; closes all of them."""
    books: list[Book] = []

    def open_it() -> Book:
        books.append(Book.open(url, clock=lambda: 1_700_000_000))
        return books[-1]

    yield open_it
    for book in books:
        book.close()


@pytest.fixture
def book(open_book: Callable[[], Book]) -> Book:
    """Three nodes and a funded job of 1,000 tokens."""
    book = open_book()
    for index in (1, 2, 3):
        book.register_node(index, address(index), address(100 + index))
    book.fund_job(JOB, 1_000 * TOKEN, "fund/1")
    return book


@pytest.fixture
def network() -> Network:
    """A network whose chain is never asked."""
    return NETWORK
