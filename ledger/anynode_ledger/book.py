"""The double-entry book: who earned what, what is held back, payable and paid. Append-only, idempotent by id."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError

from anynode_contracts.errors import RefusedError, UserError, invariant
from anynode_ledger import accounts as chart
from anynode_ledger import schema
from anynode_ledger.accounts import Balances, Transfer
from anynode_ledger.balance_sheets import JobBalance, NodeBalance, job_balance, node_balance
from anynode_ledger.database import begin_read, begin_write, open_engine, open_read_only
from anynode_ledger.earning import credit, last_release, last_slash_s, reinstate, release, repay, slash
from anynode_ledger.journal import Journal
from anynode_ledger.pay import Credit
from anynode_ledger.registry import node_key, record_node

_FAILURES = (OperationalError, InternalError, InterfaceError)
"""A database that is down, locked, full or damaged, or a line to it that is dead."""


def _extent(balances: Balances) -> tuple[int, int]:
    """Changes with whatever balances take in."""
    return balances.count, len(balances.accounts)


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

    @classmethod
    def read_only(cls, url: str) -> Book:
        """The book at a URL, for looking only: nothing is created, migrated or written.

        Raises ``UserError`` when there is none, or one of another version.
        """
        return cls(open_read_only(url), time.time)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Journal]:
        """One write transaction: all of it is booked, or nothing. Raises ``UserError`` when the disk is full.

        What is refused before a transfer is booked may be tried every second: the balances need no new fold for it.
        """
        with self._exclusive():
            loaded: tuple[int, int] | None = None
            try:
                with begin_write(self._engine) as connection:
                    journal = self._load(connection)
                    loaded = _extent(journal.balances)
                    yield journal
                    self._seq = journal.newest_seq()
            except RefusedError:
                if _extent(self._balances) != loaded:
                    self._forget()
                raise
            except _FAILURES as error:
                self._forget()
                raise UserError(
                    f"the ledger's database cannot be written ({self._said(error)}), and nothing of this was booked;"
                    " see that it runs, its disk has space and nothing else has it open, and repeat"
                ) from error
            except BaseException:
                self._forget()
                raise

    @contextmanager
    def read(self) -> Iterator[Journal]:
        """One consistent view, with balances as of its start. Raises ``UserError`` while the database is down."""
        with self._exclusive():
            try:
                with begin_read(self._engine) as connection:
                    yield self._load(connection)
            except _FAILURES as error:
                raise UserError(
                    f"the ledger's database cannot be read ({self._said(error)}); see that it runs, and repeat"
                ) from error

    def _said(self, error: DBAPIError) -> str:
        """A server's errors name hosts and users, which are nobody else's business: of these only the kind."""
        return str(error.orig) if self._engine.dialect.name == "sqlite" else type(error.orig).__name__

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
        ``RefusedError`` when a job's escrow does not hold them, or for a job that has ended.
        """
        with self.write() as journal:
            return credit(journal, earned, held_back_limit_wei)

    def slash(self, node_index: int, job_id: str, reason: str, slash_id: str) -> int:
        """Return everything held back and accrued by the node in this job to the job; returns the wei.

        What is in a root already (waiting, payable, paid) stays. The same ``slash_id`` again does nothing.
        """
        with self.write() as journal:
            return slash(journal, node_index, job_id, reason, slash_id)

    def reinstate(self, node_index: int, job_id: str, slash_id: str) -> int:
        """Take a slash back, whose rejection was wrong; returns the wei. Repeating it does nothing.

        Raises ``RefusedError`` when the job's escrow does not hold them, or for a job that has ended.
        """
        with self.write() as journal:
            return reinstate(journal, node_index, job_id, slash_id)

    def repay(self, auditor_index: int, job_id: str, slash_id: str, cost_wei: int) -> int:
        """Pay the replay of an upheld appeal out of its slash; returns the wei. Repeating it does nothing.

        Raises ``RefusedError`` for a job that has ended.
        """
        with self.write() as journal:
            return repay(journal, auditor_index, job_id, slash_id, cost_wei)

    def last_slash_s(self, job_id: str) -> int:
        """When something was last slashed in a job, in seconds since 1970; 0 if never."""
        with self.read() as journal:
            return last_slash_s(journal, job_id)

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
            return release(journal, job_id, last_release(job_id))

    # -- reading -------------------------------------------------------------------------------------------------

    def balances(self, node_index: int) -> NodeBalance:
        """One node's balances. Raises ``RefusedError`` if the ledger does not know the node."""
        with self.read() as journal:
            return node_balance(journal, node_index, node_key(journal, node_index))

    def nodes(self) -> list[NodeBalance]:
        """Every node's balances, in order of index."""
        with self.read() as journal:
            query = select(schema.nodes).order_by(schema.nodes.c.node_index)
            return [node_balance(journal, row.node_index, row.node) for row in journal.connection.execute(query)]

    def held_back_wei(self, job_id: str | None = None) -> dict[str, int]:
        """What is held back of each node's pay, in one job or in all: what it would lose by a slash before all else."""
        with self.read() as journal:
            balances = journal.balances
            names = {row.node_index: row.node for row in journal.connection.execute(select(schema.nodes))}
            accounts = balances.of_kind("held_back", job_id=job_id)
            held: dict[str, int] = {}
            for account in accounts:
                name = names[account.node_index or 0]
                held[name] = held.get(name, 0) + balances.available_wei(account.name)
            return held

    def node_index(self, node: str) -> int | None:
        """The registry index of a node key, or None when it is not registered here."""
        with self.read() as journal:
            query = select(schema.nodes.c.node_index).where(schema.nodes.c.node == node)
            index: int | None = journal.connection.execute(query).scalar()
            return index

    def job(self, job_id: str) -> JobBalance:
        """One job's money; all zero when none was ever booked."""
        with self.read() as journal:
            return job_balance(journal, job_id)

    def totals(self) -> dict[str, int]:
        """Balance by kind of account, in wei, after proving that debits = credits and assets = liabilities."""
        with self.read() as journal:
            journal.balances.check()
            return {kind: journal.balances.sum_wei(kind) for kind in chart.KINDS}
