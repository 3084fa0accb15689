"""The distributor's daily cap on a real chain: more than a day's worth of pay is posted, a day at a time."""

from __future__ import annotations

from pathlib import Path

from deployed import Deployed
from ledger_setting import LedgerSetting

from anynode_contracts.entries import GWEI
from anynode_ledger.reconcile import check
from anynode_ledger.settlement import settle

DAY_S = 24 * 3600


def test_pay_above_the_daily_cap_is_posted_on_the_days_after(deployment: Deployed, tmp_path: Path) -> None:
    network = deployment.network
    cap_wei = network.daily_cap_gwei * GWEI
    budget_wei = 3 * cap_wei
    deployment.send(deployment.deployer, deployment.token.build_transfer(deployment.owner.address, budget_wei))
    setting = LedgerSetting(deployment, tmp_path, budget_wei=budget_wei)
    setting.begin()
    deployment.anvil.pass_time(DAY_S - deployment.now_s % DAY_S)  # a day begins
    setting.earn(0, [cap_wei, cap_wei // 2, cap_wei // 2])
    first = settle(setting.book, network)
    assert first is not None and first.total_gwei == network.daily_cap_gwei
    assert setting.deliver() == []
    setting.take_in()
    second = settle(setting.book, network)
    assert second is not None and second.total_gwei == 2 * network.daily_cap_gwei
    (waiting,) = setting.deliver()
    assert waiting.intent.kind == "postRoot" and "DailyCapExceeded" in waiting.note
    deployment.anvil.pass_time(DAY_S)
    assert setting.deliver() == []
    setting.take_in()
    check(setting.book, deployment.w3, network)
    assert setting.book.totals()["payable"] == 2 * cap_wei
    setting.close()
