"""Whether a reward root follows from what a verifier knows by itself: its records, its registry, its chain. Pure.

The ledger that a root comes from is another verifier's. Nothing in it is believed: balances and roots are computed
again, credits and slashes are looked up in the records of each job, and payout accounts in the registry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anynode.jobs.job import Job
from anynode.rounds.course import Finish
from anynode.rounds.records import Record
from anynode_contracts.errors import RefusedError
from anynode_contracts.networks import Network
from anynode_contracts.typed_data import RootStatement
from anynode_ledger.batch import Batch
from anynode_ledger.public import PublicLedger
from anynode_ledger.rebuild import rebuild
from anynode_verifier.credit_checks import check_credits
from anynode_verifier.credits import judged_rounds, ruled_rounds
from anynode_verifier.found_out import found_out, slash_id
from anynode_verifier.holding_back import stays_at_stake


@dataclass(frozen=True, slots=True)
class KnownNode:
    """A node as the registry has it; ``payouts`` are the accounts that it may be paid to now."""

    node: str
    payouts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a verifier knows by itself. ``jobs``: every job with its certified records; ``active_root``: what pays on
    the chain now, as 64 hexadecimal digits, empty before the first root; ``undrawn_wei``: what was never drawn of each
    job whose escrow pays nothing more; ``drawn_at_s``: when the last audits of each job that is over were drawn, on a
    public chain; ``now_s``: the time of the newest final block.
    """

    network: Network
    jobs: Mapping[str, tuple[Job, Sequence[Record]]]
    nodes: Mapping[int, KnownNode]
    active_root: str
    undrawn_wei: Mapping[str, int] = field(default_factory=dict)
    drawn_at_s: Mapping[str, float] = field(default_factory=dict)
    now_s: int = 0


def check_root(statement: RootStatement, raw: dict[str, Any], known: Knowledge) -> None:
    """Whether ``raw``, a public ledger, leads to the root. Raises ``RefusedError`` with the first thing that does not
    follow, which may also be something that this verifier will only hear of.
    """
    batches = rebuild(raw, known.network.daily_cap_gwei)
    ledger = PublicLedger.model_validate(raw)
    _check_statement(statement, batches, ledger, known)
    for number in ledger.nodes:
        own = known.nodes.get(number.index)
        _require(own is not None and own.node == number.node, f"node {number.index} is not known here as {number.node}")
    _check_payouts(batches[-1], known)
    _check_held_back(ledger, known.network.held_back_limit_wei)
    _check_lapsed(ledger, known.undrawn_wei)
    named = {credit.job_id for credit in ledger.credits} | {decision.job_id for decision in ledger.decisions}
    for job_id in sorted(named):
        _require(job_id in known.jobs, f"job {job_id[:16]}… is not known here")
        job, records = known.jobs[job_id]
        _check_job(job, records, ledger, known)


def _check_statement(
    statement: RootStatement, batches: Sequence[Batch], ledger: PublicLedger, known: Knowledge
) -> None:
    """The root is the ledger's newest, for this network's contract, and goes on from what the chain pays."""
    network = known.network
    _require(bool(batches) and ledger.batches[-1].state == "pending", "the ledger has no batch that waits for a root")
    for batch in batches:
        here = (batch.chain_id, batch.distributor) == (network.chain_id, network.distributor)
        _require(here, f"batch {batch.number} is for another network's contract")
    newest = batches[-1]
    rebuilt = (newest.number, newest.root, newest.total_gwei, newest.data_hash)
    asked = (statement.batch, statement.root.hex(), statement.total_gwei, statement.data_hash.hex())
    _require(rebuilt == asked, f"the ledger leads to another root for batch {statement.batch}")
    posted = [batch for batch, listed in zip(batches, ledger.batches, strict=True) if listed.state == "posted"]
    _require(
        (posted[-1].root if posted else "") == known.active_root,
        "the ledger does not go on from the root that the chain pays now",
    )
    before = {entry.index: entry.cumulative_gwei for entry in posted[-1].entries} if posted else {}
    after = {entry.index: entry.cumulative_gwei for entry in newest.entries}
    lower = [index for index, gwei in before.items() if after.get(index, 0) < gwei]
    _require(not lower, f"node {lower[:1]} would have earned less than before")


def _check_payouts(batch: Batch, known: Knowledge) -> None:
    for entry in batch.entries:
        own = known.nodes.get(entry.index)
        _require(
            own is not None and entry.account in own.payouts,
            f"node {entry.index} would be paid to {entry.account}, which the registry does not name",
        )


def _check_held_back(ledger: PublicLedger, limit_wei: int) -> None:
    """Of each credit as much is held back as the network asks for, in the order in which they were booked."""
    credits_by_id = {credit.id: credit for credit in ledger.credits}
    held: dict[int, int] = {}
    seen: set[str] = set()
    for transfer in ledger.transfers:
        credit = credits_by_id.get(transfer.id.removeprefix("credit/").rpartition("/")[0])
        if transfer.reason == "credit" and credit is not None and credit.id not in seen:
            seen.add(credit.id)
            due = min(int(credit.amount_wei), max(0, limit_wei - held.get(credit.node_index, 0)))
            _require(int(credit.held_wei) == due, f"{credit.held_wei} wei of {credit.id!r} are held back, not {due}")
        for name, sign in ((transfer.credit, 1), (transfer.debit, -1)):
            kind, _, rest = name.partition("/")
            if kind == "held_back":
                index = int(rest.partition("/")[0])
                held[index] = held.get(index, 0) + sign * int(transfer.amount_wei)


def _check_lapsed(ledger: PublicLedger, undrawn_wei: Mapping[str, int]) -> None:
    """No more is withheld from nodes, for the reason that it cannot be drawn, than the chain withholds."""
    lapsed: dict[str, int] = {}
    for transfer in ledger.transfers:
        if transfer.reason == "lapse":
            job_id = transfer.credit.partition("/")[2]
            lapsed[job_id] = lapsed.get(job_id, 0) + int(transfer.amount_wei)
    for job_id, wei in lapsed.items():
        least = undrawn_wei.get(job_id, 0)
        _require(
            wei <= least, f"{wei} wei of job {job_id[:16]}… cannot be drawn any more, and {least} wei by the chain"
        )


def _check_job(job: Job, records: Sequence[Record], ledger: PublicLedger, known: Knowledge) -> None:
    """What is credited and slashed is what the records of this job earn and reject. Rounds may still be to book."""
    booked = {credit.round for credit in ledger.credits if credit.job_id == job.job_id}
    judged = [round_ for round_ in judged_rounds(records) if round_.open.round in booked]
    check_credits(judged, job, ledger, known.network.verifiers, ruled_rounds(records))
    index_of = {node.node: node.index for node in ledger.nodes}
    decisions = [decision for decision in ledger.decisions if decision.job_id == job.job_id]
    for decision in decisions:
        if decision.kind in ("release", "close"):
            over = any(isinstance(item.body, Finish) for item in records)
            _require(over, f"job {job.job_id[:16]}… is not over, and nothing held back may be released")
            early = stays_at_stake(known.network.chain_id, known.drawn_at_s.get(job.job_id), known.now_s)
            _require(not early, f"what job {job.job_id[:16]}… holds back stays at stake for 14 days after it")
    slashed = {decision.id: decision.node_index for decision in decisions if decision.kind == "slash"}
    for fraud in found_out(records):
        index = index_of.get(fraud.node)
        if index is not None:
            found = slashed.pop(slash_id(job.job_id, fraud.round, index, late=fraud.late), None)
            _require(found in (index, None), f"the slash of node {index} for round {fraud.round} names another node")
            due = found is None and fraud.round in booked
            _require(not due, f"round {fraud.round}: {fraud.node} was found out and is not slashed")
    _require(not slashed, f"slash {next(iter(slashed), '')!r} follows from no record")


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise RefusedError(what)
