"""The append-only journal inside one database transaction: rows go in once, balances follow them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, insert, select

from anynode_contracts.errors import invariant
from anynode_ledger import schema
from anynode_ledger.accounts import Account, Balances, Transfer


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
        self.balances.apply(transfer)
        for name in (transfer.debit, transfer.credit):
            self._ensure_account(name)
        self.connection.execute(
            insert(table).values(
                id=transfer.id,
                debit=transfer.debit,
                credit=transfer.credit,
                amount_wei=transfer.amount_wei,
                reason=transfer.reason,
                phase=transfer.phase,
                pending_id=transfer.pending_id,
                recorded_at_s=self.now_s,
            )
        )
        return True

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
                recorded_at_s=self.now_s,
            )
        )
        return True

    def transfers_after(self, seq: int) -> list[tuple[int, Transfer]]:
        """The rows with a greater sequence number, in order."""
        table = schema.transfers
        rows = self.connection.execute(select(table).where(table.c.seq > seq).order_by(table.c.seq))
        return [(row.seq, transfer_of(row)) for row in rows]

    def _ensure_account(self, name: str) -> None:
        table = schema.accounts
        if self.connection.execute(select(table.c.name).where(table.c.name == name)).first() is None:
            account = Account.parse(name)
            self.connection.execute(
                insert(table).values(name=name, kind=account.kind, node_index=account.node_index, job_id=account.job_id)
            )
