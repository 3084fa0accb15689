"""The compiled contracts: ABI and code from the committed ``abi/*.json`` (written by ``npm run build``)."""

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
    """A compiled contract: its ABI as JSON describes it, and its creation bytecode as ``0x`` + hex digits.

    ``runtime`` is the code that it has on chain, but for the values that its constructor fixes: ``immutables`` are
    their places, (offset, length) in bytes, which are zero here.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: str
    runtime: bytes
    immutables: tuple[tuple[int, int], ...]

    def is_code(self, code: bytes) -> bool:
        """Whether ``code``, read from a chain, is this contract's, whatever its constructor was given."""
        if len(code) != len(self.runtime):
            return False
        masked = bytearray(code)
        for offset, length in self.immutables:
            masked[offset : offset + length] = bytes(length)
        return masked == self.runtime


@cache
def load(name: str) -> Artifact:
    """The artifact of contract ``name``. Raises ``KeyError`` if there is no such contract."""
    if name not in NAMES:
        raise KeyError(f"no contract is called {name}; there are {', '.join(NAMES)}")
    data = json.loads(files("anynode_contracts").joinpath("abi", f"{name}.json").read_text("utf-8"))
    places = (place.split("+") for place in data["immutables"].split())
    return Artifact(
        name=data["name"],
        abi=data["abi"],
        bytecode=data["bytecode"],
        runtime=bytes.fromhex(data["runtime"].removeprefix("0x")),
        immutables=tuple((int(offset), int(length)) for offset, length in places),
    )
