"""Batches in the book: settle what accrued, then post or void it as the chain decides, and book claims.

Settling writes the pending transfers, the batch, its entries and draws, and the outbox's intents in one transaction:
either all of it exists, and the outbox will carry it out, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, func, insert, select

from anynode_contracts.entries import GWEI, Entry
from anynode_contracts.errors import RefusedError, invariant
from anynode_contracts.networks import Network
from anynode_ledger import accounts as chart
from anynode_ledger import schema
from anynode_ledger.accounts import Transfer
from anynode_ledger.batch import (
    NO_HISTORY,
    Batch,
    BatchState,
    Payee,
    Settlement,
    build_batch,
    caps_left,
    drawn_so_far,
    extend_history,
    next_number,
    plan_settlement,
    worth_posting,
)
from anynode_ledger.book import Book
from anynode_ledger.earning import closed_jobs, released_jobs
from anynode_ledger.intents import Intent, intents, queue, signed_for, withdraw
from anynode_ledger.journal import Journal
from anynode_ledger.registry import newest_payouts


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch with its row id (which counts all attempts), its state, and how many transfers came before it."""

    id: int
    batch: Batch
    state: BatchState
    transfers_before: int


def settle(book: Book, network: Network) -> Batch | None:
    """Settle everything accrued into the next batch and queue its transactions; None when there is nothing to pay.

    Queued in this order: one draw per job, the finalisation of every closed job that is settled completely, the root.
    Raises ``RefusedError`` while the former batch is pending, or if the ledger belongs to another chain.
    """
    with book.write() as journal:
        earlier = stored_batches(journal)
        _check_can_settle(earlier, network)
        number, attempt = next_number([(stored.batch, stored.state) for stored in earlier])
        batches = [stored.batch for stored in earlier]
        plan = plan_settlement(
            number,
            attempt,
            journal.balances,
            drawn_so_far(batches),
            caps_left(caps(journal), batches, number),
            daily_cap_gwei=network.daily_cap_gwei,
        )
        batch = None
        closed = closed_jobs(journal)
        if worth_posting(plan, journal.balances, closed):
            batch = _book_batch(journal, network, earlier, plan, (number, attempt))
        for job_id in sorted(closed):
            _queue_finalisation(journal, network, job_id)
        if batch is not None:
            _queue_root(journal, network, batch)
        return batch


def resolve(journal: Journal, stored: StoredBatch, outcome: BatchState) -> None:
    """Post a batch whose root is active and final, or void a vetoed one. An outcome never changes."""
    table = schema.outcomes
    known = journal.connection.execute(select(table.c.outcome).where(table.c.batch_id == stored.id)).scalar()
    if known is not None:
        invariant(known == outcome, f"batch {stored.batch.number} is {known} already, it cannot become {outcome}")
        return
    prefix = f"settle/{stored.batch.number}.{stored.batch.attempt}/"
    pending = [transfer for transfer in journal.balances.pending.values() if transfer.id.startswith(prefix)]
    journal.append_new(transfer.resolved("post" if outcome == "posted" else "void") for transfer in pending)
    journal.connection.execute(insert(table).values(batch_id=stored.id, outcome=outcome, recorded_at_s=journal.now_s))


def abandon(journal: Journal, job_id: str) -> None:
    """A planned draw from the job's escrow can never be made: void the batch that waits for it, and settle anew.

    The other draws of the batch go on, and count; what was meant to follow from the lost one is withdrawn. A root that
    has been signed has had all its draws: it is not touched.
    """
    is_open = {(status.intent.kind, status.intent.subject): status for status in intents(journal, open_only=True)}
    for (kind, subject), status in is_open.items():
        if kind == "draw" and subject.startswith(f"{job_id}/"):
            withdraw(journal, status.id, "the job's escrow pays nothing more")
    for stored in stored_batches(journal, newest=1):
        root = is_open.get(("postRoot", f"{stored.batch.number}.{stored.batch.attempt}"))
        if stored.state == "pending" and root is not None and not signed_for(journal, root.id):
            withdraw(journal, root.id, "the batch is settled anew, without a job whose escrow pays nothing more")
            resolve(journal, stored, "void")


def book_claim(journal: Journal, node_index: int, cumulative_gwei: int, transfer_id: str) -> None:
    """The node was paid up to ``cumulative_gwei``: move the difference from payable to paid."""
    if journal.has(transfer_id):
        return
    amount = cumulative_gwei * GWEI - journal.balances.available_wei(chart.paid(node_index))
    payable = journal.balances.available_wei(chart.payable(node_index))
    if not 0 < amount <= payable:
        raise RefusedError(
            f"the chain paid node {node_index} {amount} wei, but this ledger has {payable} wei payable to it; open the"
            " ledger that posted these roots, or restore it from its newest copy"
        )
    journal.append(Transfer(transfer_id, chart.payable(node_index), chart.paid(node_index), amount, "claim"))
    wallets, distributor = chart.CUSTODY_WALLETS, chart.CUSTODY_DISTRIBUTOR
    journal.append(Transfer(f"{transfer_id}/tokens", wallets, distributor, amount, "hand_over"))


def batches_of(book: Book, *conditions: ColumnElement[bool], newest: int | None = None) -> list[StoredBatch]:
    """Batches, oldest first: all, those that meet the conditions, or only the newest of them."""
    with book.read() as journal:
        return stored_batches(journal, *conditions, newest=newest)


def stored_batches(journal: Journal, *conditions: ColumnElement[bool], newest: int | None = None) -> list[StoredBatch]:
    """The same inside an open transaction."""
    connection, table = journal.connection, schema.batches
    rows = list(connection.execute(select(table).where(*conditions).order_by(table.c.id.desc()).limit(newest)))
    ids = [row.id for row in rows]
    entries: dict[int, list[Entry]] = {}
    found = select(schema.entries).where(schema.entries.c.batch_id.in_(ids)).order_by(schema.entries.c.node_index)
    for row in connection.execute(found):
        entries.setdefault(row.batch_id, []).append(Entry(row.node_index, row.account, row.cumulative_gwei))
    draws: dict[int, dict[str, int]] = {}
    for row in connection.execute(select(schema.draws).where(schema.draws.c.batch_id.in_(ids))):
        draws.setdefault(row.batch_id, {})[row.job_id] = row.amount_wei
    outcomes = {row.batch_id: row.outcome for row in connection.execute(select(schema.outcomes))}
    return [
        StoredBatch(
            row.id,
            _batch_of(row, entries.get(row.id, []), draws.get(row.id, {})),
            outcomes.get(row.id, "pending"),
            row.transfers_before,
        )
        for row in reversed(rows)
    ]


def done_jobs(journal: Journal) -> set[str]:
    """The jobs that have ended, and of which no close is left to be settled: it has queued the escrow's last word."""
    table = schema.outbox_intents
    finalised = select(table.c.subject).where(table.c.kind == "finalise")
    lapsed = released_jobs(journal) - closed_jobs(journal)
    return set(journal.connection.execute(finalised).scalars()) | lapsed


def is_current() -> ColumnElement[bool]:
    """Condition: the last attempt of its number."""
    table = schema.batches
    return table.c.id.in_(select(func.max(table.c.id)).group_by(table.c.number))


def is_posted() -> ColumnElement[bool]:
    """Condition: active and final."""
    table = schema.outcomes
    return schema.batches.c.id.in_(select(table.c.batch_id).where(table.c.outcome == "posted"))


def has_root(journal: Journal, number: int, root: str, data_hash: str) -> bool:
    """Whether a batch that is not void leads to this root."""
    table, outcomes = schema.batches, schema.outcomes
    void = select(outcomes.c.batch_id).where(outcomes.c.outcome == "void")
    query = select(table.c.id).where(table.c.number == number, table.c.root == root, table.c.data_hash == data_hash)
    return journal.connection.execute(query.where(table.c.id.not_in(void))).first() is not None


def caps(journal: Journal) -> dict[str, int]:
    """The cap per batch of every job whose terms are recorded, in wei."""
    return {row.job_id: row.cap_per_batch_wei for row in journal.connection.execute(select(schema.jobs))}


def _batch_of(row: Row[Any], entries: Sequence[Entry], draws: dict[str, int]) -> Batch:
    return Batch(
        number=row.number,
        attempt=row.attempt,
        chain_id=row.chain_id,
        distributor=row.distributor,
        entries=tuple(entries),
        root=row.root,
        total_gwei=row.total_gwei,
        data_hash=row.data_hash,
        ledger_hash=row.ledger_hash,
        draws=draws,
    )


def _check_can_settle(earlier: Sequence[StoredBatch], network: Network) -> None:
    if not earlier:
        return
    newest = earlier[-1]
    here = (newest.batch.chain_id, newest.batch.distributor)
    if here != (network.chain_id, network.distributor):
        raise RefusedError(
            f"this ledger posts to {here[1]} on chain {here[0]}, not to {network.distributor} on chain"
            f" {network.chain_id}; open the ledger of that network"
        )
    if newest.state == "pending":
        raise RefusedError(f"batch {newest.batch.number} is not final yet; settle again when its root is active")


def _book_batch(
    journal: Journal,
    network: Network,
    earlier: Sequence[StoredBatch],
    plan: Settlement,
    numbered: tuple[int, int],
) -> Batch:
    number, attempt = numbered
    before = journal.balances.count
    drawn = drawn_so_far(stored.batch for stored in earlier)
    former = earlier[-1] if earlier else None
    history = extend_history(
        former.batch.ledger_hash if former else NO_HISTORY,
        journal.transfers_from(former.transfers_before if former else 0),
    )
    journal.append_new(plan.transfers)
    batch = build_batch(
        number,
        network.chain_id,
        network.distributor,
        _payees(journal),
        attempt=attempt,
        ledger_hash=history,
        draws=plan.draws,
    )
    connection = journal.connection
    row = connection.execute(
        insert(schema.batches).values(
            number=number,
            attempt=attempt,
            chain_id=batch.chain_id,
            distributor=batch.distributor,
            root=batch.root,
            total_gwei=batch.total_gwei,
            data_hash=batch.data_hash,
            ledger_hash=batch.ledger_hash,
            transfers_before=before,
            recorded_at_s=journal.now_s,
        )
    )
    batch_id = row.inserted_primary_key[0] if row.inserted_primary_key else None
    invariant(batch_id is not None, "the database gave the batch no row id")
    rows = [
        {
            "batch_id": batch_id,
            "node_index": entry.index,
            "account": entry.account,
            "cumulative_gwei": entry.cumulative_gwei,
        }
        for entry in batch.entries
    ]
    connection.execute(insert(schema.entries), rows)
    for job_id, amount in batch.draws.items():
        connection.execute(insert(schema.draws).values(batch_id=batch_id, job_id=job_id, amount_wei=amount))
        subject = f"{job_id}/{number}.{attempt}"
        arguments = {
            "job_id": job_id,
            "batch": number,
            "amount_wei": str(amount),
            "drawn_before_wei": str(drawn.get(job_id, 0)),
        }
        queue(journal, Intent(network.chain_id, network.escrow, "draw", subject, arguments))
    return batch


def _payees(journal: Journal) -> list[Payee]:
    indices = [account.node_index for account in journal.balances.of_kind("payable")]
    payouts = newest_payouts(journal)
    return [Payee(index, payouts[index], journal.balances.earned_wei(index)) for index in indices if index is not None]


def _queue_finalisation(journal: Journal, network: Network, job_id: str) -> None:
    """The escrow's last word on a closed job, once nothing of it is left to settle."""
    balances = journal.balances
    if balances.sum_wei("accrued", job_id=job_id) or balances.sum_wei("held_back", job_id=job_id):
        return
    table = schema.outbox_intents
    query = select(table.c.id).where(table.c.kind == "finalise", table.c.subject == job_id)
    if journal.connection.execute(query).first() is not None:
        return
    final = 0
    for stored in stored_batches(journal):
        prefix = f"settle/{stored.batch.number}.{stored.batch.attempt}/"
        rows = journal.connection.execute(
            select(schema.transfers.c.id)
            .where(schema.transfers.c.id.startswith(prefix, autoescape=True))
            .where(schema.transfers.c.id.contains(f"/{job_id}", autoescape=True))
        )
        if job_id in stored.batch.draws or rows.first() is not None:
            final = max(final, stored.batch.number)
    arguments = {"job_id": job_id, "final_batch": final}
    queue(journal, Intent(network.chain_id, network.escrow, "finalise", job_id, arguments))


def _queue_root(journal: Journal, network: Network, batch: Batch) -> None:
    subject = f"{batch.number}.{batch.attempt}"
    arguments = {
        "batch": batch.number,
        "root": batch.root,
        "total_gwei": str(batch.total_gwei),
        "data_hash": batch.data_hash,
    }
    queue(journal, Intent(network.chain_id, network.distributor, "postRoot", subject, arguments))
