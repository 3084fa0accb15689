"""A network whose verifier set is still empty, with three verifiers' wallets, and what is typed on it."""

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
from anynode_contracts.clients import TokenClient
from anynode_contracts.deploy import Holders, deploy_development
from anynode_contracts.networks import Network
from anynode_contracts.stakes import StakesClient, VerifierSetClient

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
