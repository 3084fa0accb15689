"""The ledger over HTTP: a real server on loopback, the shapes it promises, and errors in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ledger_actors import JOB, TOKEN, decide, pay
from pydantic import TypeAdapter

from anynode_contracts.entries import Entry, pack
from anynode_contracts.merkle import verify
from anynode_contracts.networks import Network
from anynode_ledger import answers
from anynode_ledger.book import Book
from anynode_ledger.settlement import settle
from served_ledger import served

EITHER = ["sqlite", pytest.param("postgresql", marks=pytest.mark.deep)]
pytestmark = pytest.mark.parametrize("url", EITHER, indirect=True)


@pytest.fixture
def client(book: Book, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a uvicorn server that listens on a real loopback socket."""
    with (
        served(book, tmp_path / "trees") as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def earn(book: Book, round_number: int, *nodes: int) -> None:
    book.credit([pay(node, round_number, node * TOKEN + 1) for node in nodes], 0)


def test_everything_over_a_real_socket(client: httpx.Client, book: Book, network: Network) -> None:
    earn(book, 0, 1, 2, 3)
    settle(book, network)
    early = client.get("/v1/proofs/2")
    assert (early.status_code, early.json()["error"][:21]) == (404, "no root is active yet")
    assert client.get("/v1/proofs/2", params={"batch": 1}).json()["state"] == "pending"
    decide(book, "posted")

    account = answers.AccountAnswer.model_validate(client.get("/v1/accounts/2").json())
    assert (account.earned_wei, account.payable_wei, account.dust_wei) == (str(2 * TOKEN + 1), str(2 * TOKEN), "1")

    (summary,) = answers.BatchesAnswer.model_validate(client.get("/v1/batches").json()).batches
    batch = answers.BatchAnswer.model_validate(client.get("/v1/batches/1").json())
    assert (summary.root, summary.state, summary.entry_count) == (batch.root, "posted", len(batch.entries))
    assert batch.draws_wei == {JOB: str(6 * TOKEN + 3)}

    proof = answers.ProofAnswer.model_validate(client.get("/v1/proofs/2").json())
    word = pack(Entry(proof.index, proof.account, int(proof.cumulative_gwei)))
    assert proof.entry == f"0x{word.hex()}"
    siblings = [bytes.fromhex(sibling[2:]) for sibling in proof.proof]
    assert verify(bytes.fromhex(batch.root[2:]), bytes.fromhex(proof.leaf[2:]), siblings)


def test_batches_come_in_pages_newest_first(client: httpx.Client, book: Book, network: Network) -> None:
    for number in range(5):
        earn(book, number, 1)
        settle(book, network)
        decide(book, "posted")
    numbers, before = [], None
    while True:
        query = {"limit": "2"} | ({} if before is None else {"before": str(before)})
        page = answers.BatchesAnswer.model_validate(client.get("/v1/batches", params=query).json())
        numbers += [batch.number for batch in page.batches]
        before = page.next_before
        if before is None:
            break
    assert numbers == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/accounts/9", 404),
        ("/v1/accounts/minus", 400),
        ("/v1/accounts/-1", 400),
        ("/v1/accounts/4294967296", 400),
        ("/v1/accounts/" + "9" * 400, 400),
        ("/v1/accounts/\u0661", 400),
        ("/v1/batches/1", 404),
        ("/v1/batches?limit=101", 400),
        ("/v1/batches?before=x", 400),
        ("/v1/proofs/1", 404),
        ("/v1/proofs/1?batch=7", 404),
    ],
)
def test_bad_questions_get_one_sentence(client: httpx.Client, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    error = answers.ErrorAnswer.model_validate(answer.json()).error
    assert error
    assert "\n" not in error


def test_every_answer_has_a_schema(client: httpx.Client) -> None:
    schemas = client.get("/v1/schemas").json()
    assert set(schemas) == {answer.__name__ for answer in answers.ANSWERS}
    for answer in answers.ANSWERS:
        assert schemas[answer.__name__] == TypeAdapter(answer).json_schema()


def test_nothing_can_be_written(client: httpx.Client) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert client.request(method, "/v1/batches").status_code == 405
