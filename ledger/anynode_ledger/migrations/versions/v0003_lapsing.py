"""Deadlines of jobs, and intents that are not carried out any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anynode_ledger.migrations.versions.v0001_first import ROW_ID, guard

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deadlines",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("deadline_s", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "deadline_s", name="pk_deadlines"),
    )
    op.create_index("ix_deadlines_deadline_s", "deadlines", ["deadline_s"])
    op.create_table(
        "withdrawn",
        sa.Column("intent_id", ROW_ID, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["intent_id"], ["outbox_intents.id"], name="fk_withdrawn_intent_id"),
        sa.PrimaryKeyConstraint("intent_id", name="pk_withdrawn"),
    )
    for table in ("deadlines", "withdrawn"):
        guard(table)
