"""Whether a public ledger credits what a job's records earn, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from anynode.jobs.job import Job
from anynode_contracts.errors import RefusedError
from anynode_ledger.public import PublicLedger
from anynode_verifier.appeal_checks import Listed, check_appeals
from anynode_verifier.credits import JudgedRound, RuledRound, round_credits


def check_credits(
    rounds: Iterable[JudgedRound],
    job: Job,
    ledger: PublicLedger,
    verifiers: Sequence[str],
    ruled: Iterable[RuledRound] = (),
) -> int:
    """How many of the last rounds are judged and not booked yet, because the job goes on. Raises ``RefusedError`` with
    the first difference. A round's audits are paid to one of the network's verifiers: the one that keeps the ledger.
    What appeals have come to is booked beside that.
    """
    rounds = list(rounds)
    index_of = {node.node: node.index for node in ledger.nodes}
    known = [index_of[address] for address in verifiers if address in index_of]
    if not known:
        raise RefusedError("the ledger shows no verifier of the network; fetch it from the one that settles")
    listed: Listed = {
        (credit.round, credit.node_index, credit.kind): int(credit.amount_wei)
        for credit in ledger.credits
        if credit.job_id == job.job_id
    }
    closed = any(item.kind == "close" and item.job_id == job.job_id for item in ledger.decisions)
    waiting = 0 if closed else _not_booked_yet(rounds, {number for number, _, _ in listed})
    for round_ in rounds[: len(rounds) - waiting]:
        _check_round(round_, job, index_of, known, listed)
    check_appeals(ruled, job, ledger, index_of, listed)
    if listed:
        number, index, kind = next(iter(listed))
        raise RefusedError(f"round {number}: the ledger credits node {index} ({kind}) with what no record earns")
    return sum(bool(round_.paid_nodes) for round_ in rounds[len(rounds) - waiting :])


def _not_booked_yet(rounds: Sequence[JudgedRound], booked: AbstractSet[int]) -> int:
    """Rounds are booked in the order of their verdicts, a little later: how many come after the last booked one."""
    for waiting, round_ in enumerate(reversed(rounds)):
        if round_.open.round in booked:
            return waiting
    return len(rounds)


def _check_round(
    round_: JudgedRound, job: Job, index_of: Mapping[str, int], verifiers: Sequence[int], listed: Listed
) -> None:
    """Takes what the round earns out of ``listed``."""
    number = round_.open.round
    missing = [node for node in round_.paid_nodes if node not in index_of]
    if missing:
        if any(booked == number for booked, _, _ in listed):
            raise RefusedError(f"round {number} is booked, but not for {missing[0]}")
        return  # not booked yet: a registration is on its way
    paid = [index for index in verifiers if (number, index, "audit") in listed]
    for credit in round_credits(job, round_, index_of, (paid or verifiers)[0]):
        found = listed.pop((credit.round, credit.node_index, credit.kind), 0)
        if found != credit.amount_wei:
            raise RefusedError(
                f"round {credit.round}: node {credit.node_index} earned {credit.amount_wei} wei by the records "
                f"({credit.kind}) and {found} wei by the ledger"
            )
