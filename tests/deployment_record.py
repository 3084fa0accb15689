"""A record as `hardhat deploy` writes it, without a deployment: for tests that ask no chain."""

from __future__ import annotations

from typing import Any

from web3 import Web3

from anynode_contracts.plan import PLAN

VERIFIER = "0x52908400098527886E0F7030069857D2E4169EE7"


def address(number: int) -> str:
    """Of the contract with this number in the plan; others from 100 on."""
    return Web3.to_checksum_address(f"0x{number + 1:040x}")


def record(**settings: str) -> dict[str, Any]:
    """The record of a deployment to a public chain, with some settings of its own."""
    return {
        "name": "sepolia",
        "chain_id": 11155111,
        "deployer": address(100),
        "deployed_block": 42,
        "contracts": {
            planned.name: {"address": address(number), "arguments": [[], "x"], "code_hash": "0x" + "ab" * 32}
            for number, planned in enumerate(PLAN.contracts)
        },
        "roles": {"admin": address(101), "poster": address(102)},
        "settings": {name: str(value) for name, value in PLAN.settings.items()} | settings,
    }
