"""How long a ledger may get, how far that reaches, and that one that is too long stops its roots and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bank import Bank
from signed_world import SignedWorld

from anynode.rounds.judgements import Verdict
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError
from anynode_contracts.typed_data import RootStatement
from anynode_ledger.public import ROWS_MAX, PublicLedger, public_ledger, public_rows
from anynode_verifier.root_collector import LEDGER_BYTES_MAX, RootRequest

SECURITY = Path(__file__).parents[3] / "docs" / "security.md"
STATEMENT = RootStatement(1, 0, b"\x01" * 32, 5, b"\x02" * 32)
#: What the page takes for an example.
MEMBERS, ROUND_S, DAY_S = 20, 600, 86_400


@pytest.fixture
def bank(tmp_path: Path, grown: SignedWorld) -> Iterator[Bank]:
    bank = Bank(tmp_path / "ledger.sqlite", grown).fill()
    yield bank
    bank.book.close()


def size_bytes(ledger: PublicLedger, *names: str) -> int:
    content = ledger.model_dump(mode="json")
    return sum(len(canonical_json(content[name])) - 2 for name in names)


def test_a_ledger_that_is_too_long_is_one_sentence(bank: Bank) -> None:
    with bank.book.read() as journal, pytest.raises(RefusedError, match=r"has \d+ nodes, and its public file takes 1,"):
        public_rows(journal, rows_max=1)
    assert public_ledger(bank.book).nodes


def test_others_are_not_asked_for_more_than_they_take() -> None:
    assert RootRequest.of(STATEMENT, "0" * 64, LEDGER_BYTES_MAX).statement == STATEMENT
    with pytest.raises(RefusedError, match="no verifier takes more than 1073741824 from another"):
        RootRequest.of(STATEMENT, "0" * 64, LEDGER_BYTES_MAX + 1)


def test_how_far_the_limits_reach_is_what_the_page_says(bank: Bank, grown: SignedWorld) -> None:
    """From the size of what real rounds and a real batch of them book."""
    bank.treasury.advance([bank.account()])
    bank.decide("posted")
    ledger = public_ledger(bank.book)
    judged = sum(len(record.body.judged) for record in grown.records if isinstance(record.body, Verdict))
    settled = [transfer for transfer in ledger.transfers if transfer.reason == "settle"]
    of_rounds = ledger.model_copy(update={"transfers": [t for t in ledger.transfers if t.reason != "settle"]})
    of_batch = ledger.model_copy(update={"transfers": settled})
    round_bytes = size_bytes(of_rounds, "credits", "decisions", "transfers") / judged
    batch_bytes = size_bytes(of_batch, "transfers", "batches") / len(ledger.batches[0].entries)
    rows = len(of_rounds.transfers) / judged
    day_bytes = MEMBERS * (DAY_S / ROUND_S * round_bytes + batch_bytes)
    day_rows = MEMBERS * (DAY_S / ROUND_S * rows + len(settled) / len(ledger.batches[0].entries))
    years = LEDGER_BYTES_MAX / day_bytes / 365
    assert ROWS_MAX / day_rows / 365 > years, "the bytes end first"
    text = " ".join(SECURITY.read_text().split())
    said = re.search(r"(\d+) bytes for each member and round and (\d+) for each member and batch", text)
    assert said is not None, (round_bytes, batch_bytes, years)
    assert [int(number) for number in said.groups()] == [round(round_bytes, -2), round(batch_bytes, -2)]
    assert f"twenty members, rounds of ten minutes and a batch a day that is {years:.1f} years" in text
