"""The journal for an accountant: CSV with a line for each transfer, or beancount, whose balances `bean-check` proves.

Beancount knows no transfers that are pending. What a batch has reserved stands in a ``Waiting…`` account until its root
is active or vetoed. Assets are positive there and liabilities negative.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TextIO

from sqlalchemy import select

from anynode_ledger import schema
from anynode_ledger.accounts import Account, Balances, Transfer
from anynode_ledger.earnings import origins, posted_in
from anynode_ledger.journal import Journal, transfer_of

COLUMNS = (
    *("number", "happened_at", "booked_at", "transfer", "reason", "phase", "debit", "credit"),
    *("amount_wei", "amount", "job", "node", "transaction"),
)
CURRENCY = "ANY"
_WEI_PER_TOKEN = 10**18


@dataclass(frozen=True, slots=True)
class Line:
    """One transfer with its place in the journal, when it happened, when it was booked, and its transaction.

    What the chain has moved happened in its block, which counts for an accountant; all else when it was booked.
    """

    number: int
    happened_at: datetime
    booked_at: datetime
    transfer: Transfer
    transaction: str


def lines_of(journal: Journal) -> list[Line]:
    """Every transfer, in order."""
    rows = list(journal.connection.execute(select(schema.transfers).order_by(schema.transfers.c.seq)))
    known = origins(journal, (row.id for row in rows))
    posted = posted_in(journal)
    return [
        Line(
            row.seq,
            _time(known[row.id].at_s if row.id in known else row.recorded_at_s),
            _time(row.recorded_at_s),
            transfer_of(row),
            known[row.id].transaction
            if row.id in known
            else (posted.get(_batch_in(row.id), "") if row.reason == "settle" else ""),
        )
        for row in rows
    ]


def write_csv(lines: Iterable[Line], out: TextIO) -> None:
    """With a head line; amounts in wei, and in tokens with all 18 decimals."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        transfer = line.transfer
        debit, credit = Account.parse(transfer.debit), Account.parse(transfer.credit)
        node = debit.node_index if credit.node_index is None else credit.node_index
        writer.writerow(
            (
                line.number,
                line.happened_at.isoformat(),
                line.booked_at.isoformat(),
                transfer.id,
                transfer.reason,
                transfer.phase,
                transfer.debit,
                transfer.credit,
                transfer.amount_wei,
                tokens(transfer.amount_wei),
                debit.job_id or credit.job_id or "",
                "" if node is None else node,
                line.transaction,
            )
        )


def write_beancount(lines: list[Line], balances: Balances, title: str, out: TextIO) -> None:
    """Accounts, a transaction for each transfer, and at the end the balance that the ledger has of each account."""
    out.write(f'option "title" {_quoted(title)}\noption "operating_currency" "{CURRENCY}"\n')
    if not lines:
        return
    first, last = min(line.happened_at for line in lines).date(), max(line.happened_at for line in lines).date()
    out.write(f"\n{first} commodity {CURRENCY}\n")
    expected = dict(sorted(_balances(balances)))
    for name in expected:
        out.write(f"{first} open {name} {CURRENCY}\n")
    for line in lines:
        out.write(_transaction(line))
    out.write("\n")
    for name, wei in expected.items():
        out.write(f"{last + timedelta(days=1)} balance {name} {tokens(wei)} ~ 0 {CURRENCY}\n")


def tokens(wei: int) -> str:
    """A decimal number of tokens with all its digits."""
    whole, rest = divmod(abs(wei), _WEI_PER_TOKEN)
    return f"{'-' if wei < 0 else ''}{whole}.{rest:018d}"


def _transaction(line: Line) -> str:
    transfer = line.transfer
    debit, credit = _beancount_name(transfer.debit), _beancount_name(transfer.credit)
    match transfer.phase:
        case "pending":
            credit = _waiting_name(transfer.credit)
        case "post":
            debit = _waiting_name(transfer.credit)
        case "void":
            debit, credit = _waiting_name(transfer.credit), debit
        case "single":
            pass
    flag = "!" if transfer.phase == "pending" else "*"
    text = f"\n{line.happened_at.date()} {flag} {_quoted(f'{transfer.reason} ({transfer.phase})')}\n"
    text += f"  transfer: {_quoted(transfer.id)}\n  booked: {_quoted(line.booked_at.isoformat())}\n"
    if line.transaction:
        text += f"  transaction: {_quoted(line.transaction)}\n"
    amount = tokens(transfer.amount_wei)
    return f"{text}  {debit}  {amount} {CURRENCY}\n  {credit}  -{amount} {CURRENCY}\n"


def _balances(balances: Balances) -> Iterator[tuple[str, int]]:
    """By beancount's names, what the ledger says; what pending transfers reserve has left its account already."""
    for name, account in balances.accounts.items():
        available = balances.available_wei(name)
        yield _beancount_name(name), available if account.increased_by == "debit" else -available
        if account.kind in ("payable", "dust"):
            yield _waiting_name(name), -balances.totals[name].credits_pending


def _beancount_name(name: str) -> str:
    return _spelled(name, "")


def _waiting_name(name: str) -> str:
    return _spelled(name, "Waiting")


def _spelled(name: str, before: str) -> str:
    """``Liabilities:HeldBack:Node1:Job…``: each part begins with a capital letter."""
    account = Account.parse(name)
    side = "Assets" if account.increased_by == "debit" else "Liabilities"
    parts = [side, before + "".join(word.capitalize() for word in account.kind.split("_"))]
    if account.node_index is not None:
        parts.append(f"Node{account.node_index}")
    if account.job_id is not None:
        parts.append(f"Job{account.job_id}")
    return ":".join(parts)


def _batch_in(transfer_id: str) -> str:
    """``1.1`` of ``settle/1.1/…`` and of ``post/settle/1.1/…``."""
    return transfer_id.partition("settle/")[2].partition("/")[0]


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
