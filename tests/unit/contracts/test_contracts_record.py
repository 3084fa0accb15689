"""The record of a deployment: what a network file takes from it, and what is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anynode_contracts.errors import UserError
from anynode_contracts.plan import PLAN
from anynode_contracts.record import Record
from deployment_record import VERIFIER, address, record


def test_a_network_takes_addresses_block_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record(window_s="21600", daily_cap_gwei="7")))
    read = Record.load(path)
    made = read.deployment([VERIFIER])
    network = made.network(name="other", rpc_url="https://rpc.example.org", held_back_limit_wei=10**20)
    assert (network.name, network.chain_id, network.deployed_block) == ("other", 11155111, 42)
    assert (network.window_s, network.daily_cap_gwei, network.held_back_limit_wei) == (21600, 7, 10**20)
    assert (network.verifiers, network.faucet) == ((VERIFIER,), "")
    at = {name: contract.address for name, contract in read.contracts.items()}
    assert at == {planned.name: address(number) for number, planned in enumerate(PLAN.contracts)}
    assert made.authority == at["AccessManager"]
    assert (network.token, network.registry, network.escrow) == (at["AnyToken"], at["MinerRegistry"], at["JobEscrow"])
    assert (network.distributor, network.stakes) == (at["RewardDistributor"], at["StakeManager"])
    assert network.verifier_set == at["VerifierSet"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"chain_id": "11155111"}, "chain_id: Input should be a valid integer"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"deployer": "0x12"}, "deployer: Value error, not an Ethereum address"),
        ({"contracts": {}}, "contracts: they are not those of this version"),
        ({"settings": {"window_s": "21600"}}, "settings: they are not those of this version"),
        ({"settings": {"window_s": "-1"}}, "settings.window_s: Input should be a valid integer"),
        ({"roles": {str(number): VERIFIER for number in range(17)}}, "roles: Dictionary should have at most 16 items"),
    ],
)
def test_a_wrong_record_is_one_sentence(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record() | change))
    with pytest.raises(UserError, match=says) as caught:
        Record.load(path)
    assert "\n" not in str(caught.value) and "`hardhat deploy`" in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"{", "is not JSON"),
        (b"[" * 1000, "is not JSON"),
        (b"\xff", "is not JSON"),
        (b" " * (1 << 20) + b"{}", "larger than a record of the deployment can be"),
    ],
)
def test_what_is_no_record(tmp_path: Path, raw: bytes, says: str) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=says):
        Record.load(path)


def test_a_missing_record(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the record of the deployment"):
        Record.load(tmp_path / "nowhere.json")
