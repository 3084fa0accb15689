"""What a contract's refusal says: the custom error in revert data, by name and with its values."""

from __future__ import annotations

from functools import cache
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak
from web3 import Web3

from anynode_contracts import artifacts

_ERROR_STRING = bytes.fromhex("08c379a0")


def explain_revert(data: str | bytes) -> str | None:
    """``NotFunded(neededWei=7, fundedWei=3)`` for revert data, or None if no contract here has such an error."""
    raw = bytes.fromhex(data.removeprefix("0x")) if isinstance(data, str) else data
    known = _errors().get(raw[:4])
    if known is None:
        return None
    name, inputs = known
    try:
        values = decode([item["type"] for item in inputs], raw[4:])
    except DecodingError:
        return name
    shown = ", ".join(f"{item['name']}={_show(value)}" for item, value in zip(inputs, values, strict=True))
    return f"{name}({shown})"


@cache
def _errors() -> dict[bytes, tuple[str, list[dict[str, Any]]]]:
    """Selector -> name and inputs of every custom error, and of Solidity's own ``Error(string)``."""
    found: dict[bytes, tuple[str, list[dict[str, Any]]]] = {
        _ERROR_STRING: ("Error", [{"name": "message", "type": "string"}])
    }
    for contract in artifacts.NAMES:
        for item in artifacts.load(contract).abi:
            if item["type"] == "error":
                signature = f"{item['name']}({','.join(argument['type'] for argument in item['inputs'])})"
                found[keccak(signature.encode())[:4]] = (item["name"], item["inputs"])
    return found


def _show(value: Any) -> str:
    return Web3.to_hex(value) if isinstance(value, bytes) else str(value)
