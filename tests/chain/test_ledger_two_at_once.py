"""Two processes on one database, with one key: one of them settles, and whatever they both try is done once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deployed import Deployed
from ledger_setting import TOKEN, LedgerSetting
from posting_process import Poster
from test_ledger_kills import Stories

from anynode_contracts.errors import RefusedError
from anynode_ledger.book import Book
from anynode_ledger.intents import intents
from anynode_ledger.settlement import batches_of, settle


@pytest.fixture(scope="module")
def posters() -> Iterator[list[Poster]]:
    with Poster.started() as one, Poster.started() as other:
        yield [one, other]


def test_two_settlers(deployment: Deployed, tmp_path: Path, url: str) -> None:
    setting = LedgerSetting(deployment, tmp_path, url=url)
    setting.begin()
    setting.earn(0, [TOKEN, TOKEN, TOKEN])
    books = [Book.open(url, clock=lambda: setting.now_s) for _ in range(4)]

    def try_it(book: Book) -> bool:
        try:
            return settle(book, deployment.network) is not None
        except RefusedError as error:
            assert "not final yet" in str(error)
            return False

    with ThreadPoolExecutor(len(books)) as pool:
        assert sorted(pool.map(try_it, books)) == [False] * 3 + [True]
    for book in books:
        assert len(batches_of(book)) == 1
        assert [book.balances(index).waiting_wei for index in setting.nodes] == [TOKEN] * 3
        book.close()
    with setting.book.read() as journal:
        assert [status.intent.kind for status in intents(journal)] == ["draw", "postRoot"]
    setting.close()


@pytest.fixture
def stories(
    deployment: Deployed, tmp_path: Path, url: str, posters: list[Poster], request: pytest.FixtureRequest
) -> Stories:
    server = request.getfixturevalue("postgresql") if url.startswith("postgresql") else None
    return Stories.begin(deployment, tmp_path, posters[0], url, server)


def test_two_whole_lives(stories: Stories, posters: list[Poster], deep: bool) -> None:
    """Both credit, settle, send and read, at the same time."""
    anvil = stories.deployed.anvil
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20 if deep else 1):
            copy, snapshot = stories.copy(), anvil.snapshot()
            order = stories.order(copy)
            assert list(pool.map(lambda poster, order=order: poster.live(order), posters)) == [0, 0]
            stories.look(copy)
            anvil.revert(snapshot)
