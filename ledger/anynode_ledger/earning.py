"""Credits, slashes, appeals and releases: how a job's money becomes a node's, and comes back. Inside a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import func, insert, select

from anynode_contracts.errors import RefusedError, invariant
from anynode_ledger import accounts as chart
from anynode_ledger import schema
from anynode_ledger.accounts import Transfer
from anynode_ledger.decided import (
    AmountOf,
    appeal_against,
    charge,
    reinstate_transfers,
    release_transfers,
    repay_transfers,
    slash_transfers,
    taken_wei,
)
from anynode_ledger.journal import Journal
from anynode_ledger.pay import Credit, credit_id
from anynode_ledger.registry import known_indices, node_key

_IDS_AT_ONCE = 500  # asked for in one statement


def is_closed(journal: Journal, job_id: str) -> bool:
    """Whether the job is closed."""
    query = select(schema.decisions.c.id).where(schema.decisions.c.id == f"close/{job_id}")
    return journal.connection.execute(query).first() is not None


def last_release(job_id: str) -> str:
    """The id of the release after which nothing more is booked for a job: closing it is one, and where its escrow has
    lapsed before its rounds were booked, there is this alone.
    """
    return f"release/{job_id}"


def has_ended(journal: Journal, job_id: str) -> bool:
    """Whether nothing more is booked for the job."""
    query = select(schema.decisions.c.id).where(schema.decisions.c.id == last_release(job_id))
    return journal.connection.execute(query).first() is not None


def released_jobs(journal: Journal) -> set[str]:
    """The jobs for which nothing more is booked."""
    table = schema.decisions
    rows = journal.connection.execute(select(table.c.id, table.c.job_id).where(table.c.kind == "release"))
    return {row.job_id for row in rows if row.id == last_release(row.job_id)}


def closed_jobs(journal: Journal) -> set[str]:
    """The jobs that are closed."""
    query = select(schema.decisions.c.job_id).where(schema.decisions.c.kind == "close")
    return {row.job_id for row in journal.connection.execute(query)}


def credit(journal: Journal, earned: Sequence[Credit], held_back_limit_wei: int) -> int:
    """Book credits, part of them held back; the newly booked wei. What is booked already is passed over."""
    rows: list[dict[str, Any]] = []
    new = _not_booked(journal, earned)
    journal.append_new(_credit_transfers(journal, new, held_back_limit_wei, rows))
    if rows:
        journal.connection.execute(insert(schema.credited), rows)
    return sum(row["amount_wei"] for row in rows)


def _not_booked(journal: Journal, earned: Sequence[Credit]) -> list[Credit]:
    """The credits that are new, after all of them were looked at."""
    table, booked = schema.credited, dict[str, Credit]()
    for start in range(0, len(earned), _IDS_AT_ONCE):
        ids = [one.id for one in earned[start : start + _IDS_AT_ONCE]]
        for row in journal.connection.execute(select(table).where(table.c.id.in_(ids))):
            booked[row.id] = Credit(row.id, row.job_id, row.round, row.node_index, row.kind, row.amount_wei)
    new = []
    for one in earned:
        if one.id in booked:
            invariant(booked[one.id] == one, f"credit {one.id!r} is already booked with another content")
            continue
        booked[one.id] = one
        own_id = credit_id(one.job_id, one.round, one.node_index, one.kind)
        invariant(one.id == own_id, f"credit {one.id!r} should be called {own_id!r}, so that it is paid once")
        invariant(one.amount_wei > 0, f"credit {one.id!r} is not positive")
        new.append(one)
    known = known_indices(journal)
    for index in {one.node_index for one in new} - known:
        node_key(journal, index)  # says what is missing
    for job_id in {one.job_id for one in new}:
        _require_open(journal, job_id)
        _require_funded(journal, job_id, [one for one in new if one.job_id == job_id])
    return new


def _credit_transfers(
    journal: Journal, new: Sequence[Credit], held_back_limit_wei: int, rows: list[dict[str, Any]]
) -> Iterator[Transfer]:
    """The transfers of each credit, from the balances that those before it have left; its own row goes to ``rows``."""
    balances = journal.balances
    for one in new:
        source = chart.escrow(one.job_id)
        held_now = balances.sum_wei("held_back", node_index=one.node_index)
        held = min(one.amount_wei, max(0, held_back_limit_wei - held_now))
        if one.kind == "audit":
            fee = charge(one.job_id, one.amount_wei, one.id)
            source = fee.credit
            yield fee
        if held:
            target = chart.held_back(one.node_index, one.job_id)
            yield Transfer(f"credit/{one.id}/held_back", source, target, held, "credit")
        if held < one.amount_wei:
            target = chart.accrued(one.node_index, one.job_id)
            yield Transfer(f"credit/{one.id}/accrued", source, target, one.amount_wei - held, "credit")
        rows.append(
            {
                "id": one.id,
                "job_id": one.job_id,
                "round": one.round,
                "node_index": one.node_index,
                "kind": one.kind,
                "amount_wei": one.amount_wei,
                "held_wei": held,
            }
        )


def release(journal: Journal, job_id: str, release_id: str) -> int:
    """Let what is held back in the job accrue; the wei, or 0 if this release was booked before."""
    if not journal.decide(release_id, "release", job_id, None, "held-back pay is released"):
        return 0
    return _book(journal, release_transfers(journal.balances, job_id, release_id), "release")


def slash(journal: Journal, node_index: int, job_id: str, reason: str, slash_id: str) -> int:
    """Return what is held back and accrued to the job; the wei, or 0 if this slash was booked before."""
    node_key(journal, node_index)
    if not journal.decide(slash_id, "slash", job_id, node_index, reason):
        return 0
    return _book(journal, slash_transfers(journal.balances, node_index, job_id, slash_id), "slash")


def reinstate(journal: Journal, node_index: int, job_id: str, slash_id: str) -> int:
    """Give back what a slash has taken, to where it was; the wei, or 0 if that was booked before.

    All of it or nothing: raises ``RefusedError`` for a job that has ended, or whose escrow does not hold it any more.
    """
    decision_id = appeal_against(slash_id)
    if not journal.decide(decision_id, "reinstate", job_id, node_index, "the appeal against the rejection is granted"):
        return 0
    _require_open(journal, job_id)
    moves = reinstate_transfers(_amounts(journal), node_index, job_id, decision_id)
    due, left = sum(move.amount_wei for move in moves), journal.balances.available_wei(chart.escrow(job_id))
    if due > left:
        raise RefusedError(
            f"job {job_id[:16]}… has {left} wei left and owes {due} wei to node {node_index}, whose appeal is granted;"
            " fund its escrow, which takes money until the job's deadline"
        )
    return _book(journal, moves, "reinstate")


def repay(journal: Journal, auditor_index: int, job_id: str, slash_id: str, cost_wei: int) -> int:
    """Pay the replay of an appeal that was upheld out of what the slash has taken, as far as the escrow still holds
    that; the wei. Raises ``RefusedError`` for a job that has ended.
    """
    decision_id = appeal_against(slash_id)
    if not journal.decide(decision_id, "repay", job_id, auditor_index, "the appeal against the rejection is upheld"):
        return 0
    _require_open(journal, job_id)
    left = journal.balances.available_wei(chart.escrow(job_id))
    amount = min(cost_wei, taken_wei(_amounts(journal), slash_id), left)
    return _book(journal, repay_transfers(auditor_index, job_id, decision_id, amount), "repay")


def last_slash_s(journal: Journal, job_id: str) -> int:
    """When something was last slashed in a job, in seconds since 1970; 0 if never."""
    table = schema.decisions
    query = select(func.max(table.c.recorded_at_s)).where(table.c.job_id == job_id, table.c.kind == "slash")
    return int(journal.connection.execute(query).scalar() or 0)


def _require_open(journal: Journal, job_id: str) -> None:
    """What is earned after a job's last batch would be in none."""
    if has_ended(journal, job_id):
        raise RefusedError(f"job {job_id[:16]}… has ended, and nothing more is booked for it")


def _require_funded(journal: Journal, job_id: str, new: Sequence[Credit]) -> None:
    """All of these credits of a job, or none: looked at before the first of them is booked."""
    left, owed = journal.balances.available_wei(chart.escrow(job_id)), sum(one.amount_wei for one in new)
    if owed > left:
        raise RefusedError(
            f"job {job_id[:16]}… has {left} wei left and owes {owed} wei for round {new[0].round}; fund its escrow,"
            " which takes money until the job's deadline"
        )


def _book(journal: Journal, moves: Sequence[Transfer], reason: str) -> int:
    """Book the moves; the wei of those that are for ``reason``, not of what goes with them."""
    for move in moves:
        journal.append(move)
    return sum(move.amount_wei for move in moves if move.reason == reason)


def _amounts(journal: Journal) -> AmountOf:
    def amount_wei(transfer_id: str) -> int:
        query = select(schema.transfers.c.amount_wei).where(schema.transfers.c.id == transfer_id)
        return int(journal.connection.execute(query).scalar() or 0)

    return amount_wei
