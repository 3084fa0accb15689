"""The compiled contracts: ABI and bytecode from the committed ``abi/*.json`` (written by ``npm run build``)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

#: Every contract that has a committed artifact.
NAMES = (
    "AccessManager",
    "AnyToken",
    "Faucet",
    "JobEscrow",
    "MinerRegistry",
    "RewardDistributor",
    "StakeManager",
    "VerifierSet",
)


@dataclass(frozen=True)
class Artifact:
    """A compiled contract: its ABI as JSON describes it, and its creation bytecode as ``0x`` + hex digits."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: str


@cache
def load(name: str) -> Artifact:
    """The artifact of contract ``name``. Raises ``KeyError`` if there is no such contract."""
    if name not in NAMES:
        raise KeyError(f"no contract is called {name}; there are {', '.join(NAMES)}")
    data = json.loads(files("anynode_contracts").joinpath("abi", f"{name}.json").read_text("utf-8"))
    return Artifact(name=data["name"], abi=data["abi"], bytecode=data["bytecode"])
