"""`anynode ledger` and `anynode earnings` on a ledger beside real contracts: proofs, exports, transactions."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from deployed import Deployed
from ledger_setting import TOKEN, LedgerSetting

from anynode.cli.main import run
from anynode_contracts.entries import GWEI
from anynode_ledger.book import Book
from anynode_ledger.pay import Credit, credit_id
from anynode_ledger.settlement import settle
from served_ledger import served

Said = Callable[..., tuple[int, str, str]]
DUST = 7


@pytest.fixture
def lived(deployment: Deployed, tmp_path: Path) -> Iterator[LedgerSetting]:
    """A ledger in which a vetoed batch was settled again, paid and claimed, a node was slashed, and a batch waits."""
    setting = LedgerSetting(deployment, tmp_path)
    setting.begin()
    one, two, cheat = setting.nodes
    setting.earn(0, [5 * TOKEN + DUST, 3 * TOKEN, TOKEN], limit_wei=2 * TOKEN)
    audit = Credit(credit_id(setting.job_id, 0, two, "audit"), setting.job_id, 0, two, "audit", TOKEN)
    setting.book.credit([audit], 0)
    setting.book.slash(cheat, setting.job_id, "segment 2 differs from its replay", f"{setting.job_id}/0/{cheat}")
    settle(setting.book, deployment.network)
    setting.deliver()
    setting.take_in(pass_window=False)
    deployment.send(deployment.guardian, deployment.distributor.build_veto())
    setting.take_in(pass_window=False)
    setting.now_s += 86_400
    settle(setting.book, deployment.network)
    setting.deliver()
    setting.take_in()
    setting.claim(one)
    setting.take_in()
    setting.now_s += 86_400
    setting.book.close_job(setting.job_id)
    settle(setting.book, deployment.network)
    yield setting
    setting.close()


@pytest.fixture
def anynode(
    lived: LedgerSetting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Said:
    """The command line, called in this process; the network file is beside the ledger."""
    monkeypatch.setenv("ANYNODE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANYNODE_LEDGER_DATABASE", f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    network_file = tmp_path / "network.toml"
    lived.deployed.network.save(network_file)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([*arguments, "--network", str(network_file)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_check_proves_a_live_ledger_and_a_copy_and_names_the_first_difference(
    lived: LedgerSetting, anynode: Said, tmp_path: Path
) -> None:
    code, out, _ = anynode("ledger", "check")
    assert code == 0 and "3 batches: every settlement, entry and root rebuilt" in out and "No difference up to" in out
    lived.deliver()  # the root waits, but no block with it is booked yet
    assert anynode("ledger", "check")[0] == 0
    copy, url = tmp_path / "copy.sqlite", f"sqlite:///{tmp_path / 'copy.sqlite'}"
    with sqlite3.connect(tmp_path / "ledger.sqlite") as source, sqlite3.connect(copy) as target:
        source.backup(target)
    code, out, _ = anynode("ledger", "check", "--database", url, "--json")
    assert code == 0 and len(json.loads(out)["proofs"]) == 8

    invented = Book.open(url)
    invented.fund_job(lived.job_id, 5, "made up")
    invented.close()
    budget = lived.budget_wei
    assert anynode("ledger", "check", "--database", url) == (
        1,
        "",
        f"anynode: tokens funded for job {lived.job_id}: the ledger says {budget + 5}, the chain says {budget}; stop"
        " settling and find out why\n",
    )
    assert anynode("ledger", "check", "--database", url, "--no-chain")[0] == 0
    with sqlite3.connect(copy) as tampered:
        tampered.execute("DROP TRIGGER transfers_no_update")
        tampered.execute("UPDATE transfers SET amount_wei = ? WHERE reason = 'draw'", (f"{2 * TOKEN:078d}",))
    for command in ("check", "export"):
        code, _, err = anynode("ledger", command, "--database", url)
        assert code == 1 and "the ledger does not add up" in err and err.count("\n") == 1


def test_check_says_what_it_cannot_open(anynode: Said, tmp_path: Path) -> None:
    code, _, err = anynode("ledger", "check", "--database", f"sqlite:///{tmp_path / 'none.sqlite'}")
    assert code == 2 and "cannot be opened" in err and not (tmp_path / "none.sqlite").exists()
    code, _, err = anynode("ledger", "export", "--out", str(tmp_path))
    assert code == 2 and err.count("\n") == 1


def test_beancount_finds_the_balances_of_the_ledger(lived: LedgerSetting, anynode: Said, tmp_path: Path) -> None:
    file = tmp_path / "ledger.beancount"
    code, out, _ = anynode("ledger", "export", "--format", "beancount", "--out", str(file))
    assert code == 0 and "transfers are in" in out
    assert _bean_check(file) == (0, "")
    text = file.read_text()
    assert "balance Liabilities:WaitingDust:Node2 -0.000000000000000007 ~ 0 ANY" in text
    file.write_text(text.replace("-0.000000000000000007 ~", "-0.000000000000000008 ~"))
    code, said = _bean_check(file)
    assert code == 1 and "Balance failed for 'Liabilities:WaitingDust:Node2'" in said


def test_csv_has_every_transfer_and_its_transaction(lived: LedgerSetting, anynode: Said) -> None:
    code, out, _ = anynode("ledger", "export")
    rows = list(csv.DictReader(io.StringIO(out)))
    with lived.book.read() as journal:
        assert (code, len(rows)) == (0, journal.balances.count)
    chain = lived.deployed.w3
    for row in rows:
        assert row["booked_at"].endswith("+00:00")
        if row["reason"] in ("fund", "draw", "claim", "hand_over"):
            assert chain.eth.get_transaction(row["transaction"])["to"] in (  # type: ignore[arg-type]
                lived.deployed.escrow.address,
                lived.deployed.distributor.address,
            )
            block = chain.eth.get_transaction(row["transaction"])["blockNumber"]  # type: ignore[arg-type]
            assert datetime.fromisoformat(row["happened_at"]).timestamp() == chain.eth.get_block(block)["timestamp"]
        else:
            assert row["happened_at"] == row["booked_at"]
    settled = {row["transaction"] for row in rows if row["reason"] == "settle" and row["transfer"].count("settle/1.")}
    assert len(settled) == 2, "a vetoed attempt and its successor have a transaction each"
    (credit,) = (row for row in rows if row["transfer"].endswith("/0/2/samples/accrued"))
    assert (credit["amount_wei"], credit["amount"]) == (str(3 * TOKEN + DUST), "3.000000000000000007")
    assert (credit["job"], credit["node"]) == (lived.job_id, "2")


def test_earnings_with_dates_and_transactions(lived: LedgerSetting, anynode: Said, tmp_path: Path) -> None:
    one, two, cheat = lived.nodes
    with served(lived.book, tmp_path / "trees") as url:
        lived.deployed.network.model_copy(update={"api_url": url}).save(tmp_path / "network.toml")
        of_one = _object(anynode("earnings", "--index", str(one), "--json"))
        of_cheat = _object(anynode("earnings", "--index", str(cheat), "--json"))
        of_job = _object(anynode("earnings", "--job", lived.job_id, "--json"))
        code, out, _ = anynode("earnings", "--index", str(one))
        assert code == 0 and lived.job_id[:16] in out and "2023-11-15" in out
        for wrong, words in ((("--job", "x/../.."), "is no job id"), (("--index", "99"), "no node with index 99")):
            code, _, err = anynode("earnings", *wrong)
            assert code in (2, 4) and words in err and err.count("\n") == 1
        code, _, err = anynode("earnings", "--job", "0" * 64)
        assert code == 4 and "booked nothing of job" in err
    (share,) = of_one["shares"]
    assert (share["samples_wei"], share["rounds"], share["held_back_wei"]) == (str(5 * TOKEN + DUST), 1, "0")
    assert share["in_roots_wei"] == str(5 * TOKEN + DUST)
    assert [(root["batch"], root["attempt"], root["state"]) for root in of_one["roots"]] == [
        (1, 1, "void"),
        (1, 2, "posted"),
        (2, 1, "pending"),
    ]
    assert [int(root["amount_wei"]) for root in of_one["roots"]] == [3 * TOKEN, 3 * TOKEN, 2 * TOKEN]
    assert of_one["roots"][2]["transaction"] is None
    (claim,) = of_one["claims"]
    receipt = lived.deployed.w3.eth.get_transaction_receipt(claim["transaction"])
    assert claim["moved_at_s"] == lived.deployed.w3.eth.get_block(receipt["blockNumber"])["timestamp"]
    assert (claim["amount_wei"], receipt["from"]) == (str(3 * TOKEN), lived.nodes[one].address)
    assert of_cheat["shares"][0]["slashed_wei"] == str(TOKEN) and of_cheat["claims"] == []
    assert [(s["node_index"], s["audits_wei"]) for s in of_job["shares"]] == [
        (one, "0"),
        (two, str(TOKEN)),
        (cheat, "0"),
    ]
    assert [move["reason"] for move in of_job["moves"]] == ["fund", "draw"]
    for share in of_job["shares"]:
        earned = sum(int(share[f"{kind}_wei"]) for kind in ("samples", "reducing", "audits", "replays"))
        kept = sum(int(share[f"{kind}_wei"]) for kind in ("held_back", "accrued", "in_roots"))
        assert earned - int(share["slashed_wei"]) == kept
    assert int(of_one["roots"][1]["amount_wei"]) % GWEI == 0


def _bean_check(file: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "beancount.scripts.check", str(file)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def _object(said: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = said
    assert code == 0, err
    value: dict[str, Any] = json.loads(out.splitlines()[-1])
    return value
