"""`hardhat deploy` on two chains: the same system as Python's own deployment, with nobody but the named in a role."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deployed import ROOT, Deployed, random_address
from eth_account import Account
from eth_utils.abi import function_abi_to_4byte_selector
from hardhat_task import deployment, hardhat_deploy
from web3 import Web3

from anynode_contracts import artifacts
from anynode_contracts.anvil import Anvil, find_anvil
from anynode_contracts.clients import DistributorClient
from anynode_contracts.examination import examine
from anynode_contracts.plan import PLAN
from anynode_contracts.record import Record

#: What both must say of themselves. They may differ in the window, which is short in tests, and in their addresses.
GETTERS = {
    "RewardDistributor": ("TOKEN", "VERIFIER_SET", "authority", "DAILY_CAP_GWEI", "BOUNTY_WEI"),
    "JobEscrow": ("TOKEN", "DISTRIBUTOR", "authority"),
    "StakeManager": ("ESCROW", "REGISTRY", "VERIFIER_SET", "authority", "FINDERS_FEE_WEI"),
    "VerifierSet": ("STAKES", "REGISTRY", "authority", "BOND_WEI"),
    "AnyToken": ("totalSupply",),
}
ROLES = {duty.holder: duty.role for duty in PLAN.duties}


def described(w3: Web3, addresses: dict[str, str]) -> dict[str, Any]:
    """What a system says of itself, with the names of its contracts in the place of their addresses."""
    names = {address: name for name, address in addresses.items()}
    found: dict[str, Any] = {}
    for name, getters in GETTERS.items():
        contract = w3.eth.contract(address=Web3.to_checksum_address(addresses[name]), abi=artifacts.load(name).abi)
        for getter in getters:
            value = contract.functions[getter]().call()
            found[f"{name}.{getter}"] = names.get(value, value)
    manager = manager_of(w3, addresses)
    for duty in PLAN.duties:
        contract = w3.eth.contract(abi=artifacts.load(duty.contract).abi)
        target = Web3.to_checksum_address(addresses[duty.contract])
        for function in duty.functions:
            selector = function_abi_to_4byte_selector(contract.get_function_by_name(function).abi)
            assert manager.functions.getTargetFunctionRole(target, selector).call() == duty.role
    return found


def manager_of(w3: Web3, addresses: dict[str, str]) -> Any:
    address = Web3.to_checksum_address(addresses["AccessManager"])
    return w3.eth.contract(address=address, abi=artifacts.load("AccessManager").abi)


def test_a_public_chain_takes_no_key_for_two_roles(tmp_path: Path) -> None:
    """Before it asks for the deployer's key."""
    holders = {role: random_address(number) for number, role in enumerate(("holder", *ROLES, "admin"), start=1)}
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"name": "test", **holders, "slasher": holders["guardian"]}))
    with Anvil.start(find_anvil(ROOT), arguments=("--chain-id", "11155111")) as anvil:
        said = hardhat_deploy("--rpc", anvil.url, "--settings", str(settings))
    assert said.returncode != 0
    assert f"settings: `guardian` and `slasher` are both {holders['guardian']}" in said.stderr


def test_an_amount_that_json_would_round_is_refused(tmp_path: Path) -> None:
    """Before the chain is asked."""
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"name": "test", "bond_wei": 10**21 + 1}))
    said = hardhat_deploy("--rpc", "http://127.0.0.1:1", "--settings", str(settings))
    assert said.returncode != 0
    assert f'settings: write `bond_wei` in digits and in quotes, like "{PLAN.settings["bond_wei"]}"' in said.stderr


@pytest.mark.deep
@pytest.mark.parametrize("chain_id", [31337, 11155111])
def test_the_task_gives_what_python_gives(deployed_once: Deployed, tmp_path: Path, chain_id: int) -> None:
    deployer = Account.create()
    holders = {role: random_address(number) for number, role in enumerate(("holder", *ROLES, "admin"), start=1)}
    name = f"test-{deployer.address[2:10].lower()}"
    (tmp_path / "deployer.json").write_text(json.dumps(Account.encrypt(deployer.key, "secret", "pbkdf2", 1000)))
    (tmp_path / "password").write_text("secret\n")
    with Anvil.start(find_anvil(ROOT), arguments=("--chain-id", str(chain_id), "--block-time", "1")) as anvil:
        anvil.fund(deployer.address, 10)
        with deployment(tmp_path, anvil.url, chain_id, {"name": name, **holders}) as made:
            made.run()
            file = made.run()  # the second time there is nothing left to do
            record = json.loads(file.read_text())
            verification = json.loads((file.parent / "verification.json").read_text())
            read = Record.load(file)
        addresses = {each: made["address"] for each, made in record["contracts"].items()}
        assert (record["chain_id"], record["deployer"]) == (chain_id, deployer.address)
        assert set(verification) == set(addresses)
        for made in record["contracts"].values():
            assert Web3.to_hex(Web3.keccak(anvil.w3.eth.get_code(made["address"]))) == made["code_hash"]
        made_by_python = deployed_once.addresses
        own = {
            "AccessManager": made_by_python.authority,
            "AnyToken": made_by_python.token,
            "MinerRegistry": made_by_python.registry,
            "RewardDistributor": made_by_python.distributor,
            "JobEscrow": made_by_python.escrow,
            "StakeManager": made_by_python.stakes,
            "VerifierSet": made_by_python.verifier_set,
        }
        network = read.deployment([]).network(name=read.name, rpc_url=anvil.url, held_back_limit_wei=0)
        assert examine(anvil.w3, network).contracts == addresses
        assert described(anvil.w3, addresses) == described(deployed_once.w3, own)
        distributor = DistributorClient(anvil.w3, addresses["RewardDistributor"])
        assert distributor.window_s() == int(record["settings"]["window_s"]) == 24 * 3600
        manager = manager_of(anvil.w3, addresses)
        for role, holder in record["roles"].items():
            number, delay_s = (ROLES[role], 0) if role in ROLES else (PLAN.admin_role, 48 * 3600)
            assert manager.functions.hasRole(number, holder).call() == [True, delay_s]
        assert manager.functions.hasRole(0, deployer.address).call() == [False, 0]
        granted = manager.events.RoleGranted().get_logs(from_block=record["deployed_block"])
        assert {log["args"]["account"] for log in granted} == {*record["roles"].values(), deployer.address}
