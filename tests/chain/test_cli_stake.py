"""`anynode verifier stake` and `network bond` on a real chain: what is paid, and what the admin is told to send."""

from __future__ import annotations

import pytest
from deployed import TOKEN_WEI
from founding import Founding

from anynode_contracts.clients import DistributorClient
from anynode_contracts.deploy import BOND_WEI, BOUNTY_WEI
from anynode_contracts.errors import RefusedError
from anynode_contracts.plan import PLAN
from anynode_contracts.stakes import VerifierSetClient, VerifierStanding


def test_three_verifiers_come_into_the_set(founding: Founding) -> None:
    """Each is registered and bonded by its own wallet, and added with the calldata that the command has shown."""
    told = []
    for number, verifier in enumerate(founding.verifiers, start=1):
        founding.give(verifier, 1500)
        staked = founding.stake("--number", str(number))
        assert staked["index"] == number and not staked["in_set"]
        assert staked["staked_wei"] == staked["active_wei"] == staked["bond_wei"] == str(BOND_WEI)
        assert founding.tokens_wei(verifier) == 500 * TOKEN_WEI
        schedule, execute = staked["admin"]
        assert schedule["arguments"] == execute["arguments"] | {"when": "0"}
        assert execute["arguments"]["target"] == founding.set.address
        assert execute["what"] == f"VerifierSet.add({verifier.address}, {min(number, 2)})"
        founding.act(schedule)
        told.append(execute)
    with pytest.raises(RefusedError, match="AccessManagerNotReady"):
        founding.act(told[0])
    founding.deployment.anvil.pass_time(PLAN.admin_delay_s)
    with pytest.raises(RefusedError, match="QuorumOutOfRange"):
        founding.act(told[2])
    quorums = []
    for execute in told:
        founding.act(execute)
        quorums.append(founding.set.quorum())
    assert founding.set.members() == list(founding.network.verifiers)
    assert quorums == [1, 2, 2] and founding.network.signatures_needed == 2
    again = founding.stake()
    assert (again["in_set"], again["admin"], again["staked_wei"]) == (True, [], "0")


def test_more_than_the_bond_and_what_is_missing_of_it(founding: Founding) -> None:
    verifier = founding.verifiers[0]
    founding.give(verifier, 2000)
    assert founding.stake("0.5")["active_wei"] == str(TOKEN_WEI // 2)
    assert founding.stake()["staked_wei"] == str(BOND_WEI - TOKEN_WEI // 2)
    assert founding.stake("200")["active_wei"] == str(BOND_WEI + 200 * TOKEN_WEI)
    founding.deployment.send(verifier, founding.stakes.build_request_unstake(1, 300 * TOKEN_WEI))
    assert founding.stake()["staked_wei"] == str(100 * TOKEN_WEI), "what was asked back counts for no bond"


def test_a_dry_run_needs_no_password_and_sends_nothing(founding: Founding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANYNODE_PASSWORD_FILE")
    verifier = founding.verifiers[0]
    founding.give(verifier, 1000)
    block = founding.deployment.w3.eth.block_number
    dry = founding.stake("--dry-run")
    assert (dry["index"], dry["staked_wei"], dry["active_wei"]) == (None, "0", "0")
    assert [step["when"] for step in dry["admin"]] == ["now", "48 hours later"]
    code, bonded = founding.run("network", "bond", "10", "--wallet", "founded-verifier", "--dry-run")
    assert (code, bonded["paid_wei"]) == (0, "0")
    assert founding.deployment.w3.eth.block_number == block


def test_a_purse_that_does_not_suffice(founding: Founding) -> None:
    verifier = founding.verifiers[0]
    assert "has 0 ANY and 1,000 ANY are to be paid; send it the rest" in founding.refused("verifier", "stake")
    founding.give(verifier, 1000)
    founding.deployment.anvil.fund(verifier.address, 0)
    for command in (("verifier", "stake"), ("network", "bond", "1", "--wallet", "founded-verifier")):
        assert "has 0 ETH and the gas may cost" in founding.refused(*command)
    assert founding.tokens_wei(verifier) == 1000 * TOKEN_WEI


def test_who_is_not_in_the_file_or_was_proven_stakes_nothing(
    founding: Founding, monkeypatch: pytest.MonkeyPatch
) -> None:
    founding.give(founding.verifiers[2], 1000)
    monkeypatch.setattr(VerifierSetClient, "standing_of", lambda *_: VerifierStanding.PROVEN)
    assert "never taken into the set again" in founding.refused("verifier", "stake", "--number", "3")
    founding.network.model_copy(update={"verifiers": founding.network.verifiers[:2]}).save(founding.file)
    assert "is no verifier of network founded" in founding.refused("verifier", "stake", "--number", "3")
    assert founding.tokens_wei(founding.verifiers[2]) == 1000 * TOKEN_WEI


def test_anybody_pays_into_the_bond(founding: Founding) -> None:
    verifier = founding.verifiers[0]
    founding.give(verifier, 1000)
    deployed = DistributorClient(founding.deployment.w3, founding.network.distributor)
    before_wei = deployed.bond_wei()
    code, facts = founding.run("network", "bond", "250", "--wallet", "founded-verifier")
    assert code == 0 and facts["paid_wei"] == str(250 * TOKEN_WEI) and facts["bounty_wei"] == str(BOUNTY_WEI)
    assert facts["bond_wei"] == str(before_wei + 250 * TOKEN_WEI) == str(deployed.bond_wei())
    assert founding.tokens_wei(verifier) == 750 * TOKEN_WEI
