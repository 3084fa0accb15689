"""What a decision moves: slashes, what comes of appeals against them, and releases. Pure.

The ledger books exactly this, and whoever rebuilds it from its public file expects exactly this in that place.
"""

from __future__ import annotations

from collections.abc import Callable

from anynode_ledger import accounts as chart
from anynode_ledger.accounts import Balances, Transfer

UNSETTLED = {"held_back": chart.held_back, "accrued": chart.accrued}
"""By kind, a node's accounts of a job that a slash empties, and a granted appeal fills again."""

REASONS_DECIDED = ("slash", "restore", "reinstate", "repay", "release")
"""Transfers of these reasons follow from decisions alone."""

AmountOf = Callable[[str], int]
"""The wei of a transfer that was booked before, by its id; 0 for none."""


def slash_transfers(balances: Balances, node_index: int, job_id: str, slash_id: str) -> list[Transfer]:
    """All that is held back and accrued, back to the job's escrow."""
    away, moves = chart.slashed(node_index, job_id), list[Transfer]()
    for kind, account in UNSETTLED.items():
        name = account(node_index, job_id)
        amount_wei = balances.available_wei(name)
        if amount_wei:
            moves.append(Transfer(_slash_part(slash_id, kind), name, away, amount_wei, "slash"))
    if moves:
        taken_wei = sum(move.amount_wei for move in moves)
        moves.append(Transfer(f"restore/{slash_id}", away, chart.escrow(job_id), taken_wei, "restore"))
    return moves


def taken_wei(amount_of: AmountOf, slash_id: str) -> int:
    """What a slash has taken."""
    return sum(amount_of(_slash_part(slash_id, kind)) for kind in UNSETTLED)


def reinstate_transfers(amount_of: AmountOf, node_index: int, job_id: str, decision_id: str) -> list[Transfer]:
    """What the slash has taken that the decision names, to where it was."""
    source, slash_id = chart.escrow(job_id), slash_of(decision_id)
    amounts = {kind: amount_of(_slash_part(slash_id, kind)) for kind in UNSETTLED}
    return [
        Transfer(f"reinstate/{decision_id}/{kind}", source, UNSETTLED[kind](node_index, job_id), amount, "reinstate")
        for kind, amount in amounts.items()
        if amount
    ]


def repay_transfers(auditor_index: int, job_id: str, decision_id: str, amount_wei: int) -> list[Transfer]:
    """``amount_wei`` of the job's, to who replayed for an appeal."""
    if not amount_wei:
        return []
    fees, target = chart.fees(job_id), chart.accrued(auditor_index, job_id)
    return [
        charge(job_id, amount_wei, decision_id),
        Transfer(f"repay/{decision_id}/accrued", fees, target, amount_wei, "repay"),
    ]


def release_transfers(balances: Balances, job_id: str, release_id: str) -> list[Transfer]:
    """All that is held back in the job accrues."""
    moves = []
    for account in balances.of_kind("held_back", job_id=job_id):
        index, amount_wei = account.node_index, balances.available_wei(account.name)
        if index is not None and amount_wei:
            target = chart.accrued(index, job_id)
            moves.append(Transfer(f"release/{release_id}/{index}", account.name, target, amount_wei, "release"))
    return moves


def charge(job_id: str, amount_wei: int, what: str) -> Transfer:
    """What a job is charged for an audit; whoever audits is paid from the account that it goes to."""
    return Transfer(f"fee/{what}", chart.escrow(job_id), chart.fees(job_id), amount_wei, "fee")


def appeal_against(slash_id: str) -> str:
    """The id of the decision on an appeal against a slash."""
    return f"appeal/{slash_id}"


def slash_of(decision_id: str) -> str:
    """The slash that a decision on an appeal is about."""
    return decision_id.removeprefix("appeal/")


def _slash_part(slash_id: str, kind: str) -> str:
    return f"slash/{slash_id}/{kind}"
