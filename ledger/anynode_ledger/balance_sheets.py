"""Where a node's money and a job's money are: sums over the accounts of each."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from anynode_ledger import accounts as chart
from anynode_ledger import schema
from anynode_ledger.earning import is_closed
from anynode_ledger.journal import Journal
from anynode_ledger.registry import payout_of


@dataclass(frozen=True, slots=True)
class NodeBalance:
    """One node's money in wei. ``earned`` = credited less slashed = all the others but ``slashed``.

    ``waiting`` is in a root that is not final yet; ``payable`` may be claimed; ``dust`` is settled, but below a gwei.
    """

    node_index: int
    node: str
    payout: str
    earned_wei: int
    held_back_wei: int
    accrued_wei: int
    waiting_wei: int
    payable_wei: int
    dust_wei: int
    paid_wei: int
    slashed_wei: int


@dataclass(frozen=True, slots=True)
class JobBalance:
    """One job's money in wei: funded + missing = unspent + credited to nodes + refundable + refunded. ``closed`` says
    that it ended.

    ``refundable`` cannot be drawn any more: the owner may take it back. ``missing`` of that was earned by nodes.
    ``fees`` is what audits and replays have cost it, which is part of what was credited.
    """

    job_id: str
    funded_wei: int
    unspent_wei: int
    credited_wei: int
    fees_wei: int
    drawn_wei: int
    missing_wei: int
    refundable_wei: int
    refunded_wei: int
    in_escrow_wei: int
    closed: bool


def node_balance(journal: Journal, node_index: int, node: str) -> NodeBalance:
    """The money of a node that the ledger knows."""
    balances = journal.balances
    held = balances.sum_wei("held_back", node_index=node_index)
    accrued = balances.sum_wei("accrued", node_index=node_index)
    claimable = balances.totals.get(chart.payable(node_index), chart.Totals())
    payable = claimable.credits - claimable.debits
    below_gwei = balances.totals.get(chart.dust(node_index), chart.Totals())
    dust = balances.available_wei(chart.dust(node_index)) + below_gwei.credits_pending
    paid = balances.available_wei(chart.paid(node_index))
    slashed = sum(balances.totals[a.name].credits for a in balances.of_kind("slashed", node_index=node_index))
    slashed -= balances.reinstated.get(node_index, 0)
    return NodeBalance(
        node_index=node_index,
        node=node,
        payout=payout_of(journal, node_index),
        earned_wei=held + accrued + claimable.credits_pending + payable + dust + paid,
        held_back_wei=held,
        accrued_wei=accrued,
        waiting_wei=claimable.credits_pending,
        payable_wei=payable,
        dust_wei=dust,
        paid_wei=paid,
        slashed_wei=slashed,
    )


def job_balance(journal: Journal, job_id: str) -> JobBalance:
    """One job's money; all zero when none was ever booked."""
    balances = journal.balances
    custody = balances.totals.get(chart.custody_escrow(job_id), chart.Totals())
    own = balances.totals.get(chart.escrow(job_id), chart.Totals())
    back = balances.totals.get(chart.refundable(job_id), chart.Totals())
    drawn = sum(
        row.amount_wei
        for row in journal.connection.execute(select(schema.draws).where(schema.draws.c.job_id == job_id))
    )
    return JobBalance(
        job_id=job_id,
        funded_wei=custody.debits,
        unspent_wei=own.credits - own.debits,
        credited_wei=balances.committed.get(job_id, 0),
        fees_wei=balances.totals.get(chart.fees(job_id), chart.Totals()).credits,
        drawn_wei=drawn,
        missing_wei=balances.sum_wei("shortfall", job_id=job_id),
        refundable_wei=back.credits - back.debits,
        refunded_wei=back.debits,
        in_escrow_wei=custody.debits - custody.credits,
        closed=is_closed(journal, job_id),
    )
