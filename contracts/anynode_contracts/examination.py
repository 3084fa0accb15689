"""Whether a network file names AnyNode on its chain: each contract's code, how they know each other, who may what.

found = examine(w3, network)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from eth_typing import ABIFunction, ChecksumAddress
from eth_utils.abi import function_abi_to_4byte_selector
from web3 import Web3
from web3.contract.contract import Contract

from anynode_contracts import artifacts
from anynode_contracts.errors import UserError
from anynode_contracts.events import block_ranges
from anynode_contracts.networks import Network, check_chain
from anynode_contracts.plan import PLAN
from anynode_contracts.stakes import VerifierSetClient

#: Which contract has to name which other, and by which function.
_WIRING = (
    ("RewardDistributor", "TOKEN", "AnyToken"),
    ("RewardDistributor", "VERIFIER_SET", "VerifierSet"),
    ("JobEscrow", "TOKEN", "AnyToken"),
    ("JobEscrow", "DISTRIBUTOR", "RewardDistributor"),
    ("StakeManager", "TOKEN", "AnyToken"),
    ("StakeManager", "REGISTRY", "MinerRegistry"),
    ("StakeManager", "ESCROW", "JobEscrow"),
    ("StakeManager", "VERIFIER_SET", "VerifierSet"),
    ("VerifierSet", "STAKES", "StakeManager"),
    ("VerifierSet", "REGISTRY", "MinerRegistry"),
    ("RewardDistributor", "authority", "AccessManager"),
    ("JobEscrow", "authority", "AccessManager"),
    ("StakeManager", "authority", "AccessManager"),
    ("VerifierSet", "authority", "AccessManager"),
    ("Faucet", "TOKEN", "AnyToken"),
)
_MANAGED = ("RewardDistributor", "JobEscrow", "StakeManager", "VerifierSet")


@dataclass(frozen=True, slots=True)
class RoleHolder:
    """Who holds a role now. ``delay_s`` = how long each of its actions waits in the open; ``contract``: it has code."""

    role: str
    holder: ChecksumAddress
    delay_s: int
    contract: bool


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found: addresses by contract name, and the holders of all roles in the order of the roles."""

    contracts: dict[str, ChecksumAddress]
    holders: tuple[RoleHolder, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What somebody who trusts this network with money should know first."""
        found = []
        for each in self.holders:
            if each.role == "admin" and each.delay_s < PLAN.admin_delay_s:
                found.append(f"the admin {each.holder} acts {each.delay_s} s after it has said so, not 48 hours")
            if each.role == "admin" and not each.contract:
                found.append(f"the admin {each.holder} is a single key, not a Safe")
        by_holder: dict[str, list[str]] = {}
        for each in self.holders:
            by_holder.setdefault(each.holder, []).append(each.role)
        found += [f"{holder} is {' and '.join(roles)} at once" for holder, roles in by_holder.items() if len(roles) > 1]
        return tuple(found)


def examine(w3: Web3, network: Network, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Examination:
    """Compare the chain with this version of AnyNode. ``progress`` is told how many of how many blocks were read.

    Raises ``UnreachableError`` if the RPC does not answer, and ``UserError`` that names the first difference.
    """
    check_chain(w3, network)
    contracts = {
        "AnyToken": _contract(w3, network, "AnyToken", network.token),
        "MinerRegistry": _contract(w3, network, "MinerRegistry", network.registry),
        "RewardDistributor": _contract(w3, network, "RewardDistributor", network.distributor),
        "JobEscrow": _contract(w3, network, "JobEscrow", network.escrow),
        "StakeManager": _contract(w3, network, "StakeManager", network.stakes),
        "VerifierSet": _contract(w3, network, "VerifierSet", network.verifier_set),
    }
    if network.faucet:
        contracts["Faucet"] = _contract(w3, network, "Faucet", network.faucet)
    authority = contracts["RewardDistributor"].functions.authority().call()
    contracts["AccessManager"] = _contract(w3, network, "AccessManager", authority)
    _check_wiring(network, contracts)
    _check_file(w3, network, contracts["RewardDistributor"])
    _check_duties(network, contracts)
    holders = _holders(w3, network, contracts["AccessManager"], progress)
    return Examination({name: contract.address for name, contract in contracts.items()}, holders)


def _contract(w3: Web3, network: Network, name: str, address: str) -> Contract:
    at = Web3.to_checksum_address(address)
    artifact = artifacts.load(name)
    if not artifact.is_code(bytes(w3.eth.get_code(at))):
        raise UserError(
            f"{at} on chain {network.chain_id} is not the {name} of this version of AnyNode; ask whoever gave you the "
            f"file of network {network.name} for the right one, and trust it with nothing until then"
        )
    return w3.eth.contract(address=at, abi=artifact.abi)


def _check_wiring(network: Network, contracts: dict[str, Contract]) -> None:
    for name, function, other in _WIRING:
        if name not in contracts:
            continue
        named = contracts[name].functions[function]().call()
        if named != contracts[other].address:
            raise UserError(
                f"the {name} of network {network.name} works with the {other} {named} and the file names "
                f"{contracts[other].address}; ask its operator for the right file"
            )


def _check_file(w3: Web3, network: Network, distributor: Contract) -> None:
    window_s = int(distributor.functions.WINDOW().call())
    if window_s != network.window_s:
        raise UserError(
            f"window_s is {window_s} on chain and {network.window_s} in the file of network {network.name}; ask its "
            "operator for the right file"
        )
    daily_cap_gwei = int(distributor.functions.DAILY_CAP_GWEI().call())
    if daily_cap_gwei != network.daily_cap_gwei:
        raise UserError(
            f"daily_cap_gwei is {daily_cap_gwei} on chain and {network.daily_cap_gwei} in the file of network"
            f" {network.name}; ask its operator for the right file"
        )
    members = VerifierSetClient(w3, network.verifier_set).members()
    if strange := sorted(set(network.verifiers) - set(members)):
        raise UserError(
            f"the file of network {network.name} trusts verifier {strange[0]}, which is not in the set on chain; ask "
            "its operator for the newest file"
        )
    if missing := sorted(set(members) - set(network.verifiers)):
        raise UserError(
            f"verifier {missing[0]} is in the set on chain and not in the file of network {network.name}; ask its "
            "operator for the newest file"
        )


def _check_duties(network: Network, contracts: dict[str, Contract]) -> None:
    """No function may be called by another role than in the plan; what no role is named for is the admin's."""
    planned = {(duty.contract, function): duty.role for duty in PLAN.duties for function in duty.functions}
    role_of = contracts["AccessManager"].functions.getTargetFunctionRole
    for name in _MANAGED:
        for item in artifacts.load(name).abi:
            if item["type"] != "function" or item["stateMutability"] in ("view", "pure"):
                continue
            selector = function_abi_to_4byte_selector(cast(ABIFunction, item))
            role = int(role_of(contracts[name].address, selector).call())
            if role != planned.get((name, item["name"]), PLAN.admin_role):
                raise UserError(
                    f"{name}.{item['name']} of network {network.name} may be called by role {role}, which is not how "
                    "AnyNode gives out its roles; trust this network with nothing"
                )


def _holders(
    w3: Web3, network: Network, manager: Contract, progress: Callable[[int, int], None]
) -> tuple[RoleHolder, ...]:
    """Everybody who was ever granted a role and has it now."""
    granted: set[tuple[int, ChecksumAddress]] = set()
    last = w3.eth.block_number
    for first, upto in block_ranges(network.deployed_block, last):
        for log in manager.events.RoleGranted().get_logs(from_block=first, to_block=upto):
            granted.add((int(log["args"]["roleId"]), log["args"]["account"]))
        progress(upto + 1 - network.deployed_block, last + 1 - network.deployed_block)
    if not any(role == PLAN.admin_role for role, _ in granted):
        raise UserError(
            f"network {network.name} was made before block {network.deployed_block}, which its file names as the "
            "first; ask its operator for the right file"
        )
    names = {PLAN.admin_role: "admin"} | {duty.role: duty.holder for duty in PLAN.duties}
    found = []
    for role, account in sorted(granted):
        holds, delay_s = cast("tuple[bool, Any]", manager.functions.hasRole(role, account).call())
        if holds:
            code = bool(w3.eth.get_code(account))
            found.append(RoleHolder(names.get(role, f"role {role}"), account, int(delay_s), code))
    return tuple(found)
