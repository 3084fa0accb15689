"""The plan of the system (``system.json``), by which ``deploy`` and ``hardhat deploy`` make the same one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class PlannedContract:
    """A contract, and the names of its constructor's arguments: contracts, settings, ``deployer`` or ``genesis``."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Duty:
    """What the holder of an AccessManager role may call."""

    holder: str
    role: int
    contract: str
    functions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """``contracts`` come in the order of their creation; the last one's address is told to others before it exists.

    ``admin_delay_s`` = how long every action of the admin waits in the open.

    ``settings``: ``window_s`` = how long a root waits; ``daily_cap_gwei`` = by how much a day's roots may raise the
    total (one percent of the supply); ``finders_fee_wei`` = for who finds a fraud; ``bounty_wei`` = for a proof of a
    wrong root; ``bond_wei`` = what each verifier has at stake.
    """

    contracts: tuple[PlannedContract, ...]
    duties: tuple[Duty, ...]
    supply_wei: int
    admin_role: int
    admin_delay_s: int
    settings: Mapping[str, int]


def _read() -> Plan:
    data: dict[str, Any] = json.loads(files("anynode_contracts").joinpath("system.json").read_text("utf-8"))
    return Plan(
        contracts=tuple(PlannedContract(each["name"], tuple(each["arguments"])) for each in data["contracts"]),
        duties=tuple(Duty(**each | {"functions": tuple(each["functions"])}) for each in data["duties"]),
        supply_wei=int(data["supply_wei"]),
        admin_role=data["admin_role"],
        admin_delay_s=data["admin_delay_s"],
        settings={name: int(value) for name, value in data["settings"].items()},
    )


PLAN = _read()
