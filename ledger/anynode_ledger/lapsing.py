"""When a job's escrow pays nothing more: what nobody has drawn by then is the owner's again.

A draw is refused from 30 days after the deadline on, which a cancellation brings forward, and after the job's final
batch. The time is that of the chain's final blocks, so every ledger of these blocks lets the same lapse, and the
transfers show it to whoever rebuilds a root: no batch plans more than can be drawn. Drawing ends here a day earlier
than on the chain. A draw that was planned by then and is not made in that day never will be: its batch is settled anew.
"""

from __future__ import annotations

from sqlalchemy import func, insert, select

from anynode_ledger import accounts as chart
from anynode_ledger import schema
from anynode_ledger.accounts import Transfer
from anynode_ledger.journal import Journal
from anynode_ledger.settlement import abandon

REFUND_DELAY_S = 30 * 24 * 3600
"""JobEscrow.REFUND_DELAY: from so long after its deadline on a job's escrow refuses draws."""

SPARE_S = 24 * 3600
"""Planned draws have at least so long to be made."""


def note_deadline(journal: Journal, job_id: str, deadline_s: int) -> None:
    """Record when a job ends on the chain: with its creation, and sooner when it is cancelled."""
    table = schema.deadlines
    known = select(table).where(table.c.job_id == job_id, table.c.deadline_s == deadline_s)
    if journal.connection.execute(known).first() is None:
        journal.connection.execute(insert(table).values(job_id=job_id, deadline_s=deadline_s))


def deadline_s(journal: Journal, job_id: str) -> int | None:
    """When the job ends or has ended on the chain; None for a job that is not there."""
    table = schema.deadlines
    query = select(func.min(table.c.deadline_s)).where(table.c.job_id == job_id)
    earliest: int | None = journal.connection.execute(query).scalar()
    return earliest


def has_lapsed(journal: Journal, job_id: str, now_s: int) -> bool:
    """Whether the job's escrow pays nothing more that is not planned already, when a final block is from ``now_s``."""
    end_s = deadline_s(journal, job_id)
    return end_s is not None and end_s <= now_s - (REFUND_DELAY_S - SPARE_S)


def pass_time(journal: Journal, former_s: int, now_s: int) -> None:
    """Let lapse what time has ended since the final block before, at ``former_s``, until this one, at ``now_s``."""
    for deadline_s, job_id in _ended(journal, former_s, now_s, REFUND_DELAY_S - SPARE_S):
        lapse(journal, job_id, f"{deadline_s}/planned", _to_be_drawn_wei(journal, job_id))
    for deadline_s, job_id in _ended(journal, former_s, now_s, REFUND_DELAY_S):
        if lapse(journal, job_id, str(deadline_s)):
            abandon(journal, job_id)


def lapse(journal: Journal, job_id: str, why: str, to_be_drawn_wei: int = 0) -> int:
    """Give the owner what lies in escrow, but for what is still to be drawn; the wei.

    Where that is more than what nobody has earned, nodes have earned what they will not get.
    """
    balances, refundable = journal.balances, chart.refundable(job_id)
    left = balances.available_wei(chart.custody_escrow(job_id)) - balances.available_wei(refundable) - to_be_drawn_wei
    own = min(max(left, 0), balances.available_wei(chart.escrow(job_id)))
    for name, source, amount in (
        (f"lapse/{job_id}/{why}", chart.escrow(job_id), own),
        (f"lapse/{job_id}/{why}/owed", chart.shortfall(job_id), left - own),
    ):
        if amount > 0:
            journal.append(Transfer(name, source, refundable, amount, "lapse"))
    return max(left, 0)


def finalised(journal: Journal, job_id: str) -> None:
    """The job's final batch is settled: what is not planned to be drawn never will be."""
    lapse(journal, job_id, "final", _to_be_drawn_wei(journal, job_id))


def _to_be_drawn_wei(journal: Journal, job_id: str) -> int:
    """What batches plan to draw and no final block shows to be drawn."""
    table = schema.draws
    planned = journal.connection.execute(select(table.c.amount_wei).where(table.c.job_id == job_id)).scalars()
    return max(0, sum(int(amount) for amount in planned) - journal.balances.drawn_wei(job_id))


def _ended(journal: Journal, former_s: int, now_s: int, after_s: int) -> list[tuple[int, str]]:
    """Deadlines, with their jobs, that came to lie ``after_s`` back between two moments."""
    table = schema.deadlines
    first = func.min(table.c.deadline_s).label("first")
    query = select(first, table.c.job_id).group_by(table.c.job_id)
    query = query.where(table.c.deadline_s > former_s - after_s, table.c.deadline_s <= now_s - after_s)
    return [(row.first, row.job_id) for row in journal.connection.execute(query.order_by(first, table.c.job_id))]
