"""Checks that the ledger has booked of each appeal what its ruling says, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from anynode.jobs.job import Job
from anynode_contracts.errors import RefusedError
from anynode_ledger.public import PublicLedger
from anynode_verifier.credits import RuledRound, replay_cost_wei, ruling_credits
from anynode_verifier.found_out import slash_id

Listed = dict[tuple[int, int, str], int]
"""By round, node index and kind: the credits of the job that no record has explained yet."""


def check_appeals(
    rulings: Iterable[RuledRound], job: Job, ledger: PublicLedger, index_of: Mapping[str, int], listed: Listed
) -> None:
    """Take what rulings earn out of ``listed``. Raises ``RefusedError`` for what is booked and no ruling says."""
    ruled: dict[str, RuledRound] = {}
    for item in rulings:
        ruled[slash_id(job.job_id, item.ruling.round, index_of.get(item.ruling.node, -1))] = item
        _take_pay(item, job, index_of, listed)
    for transfer in ledger.transfers:
        if transfer.reason not in ("reinstate", "repay") or f"appeal/{job.job_id}/" not in transfer.id:
            continue
        found = ruled.get(transfer.id.removeprefix(f"{transfer.reason}/appeal/").rpartition("/")[0])
        if found is None or not found.ruling.heard or found.ruling.granted != (transfer.reason == "reinstate"):
            raise RefusedError(f"transfer {transfer.id!r} follows no ruling on an appeal")
        if transfer.reason == "repay" and int(transfer.amount_wei) > replay_cost_wei(job, found):
            raise RefusedError(f"transfer {transfer.id!r} takes more than the replay of an appeal costs")


def _take_pay(item: RuledRound, job: Job, index_of: Mapping[str, int], listed: Listed) -> None:
    if item.ruling.node not in index_of:
        return
    for credit in ruling_credits(job, item, index_of[item.ruling.node]):
        found = listed.pop((credit.round, credit.node_index, credit.kind), None)
        if found not in (None, credit.amount_wei):  # none: not booked yet
            raise RefusedError(
                f"round {credit.round}: an appeal earned node {credit.node_index} {credit.amount_wei} wei by the "
                f"records ({credit.kind}) and {found} wei by the ledger"
            )
