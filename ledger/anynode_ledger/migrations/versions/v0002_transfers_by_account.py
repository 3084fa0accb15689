"""Transfers are found by account: what one node has earned is read without reading everybody's."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("debit", "credit"):
        op.create_index(f"ix_transfers_{column}", "transfers", [column])
