"""What is asked every second of the newest batch, without its entries, of which there may be a million."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from sqlalchemy import select

from anynode_ledger import schema
from anynode_ledger.batch import BatchState
from anynode_ledger.book import Book
from anynode_ledger.journal import Journal


@dataclass(frozen=True, slots=True)
class LatestBatch:
    """The newest batch. Only it can be pending: none is settled while another one is."""

    number: int
    attempt: int
    root: str
    state: BatchState
    settled_at_s: int


def latest_batch(journal: Journal) -> LatestBatch | None:
    """The newest batch, if there is any."""
    batches, outcomes = schema.batches, schema.outcomes
    query = (
        select(batches, outcomes.c.outcome)
        .join(outcomes, outcomes.c.batch_id == batches.c.id, isouter=True)
        .order_by(batches.c.id.desc())
        .limit(1)
    )
    row = journal.connection.execute(query).first()
    if row is None:
        return None
    state = cast(BatchState, row.outcome or "pending")
    return LatestBatch(row.number, row.attempt, row.root, state, row.recorded_at_s)


def is_pending(book: Book) -> bool:
    """Whether a root waits, so that nothing can be settled."""
    with book.read() as journal:
        latest = latest_batch(journal)
        return latest is not None and latest.state == "pending"


def unsettled_since_s(book: Book) -> int | None:
    """Since when pay may wait for a batch: the last one or, before the first, the first credit. In seconds since 1970;
    None before any.
    """
    with book.read() as journal:
        latest = latest_batch(journal)
        if latest is not None:
            return latest.settled_at_s
        table = schema.transfers
        first = select(table.c.recorded_at_s).where(table.c.reason == "credit").order_by(table.c.seq).limit(1)
        since_s: int | None = journal.connection.execute(first).scalar()
        return since_s
