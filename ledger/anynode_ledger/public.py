"""The public ledger: one canonical file from which anybody rebuilds every balance and every root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import func, select

from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError
from anynode_contracts.files import write_aside
from anynode_ledger import schema
from anynode_ledger.book import Book
from anynode_ledger.journal import Journal, transfer_of
from anynode_ledger.settlement import stored_batches

FILE_NAME = "ledger.json"
ROWS_MAX = 10_000_000

Amount = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,77})$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Index = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class PublicPayout(_Record):
    """A payout address and the first batch row whose entry may name it."""

    payout: Address
    from_batch: Count


class PublicNode(_Record):
    """A registered node and its payout addresses, oldest first."""

    index: Index
    node: Address
    payouts: Annotated[list[PublicPayout], Field(min_length=1, max_length=ROWS_MAX)]


class PublicJob(_Record):
    """A job's terms; amounts are decimal strings."""

    job_id: Hash
    owner: Address
    budget_wei: Amount
    cap_per_batch_wei: Amount
    price_wei_per_million_samples: Amount


class PublicCredit(_Record):
    """What a node earned in a round; ``held_wei`` of it was held back."""

    id: Name
    job_id: Hash
    round: Count
    node_index: Index
    kind: Literal["samples", "audit", "reducing"]
    amount_wei: Amount
    held_wei: Amount


class PublicDecision(_Record):
    """A slash, what came of the appeal against one, a release or the end of a job, with its reason in words.

    ``transfers_before``: how many of the list came before it.
    """

    id: Name
    kind: Literal["slash", "reinstate", "repay", "release", "close"]
    job_id: Hash
    node_index: Index | None
    reason: Annotated[str, StringConstraints(max_length=10_000)]
    transfers_before: Count


class PublicTransfer(_Record):
    """One row of the journal; the list's order is the order in which they were booked."""

    id: Name
    debit: Name
    credit: Name
    amount_wei: Amount
    reason: Name
    phase: Literal["single", "pending", "post", "void"]
    pending_id: Name | None


class PublicEntry(_Record):
    """One entry of a root."""

    index: Index
    account: Address
    cumulative_gwei: Amount


class PublicBatch(_Record):
    """A batch, and how many transfers of the list came before it."""

    number: Count
    attempt: Count
    chain_id: Count
    distributor: Address
    root: Hash
    total_gwei: Amount
    data_hash: Hash
    ledger_hash: Hash
    transfers_before: Count
    state: Literal["pending", "posted", "void"]
    entries: Annotated[list[PublicEntry], Field(max_length=ROWS_MAX)]
    draws: Annotated[dict[Hash, Amount], Field(max_length=ROWS_MAX)]


class PublicLedger(_Record):
    """The whole file. Read by ``rebuild``."""

    format: Literal["anynode/ledger/1"]
    nodes: Annotated[list[PublicNode], Field(max_length=ROWS_MAX)]
    jobs: Annotated[list[PublicJob], Field(max_length=ROWS_MAX)]
    credits: Annotated[list[PublicCredit], Field(max_length=ROWS_MAX)]
    decisions: Annotated[list[PublicDecision], Field(max_length=ROWS_MAX)]
    transfers: Annotated[list[PublicTransfer], Field(max_length=ROWS_MAX)]
    batches: Annotated[list[PublicBatch], Field(max_length=ROWS_MAX)]


def public_ledger(book: Book) -> PublicLedger:
    """Everything public, as of one moment. Raises ``RefusedError`` for a ledger that is too long."""
    with book.read() as journal:
        return public_rows(journal)


def public_rows(journal: Journal, *, rows_max: int = ROWS_MAX) -> PublicLedger:
    """The same inside an open transaction. Raises ``RefusedError`` for a ledger that is too long."""
    _check_length(journal, rows_max)
    return PublicLedger(
        format="anynode/ledger/1",
        nodes=_nodes(journal),
        jobs=[
            PublicJob(
                job_id=row.job_id,
                owner=row.owner,
                budget_wei=str(row.budget_wei),
                cap_per_batch_wei=str(row.cap_per_batch_wei),
                price_wei_per_million_samples=str(row.price_wei_per_million_samples),
            )
            for row in journal.connection.execute(select(schema.jobs).order_by(schema.jobs.c.job_id))
        ],
        credits=_credits(journal),
        decisions=_decisions(journal),
        transfers=[
            PublicTransfer.model_validate(transfer_of(row).record())
            for row in journal.connection.execute(select(schema.transfers).order_by(schema.transfers.c.seq))
        ],
        batches=_batches(journal),
    )


def row_counts(book: Book) -> tuple[int, ...]:
    """How many rows there are of all that is public. None ever changes, so the file is the same while these are."""
    tables = (schema.nodes, schema.payouts, schema.jobs, schema.credited, schema.decisions, schema.transfers)
    with book.read() as journal:
        return tuple(
            journal.connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (*tables, schema.batches, schema.outcomes)
        )


def export_public(book: Book, folder: Path) -> Path:
    """Write ``ledger.json`` (canonical JSON, amounts as decimal strings) into ``folder``; returns its path.

    Written aside, synced and renamed. Raises ``UserError`` when the folder cannot be written.
    """
    path = folder / FILE_NAME
    write_aside(path, canonical_json(public_ledger(book).model_dump(mode="json")))
    return path


def _check_length(journal: Journal, rows_max: int) -> None:
    """Counted before anything is read: the file could not be, and the memory may not do for it."""
    for table in (schema.nodes, schema.payouts, schema.jobs, schema.credited, schema.decisions, schema.transfers):
        rows: int = journal.connection.execute(select(func.count()).select_from(table)).scalar_one()
        if rows > rows_max:
            raise RefusedError(
                f"the ledger has {rows} {table.name}, and its public file takes {rows_max}, so that no root can be"
                " rebuilt or signed any more; begin a new network with a new ledger, rewards can be claimed as before"
            )


def _nodes(journal: Journal) -> list[PublicNode]:
    payouts: dict[int, list[PublicPayout]] = {}
    for row in journal.connection.execute(select(schema.payouts).order_by(schema.payouts.c.id)):
        payout = PublicPayout(payout=row.payout, from_batch=row.from_batch)
        payouts.setdefault(row.node_index, []).append(payout)
    return [
        PublicNode(index=row.node_index, node=row.node, payouts=payouts[row.node_index])
        for row in journal.connection.execute(select(schema.nodes).order_by(schema.nodes.c.node_index))
    ]


def _credits(journal: Journal) -> list[PublicCredit]:
    table = schema.credited
    order = (table.c.job_id, table.c.round, table.c.node_index, table.c.kind)
    return [
        PublicCredit(
            id=row.id,
            job_id=row.job_id,
            round=row.round,
            node_index=row.node_index,
            kind=row.kind,
            amount_wei=str(row.amount_wei),
            held_wei=str(row.held_wei),
        )
        for row in journal.connection.execute(select(table).order_by(*order))
    ]


def _decisions(journal: Journal) -> list[PublicDecision]:
    table = schema.decisions
    return [
        PublicDecision(
            id=row.id,
            kind=row.kind,
            job_id=row.job_id,
            node_index=row.node_index,
            reason=row.reason,
            transfers_before=row.transfers_before,
        )
        for row in journal.connection.execute(select(table).order_by(table.c.id))
    ]


def _batches(journal: Journal) -> list[PublicBatch]:
    return [
        PublicBatch(
            number=stored.batch.number,
            attempt=stored.batch.attempt,
            chain_id=stored.batch.chain_id,
            distributor=stored.batch.distributor,
            root=stored.batch.root,
            total_gwei=str(stored.batch.total_gwei),
            data_hash=stored.batch.data_hash,
            ledger_hash=stored.batch.ledger_hash,
            transfers_before=stored.transfers_before,
            state=stored.state,
            entries=[
                PublicEntry(index=e.index, account=e.account, cumulative_gwei=str(e.cumulative_gwei))
                for e in stored.batch.entries
            ],
            draws={job_id: str(amount) for job_id, amount in stored.batch.draws.items()},
        )
        for stored in stored_batches(journal)
    ]
