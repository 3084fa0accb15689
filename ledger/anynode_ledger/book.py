"""The double-entry book: who earned what, what is held back, payable and paid. Append-only, idempotent by id."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import OperationalError

from anynode_contracts.errors import UserError, invariant
from anynode_ledger import accounts as chart
from anynode_ledger import schema
from anynode_ledger.accounts import Balances, Transfer
from anynode_ledger.database import begin_read, begin_write, open_engine
from anynode_ledger.earning import credit, is_closed, release, slash
from anynode_ledger.journal import Journal
from anynode_ledger.pay import Credit
from anynode_ledger.registry import node_key, payout_of, record_node


@dataclass(frozen=True, slots=True)
class NodeBalance:
    """One node's money in wei. ``earned`` = credited less slashed = held back + accrued + waiting + payable + paid.

    ``waiting`` is in a root that is not final yet; ``payable`` may be claimed, apart from what is below a gwei.
    """

    node_index: int
    node: str
    payout: str
    earned_wei: int
    held_back_wei: int
    accrued_wei: int
    waiting_wei: int
    payable_wei: int
    paid_wei: int
    slashed_wei: int


@dataclass(frozen=True, slots=True)
class JobBalance:
    """One job's money in wei: funded = unspent + credited to nodes + refunded. ``closed`` says that it ended."""

    job_id: str
    funded_wei: int
    unspent_wei: int
    credited_wei: int
    drawn_wei: int
    refunded_wei: int
    in_escrow_wei: int
    closed: bool


class Book:
    """Open one with :meth:`open`. Safe for several threads and processes: one writes at a time."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.RLock()
        self._balances = Balances()
        self._seq = 0
        self._busy = False

    @classmethod
    def open(cls, url: str, *, clock: Callable[[], float] = time.time) -> Book:
        """The book at a SQLAlchemy URL (``sqlite:///path``), created or migrated as needed.

        Raises ``UserError`` when the database cannot be opened or is newer than this program.
        """
        return cls(open_engine(url), clock)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Journal]:
        """One write transaction: all of it is booked, or nothing. Raises ``UserError`` when the disk is full."""
        with self._exclusive():
            try:
                with begin_write(self._engine) as connection:
                    journal = self._load(connection)
                    yield journal
                    self._seq = max((seq for seq, _ in journal.transfers_after(self._seq)), default=self._seq)
            except OperationalError as error:
                self._forget()
                raise UserError(
                    f"the ledger's database cannot be written ({error.orig}), and nothing of this was booked; free some"
                    " space, or end whatever else has it open, and repeat"
                ) from error
            except BaseException:
                self._forget()
                raise

    @contextmanager
    def read(self) -> Iterator[Journal]:
        """One consistent view, with balances as of its start."""
        with self._exclusive(), begin_read(self._engine) as connection:
            yield self._load(connection)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._lock:
            invariant(not self._busy, "a transaction of the book was begun inside another one")
            self._busy = True
            try:
                yield
            finally:
                self._busy = False

    def _load(self, connection: Connection) -> Journal:
        """Balances are a fold over the rows: fold in those that another process has booked since."""
        journal = Journal(connection, self._balances, int(self._clock()))
        try:
            for seq, transfer in journal.transfers_after(self._seq):
                journal.balances.apply(transfer)
                self._seq = seq
        except BaseException:
            self._forget()
            raise
        return journal

    def _forget(self) -> None:
        """Balances may hold rows that were rolled back: fold them again from the start next time."""
        self._balances, self._seq = Balances(), 0

    # -- nodes and jobs ------------------------------------------------------------------------------------------

    def register_node(self, index: int, node: str, payout: str) -> None:
        """Record a registration, or a changed payout address, as the registry has it. Repeating it does nothing."""
        with self.write() as journal:
            record_node(journal, index, node, payout)

    def open_job(
        self,
        job_id: str,
        *,
        owner: str,
        budget_wei: int,
        cap_per_batch_wei: int,
        price_wei_per_million_samples: int,
    ) -> None:
        """Record a job's terms. Its money is booked apart, by :meth:`fund_job`, when the escrow holds it."""
        invariant(len(job_id) == 64, f"{job_id!r} is no job id")
        values = {
            "job_id": job_id,
            "owner": owner,
            "budget_wei": budget_wei,
            "cap_per_batch_wei": cap_per_batch_wei,
            "price_wei_per_million_samples": price_wei_per_million_samples,
        }
        with self.write() as journal:
            table = schema.jobs
            row = journal.connection.execute(select(table).where(table.c.job_id == job_id)).first()
            if row is None:
                journal.connection.execute(insert(table).values(**values))
            else:
                invariant(dict(row._mapping) == values, f"job {job_id} is already open with other terms")

    def fund_job(self, job_id: str, amount_wei: int, transfer_id: str) -> None:
        """Book tokens that the job's escrow received. Intake does this from the chain's events."""
        with self.write() as journal:
            journal.append(
                Transfer(transfer_id, chart.custody_escrow(job_id), chart.escrow(job_id), amount_wei, "fund")
            )

    # -- earning -------------------------------------------------------------------------------------------------

    def credit(self, earned: Sequence[Credit], held_back_limit_wei: int) -> int:
        """Book what nodes earned; returns the newly booked wei. A credit that is there already is passed over.

        A node is held back until ``held_back_limit_wei`` of its pay is; the rest accrues. All credits or none: raises
        ``RefusedError`` when a job's escrow does not hold them, ``InvariantError`` for a closed job.
        """
        with self.write() as journal:
            return sum(credit(journal, one, held_back_limit_wei) for one in earned)

    def slash(self, node_index: int, job_id: str, reason: str, slash_id: str) -> int:
        """Return everything held back and accrued by the node in this job to the job; returns the wei.

        What is in a root already (waiting, payable, paid) stays. The same ``slash_id`` again does nothing.
        """
        with self.write() as journal:
            return slash(journal, node_index, job_id, reason, slash_id)

    def release(self, job_id: str, release_id: str) -> int:
        """Let everything held back in this job accrue, so that the next batch pays it; returns the wei."""
        with self.write() as journal:
            return release(journal, job_id, release_id)

    def close_job(self, job_id: str) -> int:
        """End the job: release what is held back and book nothing more for it; returns the wei released.

        The next :func:`~anynode_ledger.settlement.settle` pays the rest and queues the escrow's last transaction.
        """
        with self.write() as journal:
            if not journal.decide(f"close/{job_id}", "close", job_id, None, "the job is complete"):
                return 0
            return release(journal, job_id, f"release/{job_id}")

    # -- reading -------------------------------------------------------------------------------------------------

    def balances(self, node_index: int) -> NodeBalance:
        """One node's balances. Raises ``RefusedError`` if the ledger does not know the node."""
        with self.read() as journal:
            return _node_balance(journal, node_index, node_key(journal, node_index))

    def nodes(self) -> list[NodeBalance]:
        """Every node's balances, in order of index."""
        with self.read() as journal:
            query = select(schema.nodes).order_by(schema.nodes.c.node_index)
            return [_node_balance(journal, row.node_index, row.node) for row in journal.connection.execute(query)]

    def node_index(self, node: str) -> int | None:
        """The registry index of a node key, or None when it is not registered here."""
        with self.read() as journal:
            query = select(schema.nodes.c.node_index).where(schema.nodes.c.node == node)
            index: int | None = journal.connection.execute(query).scalar()
            return index

    def job(self, job_id: str) -> JobBalance:
        """One job's money; all zero when none was ever booked."""
        with self.read() as journal:
            balances = journal.balances
            custody = balances.totals.get(chart.custody_escrow(job_id), chart.Totals())
            own = balances.totals.get(chart.escrow(job_id), chart.Totals())
            owed_and_gone = balances.totals.get(chart.shortfall(job_id), chart.Totals())
            drawn = sum(
                row.amount_wei
                for row in journal.connection.execute(select(schema.draws).where(schema.draws.c.job_id == job_id))
            )
            credited = balances.committed.get(job_id, 0)
            unspent = own.credits - own.debits
            return JobBalance(
                job_id=job_id,
                funded_wei=custody.debits,
                unspent_wei=unspent,
                credited_wei=credited,
                drawn_wei=drawn,
                refunded_wei=custody.debits - unspent - credited + owed_and_gone.debits,
                in_escrow_wei=custody.debits - custody.credits,
                closed=is_closed(journal, job_id),
            )

    def totals(self) -> dict[str, int]:
        """Balance by kind of account, in wei, after proving that debits = credits and assets = liabilities."""
        with self.read() as journal:
            journal.balances.check()
            return {kind: journal.balances.sum_wei(kind) for kind in chart.KINDS}


def _node_balance(journal: Journal, node_index: int, node: str) -> NodeBalance:
    balances = journal.balances
    held = balances.sum_wei("held_back", node_index=node_index)
    accrued = balances.sum_wei("accrued", node_index=node_index)
    claimable = balances.totals.get(chart.payable(node_index), chart.Totals())
    payable = claimable.credits - claimable.debits
    paid = balances.available_wei(chart.paid(node_index))
    slashed = sum(balances.totals[a.name].credits for a in balances.of_kind("slashed", node_index=node_index))
    return NodeBalance(
        node_index=node_index,
        node=node,
        payout=payout_of(journal, node_index),
        earned_wei=held + accrued + claimable.credits_pending + payable + paid,
        held_back_wei=held,
        accrued_wei=accrued,
        waiting_wei=claimable.credits_pending,
        payable_wei=payable,
        paid_wei=paid,
        slashed_wei=slashed,
    )
