"""Reward batches: what to settle, what to draw from each escrow, and the root over cumulative entries. Pure.

One entry per node: index, payout address, everything ever payable in whole gwei. What is below a gwei is the node's
dust and carries over (docs/design.md, Pay and the ledger).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from blake3 import blake3

from anynode_contracts.canonical import canonical_json, hash_hex
from anynode_contracts.entries import GWEI, Entry
from anynode_contracts.errors import invariant
from anynode_contracts.merkle import MerkleTree, build_tree, domain
from anynode_ledger.accounts import Account, Balances, Transfer, accrued, dust, payable

NO_HISTORY = "0" * 64
RECORDS_AT_ONCE = 1_000

BatchState = Literal["pending", "posted", "void"]


@dataclass(frozen=True, slots=True)
class Payee:
    """A node in a root: its registry index, payout address and everything it ever had payable."""

    index: int
    account: str
    earned_wei: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One reward root. ``number`` counts posted roots; a vetoed number is tried again with the next ``attempt``.

    ``root`` and ``data_hash`` are 64 hexadecimal digits; ``data_hash`` binds the entries and, through
    ``ledger_hash``, every transfer before them. ``draws`` maps job id -> wei to draw from its escrow first.
    """

    number: int
    attempt: int
    chain_id: int
    distributor: str
    entries: tuple[Entry, ...]
    root: str
    total_gwei: int
    data_hash: str
    ledger_hash: str
    draws: Mapping[str, int]

    def tree(self) -> MerkleTree:
        """The Merkle tree whose root this batch posts."""
        return build_tree(domain(self.chain_id, self.distributor), self.entries)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a batch will move: pending transfers into payable and dust, and what to draw from each escrow."""

    transfers: tuple[Transfer, ...]
    draws: Mapping[str, int]


def build_batch(
    number: int,
    chain_id: int,
    distributor: str,
    payees: Iterable[Payee],
    *,
    attempt: int = 1,
    ledger_hash: str = NO_HISTORY,
    draws: Mapping[str, int] | None = None,
) -> Batch:
    """The batch that pays ``payees`` (any order; those below one gwei are left out). Needs at least one entry."""
    entries = tuple(
        Entry(payee.index, payee.account, payee.earned_wei // GWEI)
        for payee in sorted(payees, key=lambda payee: payee.index)
        if payee.earned_wei >= GWEI
    )
    invariant(bool(entries), "a batch without entries has no root")
    root = build_tree(domain(chain_id, distributor), entries).root.hex()
    content = {
        "number": number,
        "attempt": attempt,
        "chain_id": chain_id,
        "distributor": distributor,
        "ledger_hash": ledger_hash,
        "draws": {job_id: str(amount) for job_id, amount in (draws or {}).items()},
        "entries": [[entry.index, entry.account, str(entry.cumulative_gwei)] for entry in entries],
    }
    return Batch(
        number=number,
        attempt=attempt,
        chain_id=chain_id,
        distributor=distributor,
        entries=entries,
        root=root,
        total_gwei=sum(entry.cumulative_gwei for entry in entries),
        data_hash=hash_hex(canonical_json(content)),
        ledger_hash=ledger_hash,
        draws=dict(draws or {}),
    )


def extend_history(ledger_hash: str, transfers: Iterable[Transfer]) -> str:
    """The hash chain over transfers: BLAKE3 of ``[ledger_hash, [record, ...]]`` in canonical JSON, piece by piece."""
    hasher = blake3(b"[" + canonical_json(ledger_hash) + b",[")
    waiting, between = iter(transfers), b""
    while piece := [transfer.record() for transfer in islice(waiting, RECORDS_AT_ONCE)]:
        hasher.update(between + canonical_json(piece)[1:-1])
        between = b","
    hasher.update(b"]]")
    return hasher.hexdigest()


def plan_settlement(
    number: int,
    attempt: int,
    balances: Balances,
    drawn_wei: Mapping[str, int],
    cap_per_batch_wei: Mapping[str, int],
    *,
    daily_cap_gwei: int,
) -> Settlement:
    """What the next batch settles. ``drawn_wei`` = drawn per job by all earlier batches; no cap means no limit.
    ``daily_cap_gwei`` = by how much the roots of one day may raise the total, so that no root could ever exceed it.

    A job's draw covers everything credited (also what is held back), less what was slashed after it was drawn, as far
    as the escrow still pays. Where the cap binds, the accrued amounts share what it lets through, and the rest waits
    for the next batch; what has lapsed waits for ever and holds up nobody.
    """
    shares: dict[int, list[tuple[str, int]]] = {}
    draws: dict[str, int] = {}
    for job_id in sorted(balances.committed):
        drawable = balances.drawable_wei(job_id)
        before = min(drawn_wei.get(job_id, 0), drawable)
        owed = max(0, min(balances.committed[job_id], drawable) - before)
        draw = min(owed, cap_per_batch_wei.get(job_id, owed))
        if draw:
            draws[job_id] = draw
        room = before + draw - balances.settled.get(job_id, 0)
        invariant(room >= 0, f"job {job_id} settled more than was drawn for it")
        for index, amount in _share(balances, balances.of_kind("accrued", job_id=job_id), room):
            shares.setdefault(index, []).append((job_id, amount))
    shares = _within(balances, shares, daily_cap_gwei)
    transfers = [
        Transfer(f"settle/{number}.{attempt}/{index}/{name}", source, target, amount, "settle", "pending")
        for index in sorted(shares)
        for name, source, target, amount in _whole_gwei(balances, index, shares[index])
    ]
    return Settlement(tuple(transfers), draws)


def next_number(earlier: Sequence[tuple[Batch, BatchState]]) -> tuple[int, int]:
    """Number and attempt of the next batch: a voided number is tried again, a posted one is followed."""
    if not earlier:
        return 1, 1
    newest, state = earlier[-1]
    invariant(state != "pending", f"batch {newest.number} is still pending")
    return (newest.number + 1, 1) if state == "posted" else (newest.number, newest.attempt + 1)


def drawn_so_far(batches: Iterable[Batch]) -> dict[str, int]:
    """Wei drawn per job by these batches. A voided batch has drawn too: the tokens are in the distributor."""
    drawn: dict[str, int] = {}
    for batch in batches:
        for job_id, amount in batch.draws.items():
            drawn[job_id] = drawn.get(job_id, 0) + amount
    return drawn


def caps_left(caps_wei: Mapping[str, int], batches: Iterable[Batch], number: int) -> dict[str, int]:
    """What each capped job may still draw for ``number``: the escrow counts the vetoed attempts of a number too."""
    used = drawn_so_far(batch for batch in batches if batch.number == number)
    return {job_id: max(0, cap - used.get(job_id, 0)) for job_id, cap in caps_wei.items()}


def worth_posting(plan: Settlement, balances: Balances, closed_jobs: AbstractSet[str]) -> bool:
    """Whether a root would pay anybody at least a gwei more, or completes a closed job."""
    if any(Account.parse(transfer.credit).kind == "payable" for transfer in plan.transfers):
        return True
    closes = any(Account.parse(transfer.debit).job_id in closed_jobs for transfer in plan.transfers)
    others = [a.node_index for a in balances.of_kind("payable") if a.node_index is not None]
    return closes and any(balances.earned_wei(index) >= GWEI for index in others)


def _whole_gwei(
    balances: Balances, index: int, shares: Sequence[tuple[str, int]]
) -> Iterable[tuple[str, str, str, int]]:
    """A node's shares of its jobs as (name, debit, credit, wei): whole gwei to payable, the rest to dust.

    The rest is taken from the last jobs; dust of earlier batches goes along as soon as there is a gwei to go with.
    """
    before = balances.available_wei(dust(index))
    total = before + sum(amount for _, amount in shares)
    rest = total % GWEI
    left = rest if total >= GWEI else total - before
    parts: list[tuple[str, str, str, int]] = []
    for job_id, amount in reversed(shares):
        below = min(left, amount)
        left -= below
        source = accrued(index, job_id)
        parts.append((f"{job_id}/dust", source, dust(index), below))
        parts.append((job_id, source, payable(index), amount - below))
    parts.append(("dust", dust(index), payable(index), before if total >= GWEI else 0))
    return [part for part in parts if part[3]]


def _share(balances: Balances, accounts: Sequence[Account], room_wei: int) -> list[tuple[int, int]]:
    amounts = [
        (account.node_index, balances.available_wei(account.name))
        for account in accounts
        if account.node_index is not None and balances.available_wei(account.name) > 0
    ]
    parts = _fit([amount for _, amount in amounts], room_wei)
    return [(index, part) for (index, _), part in zip(amounts, parts, strict=True) if part]


def _within(
    balances: Balances, shares: Mapping[int, Sequence[tuple[str, int]]], most_gwei: int
) -> dict[int, list[tuple[str, int]]]:
    """The shares where they raise the total by ``most_gwei`` or less, otherwise so much of each that they do."""
    below = {index: balances.available_wei(dust(index)) for index in shares}
    raised_gwei = sum((below[index] + sum(part for _, part in parts)) // GWEI for index, parts in shares.items())
    if raised_gwei <= most_gwei:
        return {index: list(parts) for index, parts in shares.items()}
    flat = [(index, job_id, part) for index in sorted(shares) for job_id, part in shares[index]]
    # dust of earlier batches that becomes whole gwei counts too
    fitting = _fit([part for _, _, part in flat], max(0, most_gwei * GWEI - sum(below.values())))
    within: dict[int, list[tuple[str, int]]] = {}
    for (index, job_id, _), part in zip(flat, fitting, strict=True):
        if part:
            within.setdefault(index, []).append((job_id, part))
    return within


def _fit(amounts: Sequence[int], room_wei: int) -> list[int]:
    """The amounts, or where they are more than ``room_wei`` together, the same share of each."""
    total = sum(amounts)
    if total <= room_wei:
        return list(amounts)
    parts = [amount * room_wei // total for amount in amounts]
    left = room_wei - sum(parts)
    return [part + (position < left) for position, part in enumerate(parts)]
