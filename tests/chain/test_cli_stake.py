"""`anynode verifier stake` and `network bond` on a real chain: what is paid, and what the admin is told to send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deployed import TOKEN_WEI, Deployed, random_address
from eth_account.signers.local import LocalAccount
from web3 import Web3

from anynode.cli.main import run
from anynode.wallet import keystore
from anynode_contracts.calls import Call
from anynode_contracts.clients import DistributorClient, TokenClient
from anynode_contracts.deploy import BOND_WEI, BOUNTY_WEI, Holders, deploy_development
from anynode_contracts.errors import RefusedError
from anynode_contracts.networks import Network
from anynode_contracts.plan import PLAN
from anynode_contracts.stakes import StakesClient, VerifierSetClient, VerifierStanding

PASSWORD = "correct horse battery"
ROLES = ("verifier", "verifier-2", "verifier-3")


class Founding:
    """A network whose set is empty, its file, and three verifiers with a wallet each."""

    def __init__(self, deployment: Deployed, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.deployment, self.capsys, self.file = deployment, capsys, home / "founded.toml"
        self.admin, deployer = deployment.account(), deployment.account()
        holders = Holders(*(random_address(number) for number in range(1, 6)), admin=self.admin.address)
        made = deploy_development(deployment.w3, deployer, holders=holders, verifiers=[], window_s=60)
        self.verifiers = [self._wallet(home, role) for role in ROLES]
        self.network: Network = made.network(
            name="founded", rpc_url=deployment.anvil.url, held_back_limit_wei=0
        ).model_copy(update={"verifiers": tuple(each.address for each in self.verifiers)})
        self.network.save(self.file)
        self.set = VerifierSetClient(deployment.w3, self.network.verifier_set)
        self.stakes = StakesClient(deployment.w3, self.network.stakes)
        self.holder = deployer

    def _wallet(self, home: Path, role: str) -> LocalAccount:
        account = keystore.new_account()
        keystore.store(home / "home" / "data" / "wallets" / f"founded-{role}.json", account, PASSWORD, scrypt_n=1024)
        return account

    def give(self, account: LocalAccount, tokens: int) -> None:
        """Tokens, and ether for the gas."""
        token = TokenClient(self.deployment.w3, self.network.token)
        self.deployment.send(self.holder, token.build_transfer(account.address, tokens * TOKEN_WEI))
        self.deployment.anvil.fund(account.address, 1)

    def tokens_wei(self, account: LocalAccount) -> int:
        return TokenClient(self.deployment.w3, self.network.token).balance_wei(account.address)

    def run(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """A command on this network: its exit code and its object."""
        self.capsys.readouterr()
        code = run([*arguments, "--network", str(self.file), "--json"])
        return code, json.loads(self.capsys.readouterr().out.splitlines()[-1])

    def stake(self, *arguments: str) -> dict[str, Any]:
        code, facts = self.run("verifier", "stake", *arguments)
        assert code == 0, facts
        return facts

    def refused(self, *arguments: str) -> str:
        code, facts = self.run(*arguments)
        assert code == 2
        return str(facts["error"])

    def act(self, step: dict[str, Any]) -> None:
        """Send a step of the admin as it was told."""
        to = Web3.to_checksum_address(step["to"])
        call = Call(to=to, data=bytes.fromhex(step["data"].removeprefix("0x")), what=step["function"])
        self.deployment.send(self.admin, call)


@pytest.fixture
def founding(
    deployment: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Founding:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(f"{PASSWORD}\n")
    monkeypatch.setenv("ANYNODE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANYNODE_PASSWORD_FILE", str(password))
    return Founding(deployment, tmp_path, capsys)


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
    founding.deployment.send(verifier, founding.stakes._build("requestUnstake", 1, 300 * TOKEN_WEI))
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
