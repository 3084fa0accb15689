"""Whether a claim should be sent, decided from a proof and what the chain says. Pure: no network, no clock, no key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from anynode.wallet.amounts import show_wei
from anynode.wallet.times import show_time
from anynode_contracts.entries import GWEI, Entry, unpack
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.merkle import domain, leaf, verify

PROOF_BYTES_MAX = 64 * 1024
#: A tree over all 2^32 indices is this high.
PROOF_HASHES_MAX = 32
#: A claim that costs more of its reward than this had better wait for more.
GAS_SHARE_WARN = 0.1


def _integer(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20 else value


def _hash(value: object) -> object:
    """32 bytes from 64 hexadecimal digits, with or without 0x."""
    if not isinstance(value, str):
        return value
    raw = bytes.fromhex(value.removeprefix("0x"))
    if len(raw) != 32:
        raise ValueError("a hash has 64 hexadecimal digits")
    return raw


Word = Annotated[bytes, BeforeValidator(_hash)]
Count = Annotated[int, BeforeValidator(_integer), Field(ge=0, lt=2**64)]


class ProofDocument(BaseModel):
    """A proof as the ledger's API and proof files give it. Fields that only inform are passed over."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    batch: Annotated[int, Field(ge=1, lt=2**63)]
    index: Annotated[int, Field(ge=1, lt=2**32)]
    cumulative_gwei: Count
    entry: Word
    proof: Annotated[list[Word], Field(max_length=PROOF_HASHES_MAX)]
    root: Word


@dataclass(frozen=True)
class Proof:
    """A proof that leads from its entry to its root, on one chain and one distributor."""

    batch: int
    entry: Entry
    word: bytes
    siblings: tuple[bytes, ...]
    root: bytes


@dataclass(frozen=True)
class RootView:
    """A root on chain and, while its window runs, the Unix time from which it pays."""

    batch: int
    root: bytes
    active_at_s: int


@dataclass(frozen=True)
class ChainView:
    """What the chain says now: both roots, what the entry's index has claimed, and the tokens in the distributor."""

    active: RootView | None
    waiting: RootView | None
    claimed_gwei: int
    held_wei: int


@dataclass(frozen=True)
class Gas:
    """What sending the claim may cost at most, and what the sender has for it."""

    fee_wei: int
    balance_wei: int
    sender: str


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at before a claim is sent, and what it came to."""

    name: Literal["proof", "root", "claimed", "funded", "gas"]
    ok: bool
    sentence: str


@dataclass(frozen=True)
class Claimable:
    """Send the claim: it pays ``amount_wei`` to ``account``."""

    account: str
    amount_wei: int


@dataclass(frozen=True)
class NothingToClaim:
    """The entry is paid in full; ``sentence`` says so."""

    sentence: str


def parse_proof(raw: bytes, source: str) -> ProofDocument:
    """The document in ``raw``. Raises ``RefusedError`` if it is not one."""
    try:
        return ProofDocument.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "document"
        raise RefusedError(f"{source} holds no proof ({field}: {first['msg']}); fetch it again") from error


def check_proof(document: ProofDocument, *, index: int, chain_id: int, distributor: str) -> Proof:
    """Recompute the root from the entry. Raises ``RefusedError`` if anything in the document contradicts it.

    The API is not believed: only a proof that leads to the root of *this* distributor on *this* chain passes.
    """
    entry = unpack(document.entry)
    if entry.index != index or document.index != index:
        raise RefusedError(f"the proof is for node {entry.index} and not for node {index}; fetch the right one")
    if entry.cumulative_gwei != document.cumulative_gwei:
        raise RefusedError(
            "the proof's amount is not the one in its entry; do not use it, and tell whoever runs that API"
        )
    hashed = leaf(domain(chain_id, distributor), document.entry)
    if not verify(document.root, hashed, document.proof):
        raise RefusedError("the proof does not lead to its root on this network; fetch it from this network's own API")
    return Proof(document.batch, entry, document.entry, tuple(document.proof), document.root)


def decide(proof: Proof, chain: ChainView) -> Claimable | NothingToClaim:
    """Whether to send the claim.

    Raises ``UserError`` while the root waits for its window, and ``RefusedError`` if the chain has another root, or the
    distributor does not hold what is left to claim.
    """
    if chain.active is None or chain.active.root != proof.root:
        raise _not_active(proof, chain)
    left_gwei = proof.entry.cumulative_gwei - chain.claimed_gwei
    if left_gwei <= 0:
        earned = show_wei(proof.entry.cumulative_gwei * GWEI)
        return NothingToClaim(f"node {proof.entry.index} has claimed all of its {earned} ANY already")
    if chain.held_wei < left_gwei * GWEI:
        raise RefusedError(_funds(left_gwei, chain) + "; do not pay for a claim that fails, and tell the operator")
    return Claimable(proof.entry.account, left_gwei * GWEI)


def preflight(proof: Proof, chain: ChainView) -> tuple[Finding, ...]:
    """Everything that a claim stands on but its gas, in sentences, whether or not it is so."""
    entry = proof.entry
    earned, root = show_wei(entry.cumulative_gwei * GWEI), f"0x{proof.root.hex()[:16]}…"
    active = chain.active is not None and chain.active.root == proof.root
    left_gwei = max(0, entry.cumulative_gwei - chain.claimed_gwei)
    return (
        Finding("proof", True, f"it leads from node {entry.index}'s {earned} ANY to root {root}"),
        Finding(
            "root", active, f"this root of batch {proof.batch} is active" if active else str(_not_active(proof, chain))
        ),
        Finding(
            "claimed",
            left_gwei > 0,
            f"{show_wei(chain.claimed_gwei * GWEI)} ANY of it are claimed, {show_wei(left_gwei * GWEI)} are left",
        ),
        Finding("funded", chain.held_wei >= left_gwei * GWEI, _funds(left_gwei, chain)),
    )


def gas_finding(gas: Gas, amount_wei: int, wei_per_token: int | None) -> Finding:
    """Whether the sender can pay for the claim, and what share of the reward it costs at this price of a token."""
    if gas.balance_wei < gas.fee_wei:
        return Finding(
            "gas",
            False,
            f"{gas.sender} has {show_wei(gas.balance_wei)} ETH and the claim may cost {show_wei(gas.fee_wei)} ETH; send"
            " it some, or claim with another wallet (anyone may, the tokens go to the node's account)",
        )
    share = "; give --token-price to see it as a share of the reward"
    if wei_per_token is not None:
        of_reward = gas_share(gas.fee_wei, amount_wei, wei_per_token)
        dear = "; waiting for more rewards would be cheaper" if of_reward > GAS_SHARE_WARN else ""
        share = f", {of_reward:.1%} of the reward{dear}"
    return Finding("gas", True, f"at most {show_wei(gas.fee_wei)} of {show_wei(gas.balance_wei)} ETH{share}")


def gas_share(fee_wei: int, amount_wei: int, wei_per_token: int) -> float:
    """The fee as a share of the reward's worth, at ``wei_per_token`` of ether for one token."""
    worth_wei = amount_wei * wei_per_token // 10**18
    return fee_wei / worth_wei if worth_wei else float("inf")


def _funds(left_gwei: int, chain: ChainView) -> str:
    left, held = show_wei(left_gwei * GWEI), show_wei(chain.held_wei)
    return f"the distributor holds {held} ANY, of which this claim takes {left}"


def _not_active(proof: Proof, chain: ChainView) -> UserError:
    if chain.waiting is not None and chain.waiting.root == proof.root:
        return UserError(
            f"batch {proof.batch} becomes payable at {show_time(chain.waiting.active_at_s)}; claim again after that"
        )
    if chain.active is None:
        return RefusedError("no reward root is active on this network yet; claim after the first batch")
    if proof.batch < chain.active.batch:
        return RefusedError(
            f"the proof is for batch {proof.batch} and batch {chain.active.batch} is active; fetch a new proof"
        )
    return RefusedError(
        f"the chain has another root than the proof for batch {proof.batch}; do not use this proof, and tell "
        "whoever runs that API"
    )
