"""`anynode payout` against a real registry: what is shown, what is asked for and withdrawn, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from at_home import AtHome
from deployed import Deployed, random_address
from web3.types import RPCEndpoint

from anynode.wallet.times import show_time

INDEX = 2  # the verifier is node 1
DELAY_S = 48 * 3600
NEW, OTHER = random_address(1), random_address(2)


class Setting(AtHome):
    """Node 2 is the wallet ``miner`` and is paid to the wallet ``cold``; ``other`` is neither. All have ether."""

    addresses: dict[str, str]

    def payout(self, *arguments: object, wallet: str = "miner") -> tuple[int, str, str]:
        return self.run("payout", *arguments, wallet=wallet)

    def payout_json(self, *arguments: object, wallet: str = "miner") -> tuple[int, dict[str, Any]]:
        return self.run_json("payout", *arguments, wallet=wallet)

    @property
    def waiting(self) -> tuple[str, int] | None:
        return self.deployed.registry.payout_change_of(INDEX)


@pytest.fixture
def setting(
    deployment: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Setting:
    accounts = {name: deployment.account() for name in ("miner", "cold", "other")}
    deployment.send(accounts["miner"], deployment.registry.build_register(accounts["cold"].address))
    made = Setting(deployment, tmp_path, accounts, monkeypatch, capsys)
    made.addresses = {name: account.address for name, account in accounts.items()}
    return made


def test_a_change_waits_and_counts(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run needs no password; the change is shown with its time, counts after 48 hours, and cannot be undone."""
    deployed, cold = setting.deployed, setting.addresses["cold"]
    assert setting.payout_json("show")[1] == {
        **{"index": INDEX, "node": setting.addresses["miner"], "payout": cold, "waiting": None}
    }
    with monkeypatch.context() as without:
        without.delenv("ANYNODE_PASSWORD_FILE")
        code, out, _ = setting.payout("change", NEW, "--dry-run")
    assert code == 0 and f"rewards go to {cold}" in out and f"They will go to {NEW} from about" in out
    assert "nothing was sent" in out and setting.waiting is None

    code, said = setting.payout_json("change", NEW.lower())
    assert code == 0 and said["sent"] and said["payout"] == cold
    counts_at_s = deployed.now_s + DELAY_S
    assert setting.waiting == (NEW, counts_at_s)
    assert said["waiting"] == {"payout": NEW, "effective_at_s": counts_at_s}
    receipt = deployed.w3.eth.get_transaction_receipt(said["transaction"])
    assert receipt["to"] == deployed.registry.address
    code, out, _ = setting.payout("show", "--index", INDEX, wallet="nobody has this one")
    assert code == 0 and f"{cold}, and from {show_time(counts_at_s)} on to {NEW}" in out
    code, said = setting.payout_json("change", NEW)
    assert code == 2 and "waits already" in said["error"] and show_time(counts_at_s) in said["error"]

    deployed.anvil.pass_time(DELAY_S)
    assert setting.payout_json("show")[1]["payout"] == NEW
    code, said = setting.payout_json("cancel")
    assert code == 2 and f"no change of node {INDEX}'s payout address waits: rewards go to {NEW}" in said["error"]
    code, said = setting.payout_json("cancel", "--index", INDEX, wallet="cold")
    assert code == 2 and f"not {cold}; name the wallet" in said["error"], "who was paid before has no say any more"


def test_the_payout_account_withdraws_what_the_node_asked_for(setting: Setting) -> None:
    """And the other way round: the wait is for that."""
    for asks, withdraws in (("miner", "cold"), ("cold", "miner")):
        assert setting.payout("change", NEW, "--index", INDEX, wallet=asks)[0] == 0
        code, said = setting.payout_json("cancel", "--index", INDEX, "--dry-run", wallet=withdraws)
        assert (code, said["sent"]) == (0, False) and setting.waiting is not None
        code, said = setting.payout_json("cancel", "--index", INDEX, wallet=withdraws)
        assert (code, said["sent"], said["waiting"]) == (0, True, None)
        assert said["payout"] == setting.addresses["cold"] and setting.waiting is None


def test_another_change_takes_the_place_of_one_that_waits(setting: Setting) -> None:
    assert setting.payout("change", NEW)[0] == 0
    setting.deployed.anvil.pass_time(DELAY_S // 2)
    code, out, _ = setting.payout("change", OTHER)
    assert code == 0 and f"in the place of the change to {NEW}" in out
    assert setting.waiting == (OTHER, setting.deployed.now_s + DELAY_S)
    code, said = setting.payout_json("change", setting.addresses["cold"])
    assert code == 2 and "already; `anynode payout cancel` withdraws the change that waits" in said["error"]


def test_what_is_refused_before_anything_is_signed(setting: Setting) -> None:
    (setting.folder / "password").write_text("wrong horse battery")
    cold = setting.addresses["cold"]
    code, said = setting.payout_json("change", cold)
    assert code == 2 and f"rewards of node {INDEX} go to {cold} already" in said["error"]
    for command in (("change", NEW), ("cancel",), ("show",)):
        code, said = setting.payout_json(*command, wallet="other")
        assert code == 2 and "is not a registered node" in said["error"]
        code, said = setting.payout_json(*command, "--index", 99)
        assert code == 2 and "no node is registered with the index 99" in said["error"]
    for command in (("change", NEW), ("cancel",)):
        code, said = setting.payout_json(*command, "--index", INDEX, wallet="other")
        assert code == 2 and f"not {setting.addresses['other']}; name the wallet" in said["error"]
    code, said = setting.payout_json("cancel")
    assert code == 2 and "payout address waits: rewards go to" in said["error"]
    setting.deployed.w3.provider.make_request(RPCEndpoint("anvil_setBalance"), [setting.addresses["miner"], "0x0"])
    code, said = setting.payout_json("change", NEW)
    assert code == 2 and "has 0 ETH and this may cost" in said["error"]
    code, said = setting.payout_json("change", NEW, "--index", INDEX, wallet="cold")
    assert code == 2 and said["error"].startswith("the password for ")
    assert setting.waiting is None
