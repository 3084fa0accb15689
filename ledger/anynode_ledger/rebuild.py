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
from anynode_ledger.pay import credit_id
from anynode_ledger.public import PublicBatch, PublicLedger


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
        self._check_resolved(followed=False)
        self.balances.check()
        return [batch for batch, _ in self.states]

    def _replay(self, end: int) -> None:
        """Apply the transfers up to ``end`` that are not applied yet; those of a settlement are, by ``_batch``."""
        for transfer in self.transfers[self.balances.count : end]:
            if transfer.phase == "pending":
                raise RefusedError(f"transfer {transfer.id!r} settles outside any batch of the public ledger")
            self.balances.apply(transfer)

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
        """Every credit is booked exactly as it says, and nothing is credited, slashed or released without a reason."""
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
        decided: set[tuple[str, str]] = {(d.kind, d.id) for d in self.ledger.decisions}
        self._check_fees(decided)
        for transfer in self.transfers:
            if transfer.reason in ("slash", "reinstate", "repay", "release"):
                parts = transfer.id.split("/")
                if (transfer.reason, "/".join(parts[1:-1])) not in decided:
                    raise RefusedError(f"transfer {transfer.id!r} follows no decision that the public ledger lists")

    def _check_fees(self, decided: set[tuple[str, str]]) -> None:
        """A job is charged for what its audits earn, and for the replays of appeals that were upheld."""
        charged = {t.id: t for t in self.transfers if t.reason == "fee"}
        for credit in self.ledger.credits:
            if credit.kind == "audit":
                fee = charged.pop(f"fee/{credit.id}", None)
                if fee is None or fee.amount_wei != int(credit.amount_wei):
                    raise RefusedError(f"credit {credit.id!r} for an audit is not charged to its job as a fee")
        for name in charged:
            if ("repay", name.removeprefix("fee/")) not in decided:
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
