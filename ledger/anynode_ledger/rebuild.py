"""Rebuilds every balance and every root from the public ledger alone, and names the first difference. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from anynode_contracts.errors import InvariantError, RefusedError
from anynode_ledger.accounts import Balances, Transfer
from anynode_ledger.batch import (
    NO_HISTORY,
    Batch,
    BatchState,
    Payee,
    build_batch,
    caps_left,
    drawn_so_far,
    extend_history,
    next_number,
    plan_settlement,
)
from anynode_ledger.decided import (
    REASONS_DECIDED,
    reinstate_transfers,
    release_transfers,
    repay_transfers,
    slash_of,
    slash_transfers,
    taken_wei,
)
from anynode_ledger.pay import credit_id
from anynode_ledger.public import PublicBatch, PublicDecision, PublicLedger


def rebuild(public: dict[str, Any], daily_cap_gwei: int) -> list[Batch]:
    """The batches that ``public`` (a parsed ``ledger.json``) leads to, all attempts in order, on a network whose roots
    of one day raise the total by no more than ``daily_cap_gwei``.

    Replays the transfers one by one, checks them against credits and decisions, and computes every settlement, entry
    and root again. Raises ``RefusedError`` naming the first difference.
    """
    try:
        ledger = PublicLedger.model_validate(public)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RefusedError(f"the public ledger is malformed at {where}: {first['msg']}; fetch it again") from error
    try:
        return _Rebuild(ledger, daily_cap_gwei).run()
    except InvariantError as error:
        raise RefusedError(f"the public ledger does not add up: {error}") from error


class _Rebuild:
    def __init__(self, ledger: PublicLedger, daily_cap_gwei: int) -> None:
        self.ledger, self.daily_cap_gwei = ledger, daily_cap_gwei
        self.transfers = [
            Transfer(t.id, t.debit, t.credit, int(t.amount_wei), t.reason, t.phase, t.pending_id)
            for t in ledger.transfers
        ]
        self.balances = Balances()
        self.caps = {job.job_id: int(job.cap_per_batch_wei) for job in ledger.jobs}
        self.payouts = {node.index: node.payouts for node in ledger.nodes}
        self.states: list[tuple[Batch, BatchState]] = []
        self.places = {transfer.id: place for place, transfer in enumerate(self.transfers)}
        self.decisions: dict[int, list[PublicDecision]] = {}
        for decision in ledger.decisions:
            self.decisions.setdefault(decision.transfers_before, []).append(decision)

    def run(self) -> list[Batch]:
        self._check_ids()
        self._check_credits()
        position, history = 0, NO_HISTORY
        for row, listed in enumerate(self.ledger.batches, start=1):
            if not self.balances.count <= listed.transfers_before <= len(self.transfers):
                raise RefusedError(f"batch {listed.number} of the public ledger is out of order")
            history = extend_history(history, self.transfers[position : listed.transfers_before])
            position = listed.transfers_before
            self._replay(position)
            self._check_resolved(followed=True)
            self.states.append((self._batch(row, listed, history), listed.state))
        self._replay(len(self.transfers))
        if self.decisions:
            late = min(self.decisions)
            raise RefusedError(f"decision {self.decisions[late][0].id!r} of the public ledger is out of order")
        self._check_resolved(followed=False)
        self.balances.check()
        return [batch for batch, _ in self.states]

    def _replay(self, end: int) -> None:
        """Apply the transfers up to ``end`` that are not applied yet; those of a settlement are, by ``_batch``."""
        while True:
            if self._follow_decisions():
                continue
            if self.balances.count >= end:
                break
            transfer = self.transfers[self.balances.count]
            if transfer.phase == "pending":
                raise RefusedError(f"transfer {transfer.id!r} settles outside any batch of the public ledger")
            if transfer.reason in REASONS_DECIDED:
                raise RefusedError(f"transfer {transfer.id!r} follows no decision that the public ledger lists")
            self.balances.apply(transfer)
        if self.balances.count > end:
            raise RefusedError("a batch of the public ledger stands in the midst of what a decision moves")

    def _follow_decisions(self) -> str:
        """Apply what was decided at this point: exactly what follows from the balances. The id of the decision that has
        moved anything, empty for none.
        """
        here = self.balances.count
        moves: list[Transfer] = []
        mover = ""
        for decision in self.decisions.pop(here, []):
            planned = self._moves(decision)
            if planned and moves:
                raise RefusedError(f"decision {decision.id!r} of the public ledger stands where {mover!r} does")
            if planned:
                moves, mover = planned, decision.id
        for place, planned_move in enumerate(moves, start=here):
            found = self.transfers[place] if place < len(self.transfers) else None
            if found != planned_move:
                booked = "nothing" if found is None else f"{found.amount_wei} wei as {found.id!r}"
                raise RefusedError(f"decision {mover!r} books {booked}, rebuilt are {planned_move}")
            self.balances.apply(planned_move)
        return mover

    def _moves(self, decision: PublicDecision) -> list[Transfer]:
        job_id, index = decision.job_id, decision.node_index
        if decision.kind == "close":
            return []
        if decision.kind == "release":
            return release_transfers(self.balances, job_id, decision.id)
        if index is None:
            raise RefusedError(f"decision {decision.id!r} of the public ledger names no node")
        if decision.kind == "slash":
            return slash_transfers(self.balances, index, job_id, decision.id)
        if decision.kind == "reinstate":
            return reinstate_transfers(self._booked_wei, index, job_id, decision.id)
        place = self.places.get(f"repay/{decision.id}/accrued")
        paid_wei = 0 if place is None else self.transfers[place].amount_wei  # what a replay costs stands in the records
        if paid_wei > (most_wei := taken_wei(self._booked_wei, slash_of(decision.id))):
            raise RefusedError(f"decision {decision.id!r} pays {paid_wei} wei of a slash that has taken {most_wei} wei")
        return repay_transfers(index, job_id, decision.id, paid_wei)

    def _booked_wei(self, transfer_id: str) -> int:
        place = self.places.get(transfer_id, self.balances.count)
        return self.transfers[place].amount_wei if place < self.balances.count else 0

    def _check_ids(self) -> None:
        for what, ids in (
            ("transfer", [t.id for t in self.transfers]),
            ("credit", [c.id for c in self.ledger.credits]),
            ("decision", [d.id for d in self.ledger.decisions]),
            ("node", [str(n.index) for n in self.ledger.nodes]),
        ):
            twice = [name for name, count in Counter(ids).items() if count > 1]
            if twice:
                raise RefusedError(f"the public ledger has {what} {twice[0]!r} twice")

    def _check_credits(self) -> None:
        """Every credit is booked exactly as it says, and nothing else is credited or charged."""
        booked = {t.id: t for t in self.transfers if t.reason == "credit"}
        for credit in self.ledger.credits:
            own_id = credit_id(credit.job_id, credit.round, credit.node_index, credit.kind)
            if credit.id != own_id:
                raise RefusedError(f"credit {credit.id!r} is for {own_id!r} and would be paid twice")
            held, amount = int(credit.held_wei), int(credit.amount_wei)
            for kind, part in (("held_back", held), ("accrued", amount - held)):
                transfer = booked.pop(f"credit/{credit.id}/{kind}", None)
                target = f"{kind}/{credit.node_index}/{credit.job_id}"
                found = (transfer.credit, transfer.amount_wei) if transfer else (target, 0)
                if found != (target, part):
                    raise RefusedError(f"credit {credit.id!r} gives {part} wei to {target}, booked are {found[1]} wei")
        if booked:
            raise RefusedError(f"transfer {next(iter(booked))!r} books a credit that the public ledger does not list")
        self._check_fees()

    def _check_fees(self) -> None:
        """A job is charged for what its audits earn, and for the replays of appeals that were upheld."""
        charged = {t.id: t for t in self.transfers if t.reason == "fee"}
        for credit in self.ledger.credits:
            if credit.kind == "audit":
                fee = charged.pop(f"fee/{credit.id}", None)
                if fee is None or fee.amount_wei != int(credit.amount_wei):
                    raise RefusedError(f"credit {credit.id!r} for an audit is not charged to its job as a fee")
        repaid = {decision.id for decision in self.ledger.decisions if decision.kind == "repay"}
        for name in charged:
            if name.removeprefix("fee/") not in repaid:
                raise RefusedError(f"transfer {name!r} charges a fee for nothing that the public ledger lists")

    def _check_resolved(self, *, followed: bool) -> None:
        """The former batch's pending transfers must be posted or voided, as its state says, before the next batch."""
        if not self.states:
            return
        batch, state = self.states[-1]
        prefix = f"settle/{batch.number}.{batch.attempt}/"
        phases = {t.phase for t in self.transfers if t.pending_id is not None and t.pending_id.startswith(prefix)}
        waiting = any(pending.startswith(prefix) for pending in self.balances.pending)
        expected = {"pending": set(), "posted": {"post"}, "void": {"void"}}[state]
        if phases != expected or waiting != (state == "pending"):
            raise RefusedError(f"batch {batch.number} is listed as {state}, but its transfers say otherwise")
        if state == "pending" and followed:
            raise RefusedError(f"batch {batch.number} is still pending and another batch follows it")

    def _batch(self, row: int, listed: PublicBatch, history: str) -> Batch:
        number, attempt = next_number(self.states)
        if (listed.number, listed.attempt) != (number, attempt):
            raise RefusedError(
                f"batch {listed.number} attempt {listed.attempt} stands where {number} attempt {attempt} belongs"
            )
        batches = [batch for batch, _ in self.states]
        left = caps_left(self.caps, batches, number)
        plan = plan_settlement(
            number, attempt, self.balances, drawn_so_far(batches), left, daily_cap_gwei=self.daily_cap_gwei
        )
        own = tuple(self.transfers[listed.transfers_before : listed.transfers_before + len(plan.transfers)])
        for planned, found in zip(plan.transfers, own, strict=False):
            if planned != found:
                raise RefusedError(
                    f"batch {number} settles {found.amount_wei} wei as {found.id!r}, rebuilt are {planned}"
                )
        if len(own) != len(plan.transfers):
            raise RefusedError(f"batch {number} leaves out the settlement {plan.transfers[len(own)].id!r}")
        for transfer in own:
            self.balances.apply(transfer)
        batch = build_batch(
            number,
            listed.chain_id,
            listed.distributor,
            [
                Payee(index, self._payout(index, row), self.balances.earned_wei(index))
                for index in (account.node_index for account in self.balances.of_kind("payable"))
                if index is not None
            ],
            attempt=attempt,
            ledger_hash=history,
            draws=plan.draws,
        )
        _compare(batch, listed)
        return batch

    def _payout(self, node_index: int, row: int) -> str:
        current = [p.payout for p in self.payouts.get(node_index, []) if p.from_batch <= row]
        if not current:
            raise RefusedError(f"the public ledger lists no payout address for node {node_index}")
        return current[-1]


def _compare(batch: Batch, listed: PublicBatch) -> None:
    found = {entry.index: entry for entry in listed.entries}
    for entry in batch.entries:
        other = found.pop(entry.index, None)
        if other is None:
            raise RefusedError(
                f"batch {batch.number} leaves out node {entry.index}, who is owed {entry.cumulative_gwei} gwei"
            )
        if (other.account, int(other.cumulative_gwei)) != (entry.account, entry.cumulative_gwei):
            raise RefusedError(
                f"batch {batch.number} pays node {entry.index} {other.cumulative_gwei} gwei to {other.account},"
                f" rebuilt are {entry.cumulative_gwei} gwei to {entry.account}"
            )
    if found:
        raise RefusedError(f"batch {batch.number} pays node {next(iter(found))}, who is owed nothing")
    draws: Mapping[str, int] = {job_id: int(amount) for job_id, amount in listed.draws.items()}
    for name, rebuilt, other_value in (
        ("draws", dict(batch.draws), dict(draws)),
        ("total", batch.total_gwei, int(listed.total_gwei)),
        ("root", batch.root, listed.root),
        ("ledger hash", batch.ledger_hash, listed.ledger_hash),
        ("data hash", batch.data_hash, listed.data_hash),
    ):
        if rebuilt != other_value:
            raise RefusedError(f"batch {batch.number} lists the {name} {other_value}, rebuilt is {rebuilt}")
