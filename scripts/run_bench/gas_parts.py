"""What the gas of a transaction was spent on, from its trace: the features of a contract, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3
from web3.types import TxReceipt

from anynode_contracts.errors import UserError

FEATURES = ("transaction", "token", "roles", "signatures", "storage", "events", "code")
_INTRINSIC_GAS, _ZERO_BYTE_GAS, _BYTE_GAS = 21_000, 4, 16
_CALLS = {"CALL", "STATICCALL", "DELEGATECALL", "CALLCODE"}
_STORAGE = {"SLOAD", "SSTORE", "TLOAD", "TSTORE"}


@dataclass(frozen=True)
class Parts:
    """Gas by feature; it adds up to the whole."""

    by_feature: Mapping[str, float]

    @property
    def gas(self) -> float:
        return sum(self.by_feature.values())

    @classmethod
    def whole(cls, gas: float) -> Parts:
        return cls({**dict.fromkeys(FEATURES, 0.0), "code": gas})

    @classmethod
    def sum(cls, several: Sequence[Parts]) -> Parts:
        return cls({feature: sum(parts.by_feature[feature] for parts in several) for feature in FEATURES})

    def minus(self, other: Parts) -> Parts:
        return Parts({feature: gas - other.by_feature[feature] for feature, gas in self.by_feature.items()})

    def over(self, count: float) -> Parts:
        return Parts({feature: gas / count for feature, gas in self.by_feature.items()})


def parts_of(w3: Web3, receipt: TxReceipt, features: Mapping[ChecksumAddress, str]) -> Parts:
    """Take a transaction apart; ``features`` says what a call to another contract is for."""
    found = dict.fromkeys(FEATURES, 0.0)
    data = bytes(w3.eth.get_transaction(receipt["transactionHash"])["input"])
    found["transaction"] = _INTRINSIC_GAS + sum(_BYTE_GAS if byte else _ZERO_BYTE_GAS for byte in data)
    hash_ = HexBytes(receipt["transactionHash"]).to_0x_hex()
    quiet = {"disableStack": True, "disableStorage": True, "enableMemory": False}
    steps = [step for step in _trace(w3, hash_, quiet)["structLogs"] if step["depth"] == 1]
    calls = iter(_trace(w3, hash_, {"tracer": "callTracer"}).get("calls", []))
    for step, following in pairwise(steps):
        # The gas at the next step of the same depth: a call's whole cost, with what it did inside.
        spent = step["gas"] - following["gas"]
        if step["op"] in _CALLS:
            found[features[Web3.to_checksum_address(next(calls)["to"])]] += spent
        elif step["op"] in _STORAGE:
            found["storage"] += spent
        elif step["op"].startswith("LOG"):
            found["events"] += spent
    found["code"] = receipt["gasUsed"] - sum(found.values())
    return Parts(found)


def _trace(w3: Web3, transaction: str, options: Mapping[str, object]) -> dict[str, Any]:
    answer = w3.provider.make_request("debug_traceTransaction", [transaction, options])  # type: ignore[arg-type]
    if "error" in answer:
        raise UserError(f"the chain traces no transactions ({answer['error']}); measure on anvil")
    traced: dict[str, Any] = answer["result"]
    return traced
