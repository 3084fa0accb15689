"""`anynode job cancel` and `anynode job refund` against real contracts: what is said before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from at_home import AtHome
from deployed import TOKEN_WEI, Deployed
from web3.types import RPCEndpoint

from anynode.jobs.ending import DEADLINE_DAYS_MAX, deadline_s
from anynode.wallet.times import show_time
from anynode_contracts.calls import Call
from anynode_contracts.clients import JobOnChain
from anynode_contracts.entries import GWEI, Entry
from anynode_contracts.errors import RefusedError
from served_jobs import served_jobs

BUDGET_WEI = 1000 * TOKEN_WEI
DAY_S = 86_400
REFUND_DELAY_S = 30 * DAY_S


class Setting(AtHome):
    """A job of the wallet ``owner`` with its budget in escrow, and a wallet ``other`` that has ether too."""

    job_id: str

    def job(self, *arguments: object, wallet: str = "owner") -> tuple[int, str, str]:
        return self.run("job", *arguments, wallet=wallet)

    def job_json(self, *arguments: object, wallet: str = "owner") -> tuple[int, dict[str, Any]]:
        return self.run_json("job", *arguments, wallet=wallet)

    @property
    def on_chain(self) -> JobOnChain:
        found = self.deployed.escrow.job(self.job_id)
        assert found is not None
        return found


@pytest.fixture
def setting(
    deployment: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Setting:
    accounts = {"owner": deployment.owner, "other": deployment.account()}
    made = Setting(deployment, tmp_path, accounts, monkeypatch, capsys)
    made.job_id = deployment.open_job(BUDGET_WEI).hex()
    return made


def test_cancel_and_refund(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dry run needs no password; what was accepted is drawn afterwards; the rest goes back 30 days later."""
    deployed, job_id = setting.deployed, setting.job_id
    with monkeypatch.context() as without:
        without.delenv("ANYNODE_PASSWORD_FILE")
        code, out, _ = setting.job("cancel", job_id, "--dry-run")
    assert code == 0 and "1,000 of 1,000 ANY are in its escrow" in out and "no round is opened" in out
    assert "paid all the same" in out and show_time(deployed.now_s + REFUND_DELAY_S) in out
    assert "nothing was sent" in out and not setting.on_chain.cancelled
    code, said = setting.job_json("refund", job_id)
    assert code == 4 and "goes on until" in said["error"] and "`anynode job cancel` ends it sooner" in said["error"]

    code, said = setting.job_json("cancel", job_id)
    found = setting.on_chain
    assert (code, said["cancelled"], said["in_escrow_wei"]) == (0, True, str(BUDGET_WEI))
    assert found.cancelled and found.deadline_s == deployed.now_s
    assert said["refund_from_s"] == found.deadline_s + REFUND_DELAY_S
    receipt = deployed.w3.eth.get_transaction_receipt(said["transaction"])
    assert receipt["to"] == deployed.escrow.address and int(said["fee_wei"]) == (
        receipt["gasUsed"] * receipt["effectiveGasPrice"]
    )
    code, said = setting.job_json("cancel", job_id)
    assert code == 2 and "was cancelled already; what is left can be taken back with `anynode job" in said["error"]

    deployed.post(bytes.fromhex(job_id), [Entry(1, deployed.verifier.address, 7)])
    code, said = setting.job_json("refund", job_id)
    assert code == 4 and f"too early for a refund of job {job_id[:16]}…" in said["error"]
    assert show_time(found.deadline_s + REFUND_DELAY_S) in said["error"]
    deployed.anvil.pass_time(REFUND_DELAY_S)
    before_wei = deployed.token.balance_wei(deployed.owner.address)
    with monkeypatch.context() as without:
        without.delenv("ANYNODE_PASSWORD_FILE")
        code, said = setting.job_json("refund", job_id, "--dry-run", wallet="other")
    assert (code, said["refundable_wei"]) == (0, str(BUDGET_WEI - 7 * GWEI)) and int(said["fee_wei_max"]) > 0
    assert deployed.token.balance_wei(deployed.owner.address) == before_wei
    code, said = setting.job_json("refund", job_id, wallet="other")
    assert (code, said["refunded_wei"], said["owner"]) == (0, str(BUDGET_WEI - 7 * GWEI), deployed.owner.address)
    assert deployed.w3.eth.get_transaction_receipt(said["transaction"])["to"] == deployed.escrow.address
    assert deployed.token.balance_wei(deployed.owner.address) == before_wei + BUDGET_WEI - 7 * GWEI
    code, said = setting.job_json("refund", job_id)
    assert code == 2 and "was refunded already" in said["error"]
    code, said = setting.job_json("cancel", job_id)
    assert code == 2 and "is over: it was refunded, and 999.999999993 ANY went back" in said["error"]


def test_the_first_digits_of_the_id_will_do(setting: Setting) -> None:
    network = setting.deployed.network
    with served_jobs([setting.job_id]) as url:
        network.model_copy(update={"api_url": url}).save(setting.folder / "network.toml")
        code, said = setting.job_json("cancel", setting.job_id[:12], "--dry-run")
        assert (code, said["job_id"], said["cancelled"]) == (0, setting.job_id, False)
        assert setting.job_json("cancel", setting.job_id[:12])[0] == 0
        code, said = setting.job_json("refund", setting.job_id[:12])
        assert code == 4 and "too early" in said["error"]
    assert setting.on_chain.cancelled


def test_only_its_owner_cancels_a_job(setting: Setting) -> None:
    code, said = setting.job_json("cancel", setting.job_id, wallet="other")
    assert code == 2 and f"belongs to {setting.deployed.owner.address}, and nobody else" in said["error"]
    code, said = setting.job_json("cancel", "ab" * 32)
    assert code == 2 and "the escrow knows no job abababababababab…" in said["error"]
    assert not setting.on_chain.cancelled


def test_a_job_after_its_deadline_is_over(setting: Setting) -> None:
    deployed = setting.deployed
    deadline_s = setting.on_chain.deadline_s
    deployed.anvil.pass_time(DAY_S)
    code, said = setting.job_json("cancel", setting.job_id)
    assert code == 2 and f"is over since its deadline, {show_time(deadline_s)}" in said["error"]
    assert f"from {show_time(deadline_s + REFUND_DELAY_S)} on in any case" in said["error"]
    assert not setting.on_chain.cancelled


def test_a_finalised_job_is_over_and_refunded_with_its_final_root(setting: Setting) -> None:
    deployed, job = setting.deployed, bytes.fromhex(setting.job_id)
    deployed.post(job, [Entry(1, deployed.verifier.address, 7)])
    deployed.send(deployed.poster, deployed.escrow.build_finalise(job, final_batch=1))
    code, said = setting.job_json("cancel", setting.job_id)
    assert code == 2 and "is over: batch 1 is its final one" in said["error"]
    code, said = setting.job_json("refund", setting.job_id)
    assert code == 4 and "when batch 1 is active" in said["error"]
    deployed.pass_window()
    code, said = setting.job_json("refund", setting.job_id)
    assert (code, said["refunded_wei"]) == (0, str(BUDGET_WEI - 7 * GWEI))


def test_an_owner_without_ether_is_told_before_the_password(setting: Setting) -> None:
    deployed = setting.deployed
    deployed.w3.provider.make_request(RPCEndpoint("anvil_setBalance"), [deployed.owner.address, "0x0"])
    (setting.folder / "password").write_text("wrong horse battery")
    code, said = setting.job_json("cancel", setting.job_id)
    assert code == 2 and "has 0 ETH and this may cost" in said["error"]


def test_the_longest_job_is_taken_by_the_escrow(setting: Setting) -> None:
    """Though the clock of who submits it is ahead of the newest block, from which the escrow counts."""
    deployed = setting.deployed
    longest_s, block_s = DEADLINE_DAYS_MAX * DAY_S, deployed.now_s
    assert deployed.escrow.contract.functions.MAX_DURATION().call() == longest_s
    deployed.send(deployed.owner, deployed.token.build_approve(deployed.addresses.escrow, 2))

    def create(end_s: int) -> Call:
        return deployed.escrow.build_create(b"\1" * 32, budget_wei=1, cap_per_batch_wei=1, deadline_s=end_s)

    now_s = block_s + 3600.5
    with pytest.raises(RefusedError, match="DeadlineOutOfRange"):
        deployed.send(deployed.owner, create(int(now_s) + longest_s))
    deployed.send(deployed.owner, create(deadline_s(DEADLINE_DAYS_MAX, now_s, block_s)))
    assert deadline_s(30, now_s, block_s) == int(now_s) + 30 * DAY_S


def test_no_more_is_drawn_of_a_cancelled_job_after_30_days(setting: Setting) -> None:
    """What the command says of the time until which accepted work is paid is what the contract does."""
    deployed, job = setting.deployed, bytes.fromhex(setting.job_id)
    assert setting.job("cancel", setting.job_id)[0] == 0
    assert deployed.escrow.refund_delay_s() == REFUND_DELAY_S
    deployed.anvil.pass_time(REFUND_DELAY_S)
    with pytest.raises(RefusedError, match="JobEnded"):
        deployed.send(deployed.poster, deployed.escrow.build_draw(job, batch=1, amount_wei=1))
