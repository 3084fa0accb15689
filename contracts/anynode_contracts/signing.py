"""Signed statements (EIP-712): one domain per network, one struct per kind of statement.

The domain binds chain and registry, every struct that is about a job binds that, so a signature of one network, job or
kind is worthless in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from anynode_contracts.errors import BreachError, Offence, invariant

#: How many points secp256k1 has.
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


Kind = Literal[
    "Appeal",
    "AuditAnswer",
    "AuditTask",
    "ChunkDone",
    "Claim",
    "Commitment",
    "DeliveryReceipt",
    "Excise",
    "Join",
    "OpenSegments",
    "Record",
    "Standing",
    "StateReport",
    "Thresholds",
]
"""The names of all structs. `tests/attacks/test_attack_replayed_signatures.py` shows one of each where it does not
belong, so a new one needs its place there.
"""


@dataclass(frozen=True, slots=True)
class SigningDomain:
    """The EIP-712 domain of a network's off-chain statements."""

    chain_id: int
    registry: str

    def fields(self) -> dict[str, Any]:
        return {"name": "AnyNode", "version": "1", "chainId": self.chain_id, "verifyingContract": self.registry}


@dataclass(frozen=True, slots=True)
class Statement:
    """One signed struct: its name, its Solidity field types in order, and the values. Types are ``string``,
    ``address``, ``bytes32``, ``bool`` and unsigned integers.
    """

    name: Kind
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


def low_signature(signature: str) -> bytes:
    """The same signature as contracts take it: s in the lower half, v 27 or 28. Anybody can turn one into the other, so
    a signature that `recover` takes must not be one that a contract refuses.
    """
    raw = bytes.fromhex(signature.removeprefix("0x"))
    r, s, v = raw[:32], int.from_bytes(raw[32:64], "big"), raw[64]
    odd = v if v < 2 else (v + 1) % 2
    if s > _ORDER // 2:
        s, odd = _ORDER - s, 1 - odd
    return r + s.to_bytes(32, "big") + bytes([27 + odd])


def _encode(domain: SigningDomain, statement: Statement) -> SignableMessage:
    """The hashes that a signature covers. The library builds a type tree for each message, which costs more than the
    signature itself; our structs are flat.
    """
    words = [_type_hash(statement.name, statement.types)]
    words += [_word(kind, statement.values[name]) for name, kind in statement.types]
    return SignableMessage(b"\x01", _domain_separator(domain), keccak(b"".join(words)))


@lru_cache(maxsize=64)
def _domain_separator(domain: SigningDomain) -> bytes:
    some = {"Some": [{"name": "field", "type": "bool"}]}
    return bytes(encode_typed_data(domain.fields(), some, {"field": True}).header)


@lru_cache(maxsize=256)
def _type_hash(name: str, types: tuple[tuple[str, str], ...]) -> bytes:
    fields = ",".join(f"{kind} {field}" for field, kind in types)
    return keccak(f"{name}({fields})".encode())


def _word(kind: str, value: Any) -> bytes:
    """A field as the 32 bytes that EIP-712 encodes it in."""
    if kind == "string":
        return keccak(value.encode())
    if kind == "address":
        return bytes.fromhex(value.removeprefix("0x")).rjust(32, b"\0")
    if kind == "bytes32":
        word = bytes(value)
        invariant(len(word) == 32, "a bytes32 has 32 bytes")
        return word
    bits = 1 if kind == "bool" else int(kind.removeprefix("uint"))
    number = int(value)
    invariant(0 <= number < 1 << bits, f"a {kind} is within its range")
    return number.to_bytes(32, "big")
