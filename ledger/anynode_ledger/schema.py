"""The ledger's tables as the newest migration leaves them, and the exact column type for amounts.

Wei exceed 64 bits: SQLite keeps them as zero-padded decimal text, PostgreSQL as NUMERIC(78, 0). No float anywhere,
and no sum in SQL: balances are folded in Python integers (``accounts.Balances``).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

WEI_DIGITS = 78  # 2**256 has 78 decimal digits
WEI_MAX = 2**256 - 1


class Wei(TypeDecorator[int]):
    """A non-negative integer below 2**256, stored exactly."""

    impl = String(WEI_DIGITS)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Numeric(WEI_DIGITS, 0))
        return dialect.type_descriptor(String(WEI_DIGITS))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if type(value) is not int or not 0 <= value <= WEI_MAX:
            raise ValueError(f"{value!r} is no amount: an integer from 0 below 2**256 is needed")
        return Decimal(value) if dialect.name == "postgresql" else str(value).zfill(WEI_DIGITS)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


# BIGINT does not count up by itself in SQLite, INTEGER (64 bits there) does
RowId = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

nodes = Table(
    "nodes",
    metadata,
    Column("node_index", BigInteger, primary_key=True, autoincrement=False),
    Column("node", String(42), nullable=False, unique=True),
)

payouts = Table(  # the newest row of a node counts; from_batch = first batch row whose entry may use it
    "payouts",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("node_index", ForeignKey("nodes.node_index"), nullable=False),
    Column("payout", String(42), nullable=False),
    Column("from_batch", BigInteger, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("owner", String(42), nullable=False),
    Column("budget_wei", Wei, nullable=False),
    Column("cap_per_batch_wei", Wei, nullable=False),
    Column("price_wei_per_million_samples", Wei, nullable=False),
)

deadlines = Table(  # when a job ends on the chain; a cancellation adds an earlier one
    "deadlines",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("deadline_s", BigInteger, primary_key=True, autoincrement=False, index=True),
)

accounts = Table(
    "accounts",
    metadata,
    Column("name", String(160), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("node_index", BigInteger),
    Column("job_id", String(64)),
)

transfers = Table(
    "transfers",
    metadata,
    Column("seq", RowId, primary_key=True),
    Column("id", String(300), nullable=False, unique=True),
    Column("debit", ForeignKey("accounts.name"), nullable=False, index=True),
    Column("credit", ForeignKey("accounts.name"), nullable=False, index=True),
    Column("amount_wei", Wei, nullable=False),
    Column("reason", String(16), nullable=False),
    Column("phase", String(8), nullable=False),
    Column("pending_id", ForeignKey("transfers.id"), unique=True),
    Column("recorded_at_s", BigInteger, nullable=False),
    CheckConstraint("debit <> credit", name="two_accounts"),
    CheckConstraint("phase IN ('single', 'pending', 'post', 'void')", name="phase"),
    CheckConstraint("(phase IN ('post', 'void')) = (pending_id IS NOT NULL)", name="resolves"),
)

credited = Table(
    "credits",
    metadata,
    Column("id", String(160), primary_key=True),
    Column("job_id", String(64), nullable=False),
    Column("round", BigInteger, nullable=False),
    Column("node_index", ForeignKey("nodes.node_index"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("amount_wei", Wei, nullable=False),
    Column("held_wei", Wei, nullable=False),
)

decisions = Table(  # what was decided about whose pay, once per id: slashes, appeals, releases, ends of jobs
    "decisions",
    metadata,
    Column("id", String(160), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("job_id", String(64), nullable=False),
    Column("node_index", ForeignKey("nodes.node_index")),
    Column("reason", Text, nullable=False),
    Column("transfers_before", BigInteger, nullable=False),
    Column("recorded_at_s", BigInteger, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("distributor", String(42), nullable=False),
    Column("root", String(64), nullable=False),
    Column("total_gwei", Wei, nullable=False),
    Column("data_hash", String(64), nullable=False),
    Column("ledger_hash", String(64), nullable=False),
    Column("transfers_before", BigInteger, nullable=False),
    Column("recorded_at_s", BigInteger, nullable=False),
    UniqueConstraint("number", "attempt"),
)

entries = Table(
    "entries",
    metadata,
    Column("batch_id", ForeignKey("batches.id"), primary_key=True),
    Column("node_index", ForeignKey("nodes.node_index"), primary_key=True),
    Column("account", String(42), nullable=False),
    Column("cumulative_gwei", Wei, nullable=False),
)

draws = Table(
    "draws",
    metadata,
    Column("batch_id", ForeignKey("batches.id"), primary_key=True),
    Column("job_id", String(64), primary_key=True),
    Column("amount_wei", Wei, nullable=False),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("batch_id", ForeignKey("batches.id"), primary_key=True),
    Column("outcome", String(8), nullable=False),
    Column("recorded_at_s", BigInteger, nullable=False),
    CheckConstraint("outcome IN ('posted', 'void')", name="outcome"),
)

outbox_intents = Table(
    "outbox_intents",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("contract", String(42), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("subject", String(160), nullable=False),
    Column("arguments", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("note", Text, nullable=False),
    UniqueConstraint("chain_id", "contract", "kind", "subject"),
    CheckConstraint("state IN ('waiting', 'signed', 'sent', 'mined', 'confirmed')", name="state"),
)

withdrawn = Table(  # intents that are not carried out any more
    "withdrawn",
    metadata,
    Column("intent_id", ForeignKey("outbox_intents.id"), primary_key=True),
)

outbox_signed = Table(  # every raw transaction that may ever have left this machine
    "outbox_signed",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("intent_id", ForeignKey("outbox_intents.id"), nullable=False),
    Column("sender", String(42), nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("tx_hash", String(64), nullable=False, unique=True),
    Column("raw", Text, nullable=False),
    Column("max_fee_wei", Wei, nullable=False),
    Column("priority_fee_wei", Wei, nullable=False),
    Column("signed_at_s", BigInteger, nullable=False),
)

chain_blocks = Table(  # block headers not yet buried under a posted one; rewound on a reorganisation
    "chain_blocks",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
    Column("parent_hash", String(64), nullable=False),
    Column("timestamp_s", BigInteger, nullable=False),
    Column("posted", Integer, nullable=False),
)

chain_events = Table(
    "chain_events",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False),
    Column("block_hash", String(64), primary_key=True),
    Column("log_index", BigInteger, primary_key=True, autoincrement=False),
    Column("block_number", BigInteger, nullable=False),
    Column("contract", String(42), nullable=False),
    Column("name", String(40), nullable=False),
    Column("transaction_hash", String(64), nullable=False),
    Column("topics", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("timestamp_s", BigInteger, nullable=False),
)

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
    "withdrawn",
    "outbox_signed",
)
