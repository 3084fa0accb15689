"""What the contracts let a key sign (EIP-712): a registration, and a claim to another address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from web3 import Web3

from anynode_contracts.errors import RefusedError

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
    """The address that signed. Raises ``RefusedError`` for bytes that are no signature."""
    value = {"node": registration.node, "payout": registration.payout, "deadline": registration.deadline_s}
    message = _encode("AnyNode MinerRegistry", chain_id, registry, {"Registration": _REGISTRATION}, value)
    try:
        return str(Account.recover_message(message, signature=registration.signature))
    except Exception as error:  # eth-keys raises several families for malformed signatures
        raise RefusedError("the registration carries no valid signature; sign it again") from error


def sign_claim(
    account: LocalAccount, entry: bytes, *, to: str, deadline_s: int, chain_id: int, distributor: str
) -> bytes:
    """Sign with the entry's account that this claim goes to ``to``."""
    value = {"entry": entry, "to": Web3.to_checksum_address(to), "deadline": deadline_s}
    message = _encode("AnyNode RewardDistributor", chain_id, distributor, {"Claim": _CLAIM}, value)
    return bytes(account.sign_message(message).signature)


def _encode(name: str, chain_id: int, contract: str, types: dict[str, Any], value: dict[str, Any]) -> SignableMessage:
    domain = {
        "name": name,
        "version": "1",
        "chainId": chain_id,
        "verifyingContract": Web3.to_checksum_address(contract),
    }
    return encode_typed_data(domain, types, value)
