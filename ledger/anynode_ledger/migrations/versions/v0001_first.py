"""The first tables: double-entry journal, batches, outbox and intake; immutable rows guarded by triggers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WEI = sa.String(78).with_variant(sa.Numeric(78, 0), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

IMMUTABLE = (
    "nodes",
    "payouts",
    "jobs",
    "deadlines",
    "accounts",
    "transfers",
    "credits",
    "decisions",
    "batches",
    "entries",
    "draws",
    "outcomes",
    "outbox_signed",
    "withdrawn",
)


def upgrade() -> None:
    _create_tables()
    for table in IMMUTABLE:
        guard(table)


def guard(table: str) -> None:
    """Have the database refuse to change or delete rows of the table."""
    if op.get_context().dialect.name == "sqlite":
        _guard_in_sqlite(table)
    else:
        _guard_in_postgresql(table)


def _guard_in_sqlite(table: str) -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} BEGIN"
            f" SELECT RAISE(ABORT, 'rows of {table} are immutable'); END"
        )


def _guard_in_postgresql(table: str) -> None:
    op.execute(
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''rows of % are immutable'', TG_TABLE_NAME"
        " USING ERRCODE = ''integrity_constraint_violation''; END'"
    )
    for name, verbs, each in (("immutable", "UPDATE OR DELETE", "ROW"), ("kept", "TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER {table}_{name} BEFORE {verbs} ON {table} FOR EACH {each} EXECUTE FUNCTION refuse_change()"
        )


def _create_tables() -> None:
    op.create_table(
        "accounts",
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("node_index", sa.BigInteger(), nullable=True),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_accounts"),
    )
    op.create_table(
        "batches",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("distributor", sa.String(length=42), nullable=False),
        sa.Column("root", sa.String(length=64), nullable=False),
        sa.Column("total_gwei", WEI, nullable=False),
        sa.Column("data_hash", sa.String(length=64), nullable=False),
        sa.Column("ledger_hash", sa.String(length=64), nullable=False),
        sa.Column("transfers_before", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        sa.UniqueConstraint("number", "attempt", name="uq_batches_number"),
    )
    op.create_table(
        "chain_blocks",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("parent_hash", sa.String(length=64), nullable=False),
        sa.Column("timestamp_s", sa.BigInteger(), nullable=False),
        sa.Column("posted", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "number", name="pk_chain_blocks"),
    )
    op.create_table(
        "chain_events",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("block_hash", sa.String(length=64), nullable=False),
        sa.Column("log_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("contract", sa.String(length=42), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("transaction_hash", sa.String(length=64), nullable=False),
        sa.Column("topics", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("timestamp_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "block_hash", "log_index", name="pk_chain_events"),
    )
    op.create_table(
        "deadlines",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("deadline_s", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "deadline_s", name="pk_deadlines"),
    )
    op.create_index("ix_deadlines_deadline_s", "deadlines", ["deadline_s"])
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=42), nullable=False),
        sa.Column("budget_wei", WEI, nullable=False),
        sa.Column("cap_per_batch_wei", WEI, nullable=False),
        sa.Column("price_wei_per_million_samples", WEI, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
    )
    op.create_table(
        "nodes",
        sa.Column("node_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node", sa.String(length=42), nullable=False),
        sa.PrimaryKeyConstraint("node_index", name="pk_nodes"),
        sa.UniqueConstraint("node", name="uq_nodes_node"),
    )
    op.create_table(
        "outbox_intents",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("contract", sa.String(length=42), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "state IN ('waiting', 'signed', 'sent', 'mined', 'confirmed')", name="ck_outbox_intents_state"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_intents"),
        sa.UniqueConstraint("chain_id", "contract", "kind", "subject", name="uq_outbox_intents_chain_id"),
    )
    op.create_table(
        "withdrawn",
        sa.Column("intent_id", ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(["intent_id"], ["outbox_intents.id"], name="fk_withdrawn_intent_id"),
        sa.PrimaryKeyConstraint("intent_id", name="pk_withdrawn"),
    )
    op.create_table(
        "credits",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("node_index", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("amount_wei", WEI, nullable=False),
        sa.Column("held_wei", WEI, nullable=False),
        sa.ForeignKeyConstraint(["node_index"], ["nodes.node_index"], name="fk_credits_node_index"),
        sa.PrimaryKeyConstraint("id", name="pk_credits"),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("node_index", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("transfers_before", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at_s", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["node_index"], ["nodes.node_index"], name="fk_decisions_node_index"),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
    )
    op.create_table(
        "draws",
        sa.Column("batch_id", ROW_ID, nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("amount_wei", WEI, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_draws_batch_id"),
        sa.PrimaryKeyConstraint("batch_id", "job_id", name="pk_draws"),
    )
    op.create_table(
        "entries",
        sa.Column("batch_id", ROW_ID, nullable=False),
        sa.Column("node_index", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.String(length=42), nullable=False),
        sa.Column("cumulative_gwei", WEI, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_entries_batch_id"),
        sa.ForeignKeyConstraint(["node_index"], ["nodes.node_index"], name="fk_entries_node_index"),
        sa.PrimaryKeyConstraint("batch_id", "node_index", name="pk_entries"),
    )
    op.create_table(
        "outbox_signed",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("intent_id", ROW_ID, nullable=False),
        sa.Column("sender", sa.String(length=42), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.String(length=64), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("max_fee_wei", WEI, nullable=False),
        sa.Column("priority_fee_wei", WEI, nullable=False),
        sa.Column("signed_at_s", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["intent_id"], ["outbox_intents.id"], name="fk_outbox_signed_intent_id"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_signed"),
        sa.UniqueConstraint("tx_hash", name="uq_outbox_signed_tx_hash"),
    )
    op.create_table(
        "outcomes",
        sa.Column("batch_id", ROW_ID, nullable=False),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("recorded_at_s", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("outcome IN ('posted', 'void')", name="ck_outcomes_outcome"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_outcomes_batch_id"),
        sa.PrimaryKeyConstraint("batch_id", name="pk_outcomes"),
    )
    op.create_table(
        "payouts",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("node_index", sa.BigInteger(), nullable=False),
        sa.Column("payout", sa.String(length=42), nullable=False),
        sa.Column("from_batch", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["node_index"], ["nodes.node_index"], name="fk_payouts_node_index"),
        sa.PrimaryKeyConstraint("id", name="pk_payouts"),
    )
    op.create_table(
        "transfers",
        sa.Column("seq", ROW_ID, nullable=False),
        sa.Column("id", sa.String(length=300), nullable=False),
        sa.Column("debit", sa.String(length=160), nullable=False),
        sa.Column("credit", sa.String(length=160), nullable=False),
        sa.Column("amount_wei", WEI, nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.String(length=8), nullable=False),
        sa.Column("pending_id", sa.String(length=300), nullable=True),
        sa.Column("recorded_at_s", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(phase IN ('post', 'void')) = (pending_id IS NOT NULL)", name="ck_transfers_resolves"),
        sa.CheckConstraint("phase IN ('single', 'pending', 'post', 'void')", name="ck_transfers_phase"),
        sa.CheckConstraint("debit <> credit", name="ck_transfers_two_accounts"),
        sa.ForeignKeyConstraint(["credit"], ["accounts.name"], name="fk_transfers_credit"),
        sa.ForeignKeyConstraint(["debit"], ["accounts.name"], name="fk_transfers_debit"),
        sa.ForeignKeyConstraint(["pending_id"], ["transfers.id"], name="fk_transfers_pending_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_transfers"),
        sa.UniqueConstraint("id", name="uq_transfers_id"),
        sa.UniqueConstraint("pending_id", name="uq_transfers_pending_id"),
    )
    for column in ("debit", "credit"):
        op.create_index(f"ix_transfers_{column}", "transfers", [column])
