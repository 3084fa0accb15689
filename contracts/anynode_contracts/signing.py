"""Signed statements (EIP-712): one domain per network, one struct per kind of statement.

The domain binds chain and registry, every struct binds the job, so a signature of one network, job or kind is
worthless in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount

from anynode_contracts.errors import BreachError, Offence


@dataclass(frozen=True, slots=True)
class SigningDomain:
    """The EIP-712 domain of a network's off-chain statements."""

    chain_id: int
    registry: str

    def fields(self) -> dict[str, Any]:
        return {"name": "AnyNode", "version": "1", "chainId": self.chain_id, "verifyingContract": self.registry}


@dataclass(frozen=True, slots=True)
class Statement:
    """One signed struct: its name, its Solidity field types in order, and the values."""

    name: str
    types: tuple[tuple[str, str], ...]
    values: Mapping[str, Any]


def sign(account: LocalAccount, domain: SigningDomain, statement: Statement) -> str:
    """The 65-byte signature r, s, v as ``0x`` and 130 hexadecimal digits."""
    signature = account.sign_message(_encode(domain, statement)).signature
    return "0x" + bytes(signature).hex()


def recover(domain: SigningDomain, statement: Statement, signature: str) -> str:
    """The checksummed address that signed. Raises ``BreachError`` for bytes that are no signature."""
    try:
        return str(Account.recover_message(_encode(domain, statement), signature=signature))
    except Exception as error:  # eth-keys raises several families for malformed signatures
        raise BreachError(f"a {statement.name} carries no valid signature; it is ignored", Offence.SIGNATURE) from error


def check(domain: SigningDomain, statement: Statement, signature: str, signer: str) -> None:
    """Raise ``BreachError`` unless ``signer`` signed the statement."""
    if recover(domain, statement, signature).lower() != signer.lower():
        raise BreachError(f"a {statement.name} is not signed by {signer}; it is ignored", Offence.SIGNATURE)


def _encode(domain: SigningDomain, statement: Statement) -> SignableMessage:
    types = {statement.name: [{"name": name, "type": kind} for name, kind in statement.types]}
    return encode_typed_data(domain.fields(), types, dict(statement.values))
