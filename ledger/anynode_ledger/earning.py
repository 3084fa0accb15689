"""Credits, slashes and releases: how a job's money becomes a node's, and comes back. Inside an open transaction."""

from __future__ import annotations

from sqlalchemy import insert, select

from anynode_contracts.errors import RefusedError, invariant
from anynode_ledger import accounts as chart
from anynode_ledger import schema
from anynode_ledger.accounts import Transfer
from anynode_ledger.journal import Journal
from anynode_ledger.pay import Credit, credit_id
from anynode_ledger.registry import node_key


def is_closed(journal: Journal, job_id: str) -> bool:
    """Whether the job ended."""
    query = select(schema.decisions.c.id).where(schema.decisions.c.id == f"close/{job_id}")
    return journal.connection.execute(query).first() is not None


def closed_jobs(journal: Journal) -> set[str]:
    """The jobs that ended."""
    query = select(schema.decisions.c.job_id).where(schema.decisions.c.kind == "close")
    return {row.job_id for row in journal.connection.execute(query)}


def credit(journal: Journal, earned: Credit, held_back_limit_wei: int) -> int:
    """Book one credit, part of it held back; the newly booked wei."""
    table = schema.credited
    row = journal.connection.execute(select(table).where(table.c.id == earned.id)).first()
    if row is not None:
        same = (row.job_id, row.round, row.node_index, row.kind, row.amount_wei)
        invariant(
            same == (earned.job_id, earned.round, earned.node_index, earned.kind, earned.amount_wei),
            f"credit {earned.id!r} is already booked with another content",
        )
        return 0
    own_id = credit_id(earned.job_id, earned.round, earned.node_index, earned.kind)
    invariant(earned.id == own_id, f"credit {earned.id!r} should be called {own_id!r}, so that it is paid once")
    invariant(earned.amount_wei > 0, f"credit {earned.id!r} is not positive")
    node_key(journal, earned.node_index)
    invariant(not is_closed(journal, earned.job_id), f"credit {earned.id!r} comes after the end of its job")
    left = journal.balances.available_wei(chart.escrow(earned.job_id))
    if earned.amount_wei > left:
        raise RefusedError(
            f"job {earned.job_id[:16]}… has {left} wei left and owes {earned.amount_wei} wei for round {earned.round};"
            " fund its escrow, or close the job"
        )
    held_now = journal.balances.sum_wei("held_back", node_index=earned.node_index)
    held = min(earned.amount_wei, max(0, held_back_limit_wei - held_now))
    for kind, name, amount in (
        ("held_back", chart.held_back(earned.node_index, earned.job_id), held),
        ("accrued", chart.accrued(earned.node_index, earned.job_id), earned.amount_wei - held),
    ):
        if amount:
            source = chart.escrow(earned.job_id)
            journal.append(Transfer(f"credit/{earned.id}/{kind}", source, name, amount, "credit"))
    journal.connection.execute(
        insert(table).values(
            id=earned.id,
            job_id=earned.job_id,
            round=earned.round,
            node_index=earned.node_index,
            kind=earned.kind,
            amount_wei=earned.amount_wei,
            held_wei=held,
        )
    )
    return earned.amount_wei


def release(journal: Journal, job_id: str, release_id: str) -> int:
    """Let what is held back in the job accrue; the wei, or 0 if this release was booked before."""
    if not journal.decide(release_id, "release", job_id, None, "held-back pay is released"):
        return 0
    released = 0
    for account in journal.balances.of_kind("held_back", job_id=job_id):
        amount = journal.balances.available_wei(account.name)
        if account.node_index is not None and amount:
            target = chart.accrued(account.node_index, job_id)
            transfer_id = f"release/{release_id}/{account.node_index}"
            journal.append(Transfer(transfer_id, account.name, target, amount, "release"))
            released += amount
    return released


def slash(journal: Journal, node_index: int, job_id: str, reason: str, slash_id: str) -> int:
    """Return what is held back and accrued to the job; the wei, or 0 if this slash was booked before."""
    node_key(journal, node_index)
    if not journal.decide(slash_id, "slash", job_id, node_index, reason):
        return 0
    taken = 0
    for kind, name in (
        ("held_back", chart.held_back(node_index, job_id)),
        ("accrued", chart.accrued(node_index, job_id)),
    ):
        amount = journal.balances.available_wei(name)
        if amount:
            away = chart.slashed(node_index, job_id)
            journal.append(Transfer(f"slash/{slash_id}/{kind}", name, away, amount, "slash"))
            taken += amount
    if taken:
        away = chart.slashed(node_index, job_id)
        journal.append(Transfer(f"restore/{slash_id}", away, chart.escrow(job_id), taken, "restore"))
    return taken
