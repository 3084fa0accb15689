"""Typed clients of the contracts: reads, and ``build_*`` methods that return calls for someone to sign.

token = TokenClient(w3, network.token)
send(w3, account, token.build_approve(network.escrow, budget_wei))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from eth_typing import ChecksumAddress
from web3 import Web3
from web3.contract.contract import Contract
from web3.exceptions import BadFunctionCallOutput, ContractCustomError

from anynode_contracts import artifacts
from anynode_contracts.calls import Call
from anynode_contracts.errors import UserError
from anynode_contracts.reverts import explain_revert
from anynode_contracts.typed_data import RootSignature, RootStatement, SignedRegistration, in_order


class ContractClient:
    """What the clients have in common: a deployed contract at an address."""

    NAME: ClassVar[str]

    def __init__(self, w3: Web3, address: str) -> None:
        self.w3 = w3
        self.address: ChecksumAddress = Web3.to_checksum_address(address)
        self.contract: Contract = w3.eth.contract(address=self.address, abi=artifacts.load(self.NAME).abi)

    def authority(self) -> ChecksumAddress:
        """The AccessManager that says who may do what here; tokens and the registry have none."""
        return Web3.to_checksum_address(self._read("authority"))

    def _read(self, function: str, *arguments: Any, block: int | None = None) -> Any:
        try:
            return self.contract.functions[function](*arguments).call(
                block_identifier="latest" if block is None else block
            )
        except BadFunctionCallOutput as error:
            raise UserError(
                f"there is no {self.NAME} at {self.address} on this chain; check the network file and the RPC URL"
            ) from error

    def _build(self, function: str, *arguments: Any) -> Call:
        data = self.contract.encode_abi(function, list(arguments))
        return Call(to=self.address, data=bytes.fromhex(data.removeprefix("0x")), what=f"{self.NAME}.{function}")


class TokenClient(ContractClient):
    """AnyToken."""

    NAME = "AnyToken"

    def balance_wei(self, account: str, *, block: int | None = None) -> int:
        return int(self._read("balanceOf", Web3.to_checksum_address(account), block=block))

    def allowance_wei(self, owner: str, spender: str) -> int:
        return int(self._read("allowance", Web3.to_checksum_address(owner), Web3.to_checksum_address(spender)))

    def build_transfer(self, to: str, amount_wei: int) -> Call:
        return self._build("transfer", Web3.to_checksum_address(to), amount_wei)

    def build_approve(self, spender: str, amount_wei: int) -> Call:
        return self._build("approve", Web3.to_checksum_address(spender), amount_wei)


class FaucetClient(ContractClient):
    """Faucet: on development chains only."""

    NAME = "Faucet"

    def amount_wei(self) -> int:
        """What it gives at once."""
        return int(self._read("AMOUNT_WEI"))

    def build_give(self, to: str) -> Call:
        """To be sent by anyone, for anyone, once a day."""
        return self._build("give", Web3.to_checksum_address(to))


@dataclass(frozen=True)
class MinerInfo:
    """A registered node: its key's address and the account its rewards go to now."""

    node: ChecksumAddress
    payout: ChecksumAddress


class RegistryClient(ContractClient):
    """MinerRegistry."""

    NAME = "MinerRegistry"

    def count(self, *, block: int | None = None) -> int:
        """How many nodes are registered; the highest index."""
        return int(self._read("count", block=block))

    def index_of(self, node: str) -> int | None:
        """The node's index, or None if it is not registered."""
        return int(self._read("indexOf", Web3.to_checksum_address(node))) or None

    def info_of(self, index: int, *, block: int | None = None) -> MinerInfo | None:
        """Node key and payout account of ``index``, or None if nobody has it."""
        try:
            node, payout = self._read("infoOf", index, block=block)
        except ContractCustomError as error:
            if (explain_revert(str(error.data)) or "").startswith("UnknownIndex"):
                return None
            raise
        return MinerInfo(node=node, payout=payout)

    def payout_change_delay_s(self) -> int:
        """How long a change of the payout account waits before it counts."""
        return int(self._read("PAYOUT_CHANGE_DELAY"))

    def payout_change_of(self, index: int, *, block: int | None = None) -> tuple[ChecksumAddress, int] | None:
        """The waiting payout account and the Unix time from which it counts, or None."""
        payout, effective_at = self._read("payoutChangeOf", index, block=block)
        return (payout, int(effective_at)) if effective_at else None

    def build_register(self, payout: str) -> Call:
        """To be sent by the node key itself."""
        return self._build("register", Web3.to_checksum_address(payout))

    def build_register_many(self, registrations: Sequence[SignedRegistration]) -> Call:
        """To be sent by anyone who pays the gas."""
        return self._build(
            "registerMany",
            [(item.node, item.payout, item.deadline_s) for item in registrations],
            [item.signature for item in registrations],
        )

    def build_request_payout_change(self, index: int, payout: str) -> Call:
        return self._build("requestPayoutChange", index, Web3.to_checksum_address(payout))

    def build_cancel_payout_change(self, index: int) -> Call:
        return self._build("cancelPayoutChange", index)


@dataclass(frozen=True)
class JobOnChain:
    """A job as the escrow stores it. Times are Unix seconds, amounts wei."""

    owner: ChecksumAddress
    deadline_s: int
    cancelled: bool
    finalised: bool
    refunded: bool
    funded_wei: int
    drawn_wei: int
    cap_per_batch_wei: int
    last_batch_wei: int
    last_batch: int
    final_batch: int
    refunded_wei: int

    @property
    def remaining_wei(self) -> int:
        return self.funded_wei - self.drawn_wei - self.refunded_wei


class EscrowClient(ContractClient):
    """JobEscrow. A job is named by its hash: 32 bytes, or 64 hexadecimal digits with or without ``0x``."""

    NAME = "JobEscrow"

    def job(self, job_id: str | bytes, *, block: int | None = None) -> JobOnChain | None:
        """The job, or None if the escrow does not know it."""
        try:
            return JobOnChain(*self._read("jobOf", job_hash(job_id), block=block))
        except ContractCustomError as error:
            if (explain_revert(str(error.data)) or "").startswith("UnknownJob"):
                return None
            raise

    def refund_delay_s(self) -> int:
        """How long after a job's deadline the rest may be taken back whatever happens."""
        return int(self._read("REFUND_DELAY"))

    def build_create(self, job_id: str | bytes, *, budget_wei: int, cap_per_batch_wei: int, deadline_s: int) -> Call:
        """To be sent by the owner, who has approved ``budget_wei`` for the escrow."""
        return self._build("create", job_hash(job_id), budget_wei, cap_per_batch_wei, deadline_s)

    def build_fund(self, job_id: str | bytes, amount_wei: int) -> Call:
        return self._build("fund", job_hash(job_id), amount_wei)

    def build_draw(self, job_id: str | bytes, *, batch: int, amount_wei: int) -> Call:
        """To be sent by the settler. ``batch`` is ``DistributorClient.next_batch()``."""
        return self._build("draw", job_hash(job_id), batch, amount_wei)

    def build_finalise(self, job_id: str | bytes, *, final_batch: int) -> Call:
        """To be sent by the settler."""
        return self._build("finalise", job_hash(job_id), final_batch)

    def build_cancel(self, job_id: str | bytes) -> Call:
        """To be sent by the owner."""
        return self._build("cancel", job_hash(job_id))

    def build_refund(self, job_id: str | bytes) -> Call:
        """To be sent by anyone; the tokens go to the owner."""
        return self._build("refund", job_hash(job_id))


@dataclass(frozen=True)
class RootOnChain:
    """A posted root. ``active_at_s`` is the Unix time from which it pays, 0 for the active root."""

    batch: int
    root: bytes
    active_at_s: int


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """A packed entry, and the sibling hashes that lead from its leaf to a root."""

    entry: bytes
    proof: tuple[bytes, ...]

    @property
    def as_argument(self) -> tuple[bytes, list[bytes]]:
        """As the contract takes it."""
        return self.entry, list(self.proof)


class DistributorClient(ContractClient):
    """RewardDistributor. Entries are packed words (:func:`anynode_contracts.entries.pack`)."""

    NAME = "RewardDistributor"

    def active_root(self, *, block: int | None = None) -> RootOnChain | None:
        """The root that pays now, or None before the first."""
        batch, root = self._read("activeRoot", block=block)
        return RootOnChain(int(batch), bytes(root), 0) if batch else None

    def waiting_root(self, *, block: int | None = None) -> RootOnChain | None:
        """The root whose window runs, or None."""
        batch, root, active_at_s = self._read("waitingRoot", block=block)
        return RootOnChain(int(batch), bytes(root), int(active_at_s)) if batch else None

    def next_batch(self, *, block: int | None = None) -> int:
        """The number that the next posted root must have."""
        return int(self._read("nextBatch", block=block))

    def total_gwei(self) -> int:
        """The total of the newest root that was not vetoed."""
        return int(self._read("totalGwei"))

    def funded_wei(self, *, block: int | None = None) -> int:
        return int(self._read("fundedWei", block=block))

    def claimed_gwei(self, index: int, *, block: int | None = None) -> int:
        return int(self._read("claimedGwei", index, block=block))

    def window_s(self) -> int:
        return int(self._read("WINDOW"))

    def build_fund(self, amount_wei: int) -> Call:
        """To be sent by whoever has approved ``amount_wei`` for the distributor."""
        return self._build("fund", amount_wei)

    def cancelled(self, *, block: int | None = None) -> int:
        """How many posted roots were cancelled so far."""
        return int(self._read("cancelled", block=block))

    def build_post_root(self, root: RootStatement, signatures: Iterable[RootSignature]) -> Call:
        """To be sent by the poster, with the signatures of a quorum."""
        signed = [(item.verifier, item.signature) for item in in_order(signatures)]
        return self._build("postRoot", root.batch, root.root, root.total_gwei, root.data_hash, signed)

    def bond_wei(self, *, block: int | None = None) -> int:
        """What is left for bounties."""
        return int(self._read("bondWei", block=block))

    def bounty_wei(self) -> int:
        """What is paid for a proof of fraud."""
        return int(self._read("BOUNTY_WEI"))

    def build_bond(self, amount_wei: int) -> Call:
        """To be sent by whoever has approved ``amount_wei`` for the distributor. It stays there."""
        return self._build("bond", amount_wei)

    def build_prove_decrease(self, former: ProvenEntry, entry: ProvenEntry) -> Call:
        """To be sent by anyone, who is paid the bounty: an entry of the active root, and a lower one of the waiting."""
        return self._build("proveDecrease", former.as_argument, entry.as_argument)

    def build_prove_duplicate(self, one: ProvenEntry, other: ProvenEntry) -> Call:
        """To be sent by anyone, who is paid the bounty: two entries of one index, both of the waiting root."""
        return self._build("proveDuplicate", one.as_argument, other.as_argument)

    def build_veto(self) -> Call:
        """To be sent by the guardian."""
        return self._build("veto")

    def build_claim(self, entry: bytes, proof: Sequence[bytes]) -> Call:
        """To be sent by anyone; the tokens go to the entry's account."""
        return self._build("claim", entry, list(proof))

    def build_claim_subtree(self, entries: Sequence[bytes], proof: Sequence[bytes]) -> Call:
        """To be sent by anyone: an aligned block of 2^k entries, zero words for padded positions."""
        return self._build("claimSubtree", list(entries), list(proof))

    def build_claim_with_sig(
        self, entry: bytes, proof: Sequence[bytes], *, to: str, deadline_s: int, signature: bytes
    ) -> Call:
        """To be sent by anyone; the tokens go to ``to``, as the entry's account has signed."""
        return self._build("claimWithSig", entry, list(proof), Web3.to_checksum_address(to), deadline_s, signature)


def job_hash(job_id: str | bytes) -> bytes:
    """The 32 bytes of a job id. Raises ``UserError`` if it is none."""
    try:
        raw = bytes.fromhex(job_id.removeprefix("0x")) if isinstance(job_id, str) else job_id
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise UserError(f"{str(job_id)[:80]!r} is not a job id; a job id has 64 hexadecimal digits")
    return raw
