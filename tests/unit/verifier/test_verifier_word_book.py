"""What a verifier has said of a slot, it says again after any restart, and never anything else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from signed_world import DOMAIN, key

from anynode.rounds.messages import Commitment
from anynode.rounds.statements import statement
from anynode.rounds.words import nothing_of
from anynode_contracts.errors import InvariantError, StorageError, UserError
from anynode_contracts.signing import recover
from anynode_verifier.word_book import ROUNDS_MAX, WordBook

JOB = "a" * 64


def commitment(slot: int = 0, round_: int = 3) -> Commitment:
    node = key(f"member {slot}").address
    return Commitment("commitment", node, round_, slot, 2, 4, 2, "8" * 64, "9" * 64, "class", "1")


@pytest.fixture
def reopened(tmp_path: Path) -> Callable[[], WordBook]:
    """The book as a fresh process finds it."""
    return lambda: WordBook(tmp_path / "job" / "words.jsonl", JOB, key("coordinator"), DOMAIN)


def test_a_receipt_outlives_the_process(reopened: Callable[[], WordBook]) -> None:
    book = reopened()
    given = book.receipt(commitment())
    assert given is not None
    assert recover(DOMAIN, statement(JOB, given), given.signature) == key("coordinator").address
    book.sync()
    again = reopened()
    assert again.commitments(3) == (commitment(),) and again.commitments(2) == ()
    assert again.receipt(commitment()) == given
    assert again.receipt(replace(commitment(), update_root="7" * 64)) is None, "one receipt for a slot"
    with pytest.raises(InvariantError):
        again.sign_nothing(3, (0, 1))


def test_after_a_seal_there_is_no_receipt(reopened: Callable[[], WordBook]) -> None:
    book = reopened()
    book.receipt(commitment(0))
    (word,) = book.sign_nothing(3, (1,))
    assert recover(DOMAIN, statement(JOB, nothing_of(3, 1)), word) == key("coordinator").address
    book.sync()
    again = reopened()
    assert again.receipt(commitment(1)) is None, "also when the duty has come back"
    assert again.receipt(commitment(0)) is not None and again.receipt(commitment(2)) is not None
    assert again.sign_nothing(3, (1,)) == (word,)
    assert again.receipt(commitment(1, round_=4)) is not None, "each round has its words"


def test_what_was_not_synced_was_not_said(reopened: Callable[[], WordBook], tmp_path: Path) -> None:
    book = reopened()
    book.receipt(commitment(0))
    book.sync()
    book.receipt(commitment(1))
    path = tmp_path / "job" / "words.jsonl"
    path.write_bytes(path.read_bytes() + b'{"kind":"had","ro')
    assert reopened().commitments(3) == (commitment(0),)
    path.write_bytes(b"rubbish\n")
    with pytest.raises(UserError, match="is damaged"):
        reopened()


def test_a_disk_that_is_full_gets_no_receipt(reopened: Callable[[], WordBook], monkeypatch: pytest.MonkeyPatch) -> None:
    book = reopened()
    book.receipt(commitment())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for _ in range(2):  # nor when it is asked for again
            with pytest.raises(StorageError):
                book.sync()
    assert reopened().commitments(3) == ()
    book.sync()
    assert reopened().commitments(3) == (commitment(),)


def test_old_rounds_are_forgotten(reopened: Callable[[], WordBook], tmp_path: Path) -> None:
    """On the disk too, while the verifier runs: a job may have rounds without end."""
    book, path = reopened(), tmp_path / "job" / "words.jsonl"
    for round_ in range(3, 9):
        for slot in (0, 1):
            book.receipt(commitment(slot, round_))
            book.sync()
            assert len(path.read_bytes().splitlines()) <= 2 * ROUNDS_MAX
    again = reopened()
    assert [bool(again.commitments(round_)) for round_ in range(3, 9)] == [False] * 2 + [True] * 4
