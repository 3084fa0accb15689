"""What the contracts let a key sign (EIP-712): a registration, a claim to another address, and a reward root."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from web3 import Web3

from anynode_contracts.errors import BreachError, Offence

_REGISTRATION = [
    {"name": "node", "type": "address"},
    {"name": "payout", "type": "address"},
    {"name": "deadline", "type": "uint256"},
]
_CLAIM = [
    {"name": "entry", "type": "bytes32"},
    {"name": "to", "type": "address"},
    {"name": "deadline", "type": "uint256"},
]
_ROOT = [
    {"name": "batch", "type": "uint64"},
    {"name": "cancelled", "type": "uint24"},
    {"name": "root", "type": "bytes32"},
    {"name": "totalGwei", "type": "uint128"},
    {"name": "dataHash", "type": "bytes32"},
]


@dataclass(frozen=True)
class SignedRegistration:
    """A node key's wish to be registered; whoever has it may send it until ``deadline_s`` (Unix time)."""

    node: ChecksumAddress
    payout: ChecksumAddress
    deadline_s: int
    signature: bytes


def sign_registration(
    node: LocalAccount, *, payout: str, deadline_s: int, chain_id: int, registry: str
) -> SignedRegistration:
    """Sign with the node key that its rewards go to ``payout``."""
    address, to = Web3.to_checksum_address(node.address), Web3.to_checksum_address(payout)
    value = {"node": address, "payout": to, "deadline": deadline_s}
    message = _encode("AnyNode MinerRegistry", chain_id, registry, {"Registration": _REGISTRATION}, value)
    signature = bytes(node.sign_message(message).signature)
    return SignedRegistration(node=address, payout=to, deadline_s=deadline_s, signature=signature)


def signer_of_registration(registration: SignedRegistration, *, chain_id: int, registry: str) -> str:
    """The address that signed. Raises ``BreachError`` for bytes that are no signature."""
    value = {"node": registration.node, "payout": registration.payout, "deadline": registration.deadline_s}
    message = _encode("AnyNode MinerRegistry", chain_id, registry, {"Registration": _REGISTRATION}, value)
    try:
        return str(Account.recover_message(message, signature=registration.signature))
    except Exception as error:  # eth-keys raises several families for malformed signatures
        raise BreachError("the registration carries no valid signature; sign it again", Offence.SIGNATURE) from error


def sign_claim(
    account: LocalAccount, entry: bytes, *, to: str, deadline_s: int, chain_id: int, distributor: str
) -> bytes:
    """Sign with the entry's account that this claim goes to ``to``."""
    value = {"entry": entry, "to": Web3.to_checksum_address(to), "deadline": deadline_s}
    message = _encode("AnyNode RewardDistributor", chain_id, distributor, {"Claim": _CLAIM}, value)
    return bytes(account.sign_message(message).signature)


@dataclass(frozen=True, slots=True)
class RootStatement:
    """What verifiers sign for the root of a batch. ``cancelled`` = posted roots that were cancelled before, so that a
    cancelled root needs new signatures.
    """

    batch: int
    cancelled: int
    root: bytes
    total_gwei: int
    data_hash: bytes

    @property
    def place(self) -> tuple[int, int]:
        """What it may be signed for once: two roots for one place contradict each other."""
        return (self.batch, self.cancelled)


@dataclass(frozen=True, slots=True)
class RootSignature:
    """A verifier's signature over a root: 65 bytes r, s, v of its key, or what a contract takes by EIP-1271."""

    verifier: ChecksumAddress
    signature: bytes


def sign_root(verifier: LocalAccount, root: RootStatement, *, chain_id: int, distributor: str) -> RootSignature:
    """Sign with a verifier's key. Whoever calls this has promised before to sign no other root for this place."""
    signature = bytes(verifier.sign_message(_root_message(root, chain_id, distributor)).signature)
    return RootSignature(Web3.to_checksum_address(verifier.address), signature)


def signer_of_root(root: RootStatement, signature: bytes, *, chain_id: int, distributor: str) -> ChecksumAddress:
    """The address that signed. Raises ``BreachError`` for bytes that are no signature."""
    try:
        signer = Account.recover_message(_root_message(root, chain_id, distributor), signature=signature)
    except Exception as error:  # eth-keys raises several families for malformed signatures
        raise BreachError("the root carries no valid signature; it is ignored", Offence.SIGNATURE) from error
    return Web3.to_checksum_address(signer)


def in_order(signatures: Iterable[RootSignature]) -> list[RootSignature]:
    """As the contract takes them: in ascending order of their verifiers."""
    return sorted(signatures, key=lambda signature: int(signature.verifier, 16))


def _root_message(root: RootStatement, chain_id: int, distributor: str) -> SignableMessage:
    value = {
        "batch": root.batch,
        "cancelled": root.cancelled,
        "root": root.root,
        "totalGwei": root.total_gwei,
        "dataHash": root.data_hash,
    }
    return _encode("AnyNode RewardDistributor", chain_id, distributor, {"Root": _ROOT}, value)


def _encode(name: str, chain_id: int, contract: str, types: dict[str, Any], value: dict[str, Any]) -> SignableMessage:
    domain = {
        "name": name,
        "version": "1",
        "chainId": chain_id,
        "verifyingContract": Web3.to_checksum_address(contract),
    }
    return encode_typed_data(domain, types, value)
