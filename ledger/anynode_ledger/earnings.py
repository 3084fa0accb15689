"""What a node has earned in each job, and a job paid each node: with dates, roots and transactions of the chain.

Everything follows from the transfers; their ids name round, kind of work, batch, and the event that a claim came with.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select, union

from anynode_contracts.errors import RefusedError
from anynode_ledger import accounts as chart
from anynode_ledger import schema
from anynode_ledger.accounts import Account
from anynode_ledger.journal import Journal
from anynode_ledger.registry import node_key

#: Databases take some hundreds of values in one question.
BLOCKS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class Share:
    """What one node has had of one job, in wei. Slashed is what was not given back; in roots is what was settled.

    samples + reducing + audits + replays - slashed = held back + accrued + in roots. Times in seconds since 1970.
    """

    job_id: str
    node_index: int
    first_at_s: int
    last_at_s: int
    rounds: int = 0
    samples_wei: int = 0
    reducing_wei: int = 0
    audits_wei: int = 0
    replays_wei: int = 0
    slashed_wei: int = 0
    held_back_wei: int = 0
    accrued_wei: int = 0
    in_roots_wei: int = 0


@dataclass(frozen=True, slots=True)
class RootShare:
    """What one batch has made payable to a node, and the transaction that posted its root (None: not on the chain)."""

    batch: int
    attempt: int
    state: str
    amount_wei: int
    settled_at_s: int
    transaction: str | None


@dataclass(frozen=True, slots=True)
class ChainMove:
    """Tokens that the chain has moved, when, and by which transaction (None: its event is not in this database, and the
    time is that of the booking).
    """

    reason: str
    amount_wei: int
    moved_at_s: int
    transaction: str | None


@dataclass(frozen=True, slots=True)
class NodeEarnings:
    """One node: its share of each job, what each root has made payable, and what its claims have paid."""

    node_index: int
    node: str
    shares: tuple[Share, ...]
    roots: tuple[RootShare, ...]
    claims: tuple[ChainMove, ...]


@dataclass(frozen=True, slots=True)
class JobEarnings:
    """One job: each node's share of it, and how its money came into the escrow and out of it."""

    job_id: str
    shares: tuple[Share, ...]
    moves: tuple[ChainMove, ...]


def node_earnings(journal: Journal, node_index: int) -> NodeEarnings:
    """Raises ``RefusedError`` if the ledger does not know the node."""
    node = node_key(journal, node_index)
    rows = _rows_of(journal, schema.accounts.c.node_index, node_index)
    claims = [row for row in rows if row.reason == "claim"]
    return NodeEarnings(
        node_index=node_index,
        node=node,
        shares=_shares(journal, rows),
        roots=_roots(journal, rows),
        claims=_moves(journal, claims),
    )


def job_earnings(journal: Journal, job_id: str) -> JobEarnings:
    """Raises ``RefusedError`` where no money of the job was ever booked."""
    rows = _rows_of(journal, schema.accounts.c.job_id, job_id)
    if not rows:
        raise RefusedError(f"the ledger has booked nothing of job {job_id[:16]}…; see `anynode status` for the jobs")
    moves = [row for row in rows if row.reason in ("fund", "draw", "refund")]
    return JobEarnings(job_id=job_id, shares=_shares(journal, rows), moves=_moves(journal, moves))


@dataclass(frozen=True, slots=True)
class Origin:
    """The transaction whose event a transfer books, and the time of its block."""

    transaction: str
    at_s: int


def origins(journal: Journal, names: Iterable[str]) -> dict[str, Origin]:
    """By transfer id, where it comes from; those of no event are left out."""
    table = schema.chain_events
    wanted = {name: tuple(name.split("/")[1:4]) for name in names if name.startswith("event/")}
    chains, blocks = {int(key[0]) for key in wanted.values()}, sorted({key[1] for key in wanted.values()})
    columns = (table.c.chain_id, table.c.block_hash, table.c.log_index, table.c.transaction_hash)
    found: dict[tuple[str, ...], Origin] = {}
    for start in range(0, len(blocks), BLOCKS_PER_QUERY):
        some = blocks[start : start + BLOCKS_PER_QUERY]
        query = select(*columns, table.c.timestamp_s).where(table.c.chain_id.in_(chains), table.c.block_hash.in_(some))
        for row in journal.connection.execute(query):
            found[str(row.chain_id), row.block_hash, str(row.log_index)] = Origin(
                f"0x{row.transaction_hash}", row.timestamp_s
            )
    return {name: found[key] for name, key in wanted.items() if key in found}


def posted_in(journal: Journal) -> dict[str, str]:
    """By a batch as transfers name it (number and attempt, ``1.1``), the transaction that posted its root."""
    table = schema.chain_events
    query = select(table.c.topics, table.c.data, table.c.transaction_hash).where(table.c.name == "RootPosted")
    posted: dict[int, list[tuple[str, str]]] = {}
    for row in journal.connection.execute(query):
        posted.setdefault(int(json.loads(row.topics)[1], 16), []).append((row.data, row.transaction_hash))
    columns = (schema.batches.c.number, schema.batches.c.attempt, schema.batches.c.data_hash)
    return {
        f"{batch.number}.{batch.attempt}": f"0x{transaction_hash}"
        for batch in journal.connection.execute(select(*columns))
        for data, transaction_hash in posted.get(batch.number, ())
        if batch.data_hash in data  # which no two attempts share
    }


def _rows_of(journal: Journal, column: Any, value: object) -> list[Row[Any]]:
    """Every transfer that touches an account of a node or a job, in order."""
    table = schema.transfers
    names = select(schema.accounts.c.name).where(column == value)
    # PostgreSQL uses no index for one condition OR another with a question in it, but for each of two united ones
    touched = [select(table.c.seq).where(side.in_(names)) for side in (table.c.debit, table.c.credit)]
    return list(journal.connection.execute(select(table).where(table.c.seq.in_(union(*touched))).order_by(table.c.seq)))


def _shares(journal: Journal, rows: list[Row[Any]]) -> tuple[Share, ...]:
    of_share: dict[tuple[str, int], list[Row[Any]]] = {}
    for row in rows:
        account = _of_node_in_job(row)
        if account is not None:
            of_share.setdefault(account, []).append(row)
    return tuple(_share(journal, *account, own) for account, own in sorted(of_share.items()))


def _share(journal: Journal, job_id: str, node_index: int, rows: list[Row[Any]]) -> Share:
    """From the transfers of this node in this job, in order."""
    wei = Counter[str]()
    rounds: set[str] = set()
    for row in rows:
        match row.reason:
            case "credit":
                _, _, number, _, kind, _ = row.id.split("/")
                rounds.add(number)
                wei[kind] += row.amount_wei
            case "settle" if row.phase != "post":
                wei["settle"] += row.amount_wei if row.phase == "pending" else -row.amount_wei
            case "repay" | "slash" | "reinstate":
                wei[row.reason] += row.amount_wei
    return Share(
        job_id=job_id,
        node_index=node_index,
        first_at_s=rows[0].recorded_at_s,
        last_at_s=rows[-1].recorded_at_s,
        rounds=len(rounds),
        samples_wei=wei["samples"],
        reducing_wei=wei["reducing"],
        audits_wei=wei["audit"],
        replays_wei=wei["repay"],
        slashed_wei=wei["slash"] - wei["reinstate"],
        held_back_wei=journal.balances.available_wei(chart.held_back(node_index, job_id)),
        accrued_wei=journal.balances.available_wei(chart.accrued(node_index, job_id)),
        in_roots_wei=wei["settle"],
    )


def _of_node_in_job(row: Row[Any]) -> tuple[str, int] | None:
    """The job and the node whose share of it the transfer changes."""
    for name in (row.debit, row.credit):
        account = Account.parse(name)
        if account.kind in ("held_back", "accrued") and account.job_id is not None and account.node_index is not None:
            return account.job_id, account.node_index
    return None


def _roots(journal: Journal, rows: list[Row[Any]]) -> tuple[RootShare, ...]:
    amounts = Counter[str]()
    for row in rows:
        if row.reason == "settle" and row.phase == "pending" and Account.parse(row.credit).kind == "payable":
            amounts[row.id.split("/")[1]] += row.amount_wei
    posted = posted_in(journal)
    batches, outcomes = schema.batches, schema.outcomes
    query = (
        select(batches, outcomes.c.outcome)
        .join(outcomes, outcomes.c.batch_id == batches.c.id, isouter=True)
        .order_by(batches.c.id)
    )
    return tuple(
        RootShare(
            batch=row.number,
            attempt=row.attempt,
            state=row.outcome or "pending",
            amount_wei=amounts[f"{row.number}.{row.attempt}"],
            settled_at_s=row.recorded_at_s,
            transaction=posted.get(f"{row.number}.{row.attempt}"),
        )
        for row in journal.connection.execute(query)
        if f"{row.number}.{row.attempt}" in amounts
    )


def _moves(journal: Journal, rows: list[Row[Any]]) -> tuple[ChainMove, ...]:
    known = origins(journal, (row.id for row in rows))
    return tuple(_move(row, known.get(row.id)) for row in rows)


def _move(row: Row[Any], origin: Origin | None) -> ChainMove:
    if origin is None:
        return ChainMove(row.reason, row.amount_wei, row.recorded_at_s, None)
    return ChainMove(row.reason, row.amount_wei, origin.at_s, origin.transaction)
