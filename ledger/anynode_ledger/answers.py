"""What the ledger's API answers: the shape of each JSON answer. Amounts are decimal strings: JSON numbers lose wei."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from anynode_ledger.batch import BatchState


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AccountAnswer(_Answer):
    """One node's balances; ``earned`` = held back + accrued + waiting + payable + dust + paid."""

    node_index: int
    node: str
    payout: str
    earned_wei: str
    held_back_wei: str
    accrued_wei: str
    waiting_wei: str
    payable_wei: str
    dust_wei: str
    paid_wei: str
    slashed_wei: str


class BatchSummary(_Answer):
    """One batch without its entries. ``root`` and ``data_hash`` are 0x and 64 hexadecimal digits."""

    number: int
    attempt: int
    state: BatchState
    chain_id: int
    distributor: str
    root: str
    data_hash: str
    total_gwei: str
    entry_count: int


class BatchesAnswer(_Answer):
    """Batches, newest first. ``next_before`` asks for the following page; null on the last one."""

    batches: list[BatchSummary]
    next_before: int | None


class EntryAnswer(_Answer):
    """One entry of a root."""

    index: int
    account: str
    cumulative_gwei: str


class BatchAnswer(BatchSummary):
    """One batch with its entries in index order and what it drew from each job's escrow."""

    entries: list[EntryAnswer]
    draws_wei: dict[str, str]


class ProofAnswer(_Answer):
    """What ``RewardDistributor.claim`` takes, and everything to check it locally: leaf, domain and root."""

    batch: int
    state: BatchState
    index: int
    account: str
    cumulative_gwei: str
    entry: str
    leaf: str
    domain: str
    proof: list[str]
    root: str
    chain_id: int
    distributor: str


class ShareAnswer(_Answer):
    """What one node has had of one job: see ``earnings.Share``. Times in seconds since 1970."""

    job_id: str
    node_index: int
    first_at_s: int
    last_at_s: int
    rounds: int
    samples_wei: str
    reducing_wei: str
    audits_wei: str
    replays_wei: str
    slashed_wei: str
    held_back_wei: str
    accrued_wei: str
    in_roots_wei: str


class RootShareAnswer(_Answer):
    """What one batch has made payable to a node; ``transaction`` posted its root, null if that is not on the chain."""

    batch: int
    attempt: int
    state: BatchState
    amount_wei: str
    settled_at_s: int
    transaction: str | None


class MoveAnswer(_Answer):
    """Tokens that the chain has moved: a claim, or a job's funding, draw or refund."""

    reason: str
    amount_wei: str
    moved_at_s: int
    transaction: str | None


class NodeEarningsAnswer(_Answer):
    """One node: its share of each job, what each root has made payable, and what its claims have paid."""

    node_index: int
    node: str
    shares: list[ShareAnswer]
    roots: list[RootShareAnswer]
    claims: list[MoveAnswer]


class JobEarningsAnswer(_Answer):
    """One job: each node's share of it, and how its money came into the escrow and out of it."""

    job_id: str
    shares: list[ShareAnswer]
    moves: list[MoveAnswer]


class ErrorAnswer(_Answer):
    """What went wrong and what to do about it, in one sentence."""

    error: str


ANSWERS: tuple[type[BaseModel], ...] = (
    *(AccountAnswer, NodeEarningsAnswer, JobEarningsAnswer),
    *(BatchesAnswer, BatchAnswer, ProofAnswer, ErrorAnswer),
)
