"""`anynode verifier leave` on a real chain: out of the set at once, the stake back when its time has come."""

from __future__ import annotations

from typing import Any

import pytest
from deployed import TOKEN_WEI
from founding import Founding

from anynode_contracts.deploy import BOND_WEI
from anynode_contracts.plan import PLAN
from anynode_contracts.stakes import VerifierStanding

UNBONDING_S = 14 * 86_400


def leave(founding: Founding, *arguments: str) -> dict[str, Any]:
    code, facts = founding.run("verifier", "leave", *arguments)
    assert code == 0, facts
    return facts


def found_set(founding: Founding, number: int) -> None:
    """Bring the first ``number`` verifiers into the set, with what the commands tell to send."""
    told = []
    for place, verifier in enumerate(founding.verifiers[:number], start=1):
        founding.give(verifier, 1000)
        schedule, execute = founding.stake("--number", str(place))["admin"]
        founding.act(schedule)
        told.append(execute)
    founding.deployment.anvil.pass_time(PLAN.admin_delay_s)
    for execute in told:
        founding.act(execute)


def test_a_verifier_leaves_and_has_its_stake_back(founding: Founding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resigned and asked back at once, also above the bond; paid out 14 days later; the same command at each step."""
    found_set(founding, 2)
    first = founding.verifiers[0]
    founding.give(first, 50)
    founding.stake("50")
    all_of_it = BOND_WEI + 50 * TOKEN_WEI
    with monkeypatch.context() as without:
        without.delenv("ANYNODE_PASSWORD_FILE")
        dry = leave(founding, "--dry-run")
    assert (dry["steps"], dry["sent"], dry["standing"]) == (["resign", "ask back"], {}, "member")
    assert first.address in founding.set.members()

    left = leave(founding)
    assert list(left["sent"]) == ["resign", "ask back"] and left["standing"] == "left"
    assert (left["active_wei"], left["unbonding_wei"]) == ("0", str(all_of_it))
    assert left["withdrawable_at_s"] == founding.deployment.now_s + UNBONDING_S
    assert founding.set.members() == [founding.verifiers[1].address] and founding.set.quorum() == 1
    assert leave(founding)["steps"] == [] and founding.tokens_wei(first) == 0, "nothing can be sent before its time"

    founding.deployment.anvil.pass_time(UNBONDING_S)
    assert leave(founding)["steps"] == ["withdraw"]
    assert founding.tokens_wei(first) == all_of_it
    over = leave(founding)
    assert (over["steps"], over["active_wei"], over["unbonding_wei"]) == ([], "0", "0")


def test_what_has_waited_is_withdrawn_before_more_is_asked_back(founding: Founding) -> None:
    """Asking for more makes all of it wait anew."""
    founding.give(founding.verifiers[0], 1000)
    founding.stake("1000")
    founding.deployment.send(founding.verifiers[0], founding.stakes.build_request_unstake(1, 300 * TOKEN_WEI))
    founding.deployment.anvil.pass_time(UNBONDING_S)
    left = leave(founding)
    assert list(left["sent"]) == ["withdraw", "ask back"] and left["standing"] == "none"
    assert founding.tokens_wei(founding.verifiers[0]) == 300 * TOKEN_WEI
    assert left["unbonding_wei"] == str(700 * TOKEN_WEI)


def test_the_last_one_is_warned(founding: Founding) -> None:
    found_set(founding, 1)
    assert "is the only verifier of network founded" in founding.refused("verifier", "leave")
    assert founding.set.standing_of(founding.verifiers[0].address) is VerifierStanding.MEMBER
    assert leave(founding, "--last")["standing"] == "left" and founding.set.members() == []


def test_who_has_nothing_to_leave(founding: Founding) -> None:
    assert "is not registered on network founded" in founding.refused("verifier", "leave")
    found_set(founding, 2)
    founding.deployment.anvil.fund(founding.verifiers[1].address, 0)
    assert "send it some" in founding.refused("verifier", "leave", "--number", "2")
    assert founding.verifiers[1].address in founding.set.members()
