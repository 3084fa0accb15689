"""The append-only journal inside one database transaction: rows go in once, balances follow them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from anynode_contracts.errors import invariant
from anynode_ledger import schema
from anynode_ledger.accounts import Balances, Transfer

ROWS_AT_ONCE = 5_000  # read or written together: as many as memory hardly notices


def transfer_of(row: Row[Any]) -> Transfer:
    """The transfer in a row of the ``transfers`` table."""
    return Transfer(row.id, row.debit, row.credit, row.amount_wei, row.reason, row.phase, row.pending_id)


class Journal:
    """Transfers and balances as one transaction sees them.

    ``append`` is idempotent by the transfer's id; the same id with another content is a broken invariant.
    """

    def __init__(self, connection: Connection, balances: Balances, now_s: int) -> None:
        self.connection = connection
        self.balances = balances
        self.now_s = now_s

    def has(self, transfer_id: str) -> bool:
        query = select(schema.transfers.c.seq).where(schema.transfers.c.id == transfer_id)
        return self.connection.execute(query).first() is not None

    def append(self, transfer: Transfer) -> bool:
        """Add one row. False when it was there already. Raises ``InvariantError`` if it would break the books."""
        table = schema.transfers
        row = self.connection.execute(select(table).where(table.c.id == transfer.id)).first()
        if row is not None:
            invariant(transfer_of(row) == transfer, f"transfer {transfer.id!r} is already booked with another content")
            return False
        self.append_new([transfer])
        return True

    def append_new(self, transfers: Iterable[Transfer]) -> None:
        """Add rows whose ids are new, in order. The balances follow each before the next is asked for."""
        waiting = iter(transfers)
        while rows := [self._applied(transfer) for transfer in islice(waiting, ROWS_AT_ONCE)]:
            self.connection.execute(insert(schema.transfers), rows)

    def _applied(self, transfer: Transfer) -> dict[str, Any]:
        """The row of a transfer that the balances have taken in, and whose accounts are there."""
        known = self.balances.accounts
        new = [name for name in (transfer.debit, transfer.credit) if name not in known]
        self.balances.apply(transfer)
        if new:
            rows = [
                {"name": name, "kind": own.kind, "node_index": own.node_index, "job_id": own.job_id}
                for name, own in ((name, known[name]) for name in new)
            ]
            self.connection.execute(insert(schema.accounts), rows)
        return {
            "id": transfer.id,
            "debit": transfer.debit,
            "credit": transfer.credit,
            "amount_wei": transfer.amount_wei,
            "reason": transfer.reason,
            "phase": transfer.phase,
            "pending_id": transfer.pending_id,
            "recorded_at_s": self.now_s,
        }

    def decide(self, decision_id: str, kind: str, job_id: str, node_index: int | None, reason: str) -> bool:
        """Record a decision once. False when it was taken already; another content is a broken invariant."""
        table = schema.decisions
        row = self.connection.execute(select(table).where(table.c.id == decision_id)).first()
        if row is not None:
            invariant(
                (row.kind, row.job_id, row.node_index, row.reason) == (kind, job_id, node_index, reason),
                f"decision {decision_id!r} was already taken with another content",
            )
            return False
        self.connection.execute(
            insert(table).values(
                id=decision_id,
                kind=kind,
                job_id=job_id,
                node_index=node_index,
                reason=reason,
                transfers_before=self.balances.count,
                recorded_at_s=self.now_s,
            )
        )
        return True

    def transfers_after(self, seq: int) -> Iterator[tuple[int, Transfer]]:
        """The rows with a greater sequence number, in order, not all of them in memory."""
        table = schema.transfers
        query = select(table).where(table.c.seq > seq).order_by(table.c.seq)
        for row in self.connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)):
            yield row.seq, transfer_of(row)

    def transfers_from(self, position: int) -> Iterator[Transfer]:
        """All rows but the first ``position``, in order, not all of them in memory."""
        table = schema.transfers
        query = select(table).order_by(table.c.seq).offset(position)
        for row in self.connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)):
            yield transfer_of(row)

    def newest_seq(self) -> int:
        """The highest sequence number of a transfer; 0 before the first."""
        return int(self.connection.execute(select(func.max(schema.transfers.c.seq))).scalar() or 0)
