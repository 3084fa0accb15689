"""What `anynode network add` looks at, on a real chain: code, wiring, settings, duties and the holders of roles."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deployed import Deployed, random_address

from anynode_contracts import deploy
from anynode_contracts.artifacts import NAMES
from anynode_contracts.deploy import Holders, deploy_development
from anynode_contracts.errors import UserError
from anynode_contracts.examination import Examination, RoleHolder, examine
from anynode_contracts.plan import PLAN

HOLDERS = Holders(*(random_address(number) for number in range(1, 6)), admin=random_address(8))


def test_what_was_deployed_is_recognised(deployment: Deployed) -> None:
    read = []
    found = examine(deployment.w3, deployment.network, lambda done, whole: read.append(done / whole))
    assert set(found.contracts) == set(NAMES) and read[-1] == 1
    assert found.contracts["RewardDistributor"] == deployment.network.distributor
    expected = {duty.holder: 0 for duty in PLAN.duties} | {"admin": PLAN.admin_delay_s}
    assert {each.role: each.delay_s for each in found.holders} == expected
    assert {each.role: each.holder for each in found.holders}["guardian"] == deployment.guardian.address
    assert any("is a single key, not a Safe" in warning for warning in found.warnings)


def test_a_set_of_verifiers_is_compared(deployment: Deployed) -> None:
    examine(deployment.w3, deployment.network)
    with pytest.raises(UserError, match=f"verifier {deployment.verifier.address} is in the set on chain and not in"):
        examine(deployment.w3, deployment.network.model_copy(update={"verifiers": ()}))


@pytest.mark.parametrize("field", ["token", "registry", "distributor", "escrow", "stakes", "verifier_set", "faucet"])
def test_other_code_is_named(deployment: Deployed, field: str) -> None:
    """The code of a contract with one byte changed, outside what its constructor fixes."""
    name = {
        **{"token": "AnyToken", "registry": "MinerRegistry", "distributor": "RewardDistributor"},
        **{"escrow": "JobEscrow", "stakes": "StakeManager", "verifier_set": "VerifierSet", "faucet": "Faucet"},
    }[field]
    code = bytearray(deployment.w3.eth.get_code(getattr(deployment.network, field)))
    code[100] ^= 1
    forged = random_address(100)
    deployment.anvil.rpc("anvil_setCode", forged, "0x" + code.hex())
    with pytest.raises(UserError, match=f"{forged} on chain 31337 is not the {name} of this version of AnyNode"):
        examine(deployment.w3, deployment.network.model_copy(update={field: forged}))


def test_contracts_of_two_networks_are_not_one(deployment: Deployed) -> None:
    other = deploy_development(deployment.w3, deployment.account(), holders=HOLDERS, verifiers=[], window_s=60)
    mixed = deployment.network.model_copy(update={"escrow": other.escrow})
    with pytest.raises(UserError, match="the JobEscrow of network test works with the AnyToken"):
        examine(deployment.w3, mixed)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"window_s": 61}, "window_s is 60 on chain and 61 in the file"),
        ({"daily_cap_gwei": 7}, "daily_cap_gwei is 10000000000000000 on chain and 7 in the file"),
        (
            {"verifiers": (random_address(7),), "quorum": 0},
            f"trusts verifier {random_address(7)}, which is not in the set on chain",
        ),
        ({"chain_id": 5}, "wrong chain id"),
    ],
)
def test_a_file_that_says_something_else(deployment: Deployed, change: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        examine(deployment.w3, deployment.network.model_copy(update=change))


def test_a_first_block_that_hides_grants(deployment: Deployed) -> None:
    late = deployment.network.model_copy(update={"deployed_block": deployment.w3.eth.block_number})
    with pytest.raises(UserError, match="was made before block"):
        examine(deployment.w3, late)


def test_a_function_that_another_role_may_call(deployment: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    duties = tuple(replace(duty, role=9) if duty.holder == "guardian" else duty for duty in PLAN.duties)
    monkeypatch.setattr(deploy, "PLAN", replace(PLAN, duties=duties))
    made = deploy_development(deployment.w3, deployment.account(), holders=HOLDERS, verifiers=[], window_s=60)
    network = made.network(name="open", rpc_url=deployment.anvil.url, held_back_limit_wei=0)
    with pytest.raises(UserError, match=r"RewardDistributor.veto of network open may be called by role 9"):
        examine(deployment.w3, network)


def test_warnings() -> None:
    keys = [random_address(number) for number in range(3)]
    found = Examination(
        {},
        (
            RoleHolder("admin", keys[0], 60, contract=False),
            RoleHolder("poster", keys[1], 0, contract=False),
            RoleHolder("guardian", keys[1], 0, contract=False),
        ),
    )
    assert found.warnings == (
        f"the admin {keys[0]} acts 60 s after it has said so, not 48 hours",
        f"the admin {keys[0]} is a single key, not a Safe",
        f"{keys[1]} is poster and guardian at once",
    )
    safe = Examination({}, (RoleHolder("admin", keys[0], PLAN.admin_delay_s, contract=True),))
    assert safe.warnings == ()
