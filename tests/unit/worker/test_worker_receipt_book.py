"""What a member has promised of deliveries is known again after its process was killed, whenever that was."""

from __future__ import annotations

from pathlib import Path

from anynode.rounds.messages import DeliveryReceipt
from anynode.worker.receipt_book import ROUNDS_MAX, Fixed, Given, Held, ReceiptBook

RECEIPT = DeliveryReceipt("delivery_receipt", f"0x{1:040d}", 3, 0, 2, 1, (0,), ("7" * 64,), (), "0x" + "5" * 130)


def test_what_was_noted_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    book = ReceiptBook(path)
    book.note(Given(round=3, slot=2, chunks=(0, 1)))
    book.note(Given(round=3, slot=0, chunks=(1,)))
    book.note(Fixed(round=3, attempt=1, chunk=1, senders=(0, 2)))
    book.note(Held(round=3, receipt=RECEIPT))
    again = ReceiptBook(path).promises()
    assert again == book.promises()
    assert again[3].given == {0: frozenset({2}), 1: frozenset({0, 2})}
    assert again[3].fixed == {1: {1: (0, 2)}}
    assert again[3].held == (RECEIPT,)


def test_a_line_half_written_promised_nothing(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    ReceiptBook(path).note(Given(round=3, slot=2, chunks=(0,)))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    book = ReceiptBook(path)
    assert book.promises()[3].given == {0: frozenset({2})}
    book.note(Given(round=3, slot=1, chunks=(0,)))
    assert ReceiptBook(path).promises()[3].given == {0: frozenset({1, 2})}


def test_old_rounds_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    book = ReceiptBook(path)
    for number in range(3 * ROUNDS_MAX):
        book.note(Given(round=number, slot=0, chunks=(0,)))
    assert sorted(ReceiptBook(path).promises()) == list(range(2 * ROUNDS_MAX, 3 * ROUNDS_MAX))
