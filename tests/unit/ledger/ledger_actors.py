"""Who and what the ledger's tests are about: a job, credits, and what the chain decides about a batch."""

from __future__ import annotations

import json
from typing import Any

from anynode_contracts.canonical import canonical_json
from anynode_ledger.batch import BatchState
from anynode_ledger.book import Book
from anynode_ledger.pay import Credit, credit_id
from anynode_ledger.public import public_ledger
from anynode_ledger.settlement import batches_of, resolve

JOB, OTHER_JOB = "1" * 64, "2" * 64
TOKEN = 10**18


def address(number: int) -> str:
    """A checksummed address without letters, so that upper and lower case do not matter."""
    return f"0x{number:040d}"


def pay(node: int, round_number: int, amount: int, job: str = JOB) -> Credit:
    """What the node earned with samples in this round."""
    own_id = credit_id(job, round_number, node, "samples")
    return Credit(own_id, job, round_number, node, "samples", amount)


def decide(book: Book, outcome: BatchState) -> None:
    """The newest batch's root has become active, or was vetoed."""
    (stored,) = batches_of(book, newest=1)
    with book.write() as journal:
        resolve(journal, stored, outcome)


def public(book: Book) -> dict[str, Any]:
    """The public file, as somebody else reads it."""
    content: dict[str, Any] = json.loads(canonical_json(public_ledger(book).model_dump(mode="json")))
    return content
