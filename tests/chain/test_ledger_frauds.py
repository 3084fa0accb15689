"""A wrong root ends by a proof that is found in published entries, and whoever brings it is paid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from deployed import DATA_HASH, Deployed, random_address

from anynode.cli.main import run
from anynode.wallet import keystore
from anynode_contracts import events
from anynode_contracts.deploy import BOUNTIES, BOUNTY_WEI, FAUCET_SUPPLY_WEI, FAUCET_WEI
from anynode_contracts.entries import Entry
from anynode_contracts.merkle import domain
from anynode_ledger.frauds import find_fraud, tree_of
from anynode_verifier.watching import look

HONEST = [Entry(index, random_address(index), 100 * index) for index in (1, 2, 3, 5, 8)]
PASSWORD = "correct horse battery"


def post(deployed: Deployed, entries: Sequence[Entry]) -> None:
    """Whatever the entries are, a quorum signs them."""
    tree = tree_of(domain(deployed.addresses.chain_id, deployed.distributor.address), entries)
    deployed.post_root(tree.root, deployed.distributor.total_gwei(), DATA_HASH)


def published(deployed: Deployed, *roots: Sequence[Entry]) -> dict[str, Any]:
    """A public ledger that lists these roots, and that no history leads to."""
    batches = [
        {
            "number": number,
            "attempt": 1,
            "chain_id": deployed.addresses.chain_id,
            "distributor": deployed.distributor.address,
            "root": tree_of(domain(deployed.addresses.chain_id, deployed.distributor.address), entries).root.hex(),
            "total_gwei": "0",
            "data_hash": "0" * 64,
            "ledger_hash": "0" * 64,
            "transfers_before": 0,
            "state": "posted",
            "entries": [
                {"index": entry.index, "account": entry.account, "cumulative_gwei": str(entry.cumulative_gwei)}
                for entry in entries
            ],
            "draws": {},
        }
        for number, entries in enumerate(roots, 1)
    ]
    empty: dict[str, Any] = {"nodes": [], "jobs": [], "credits": [], "decisions": [], "transfers": []}
    return empty | {"format": "anynode/ledger/1", "batches": batches}


@pytest.fixture
def active(deployment: Deployed) -> Deployed:
    """The honest root is active."""
    deployment.post(deployment.open_job(), HONEST)
    deployment.pass_window()
    return deployment


FRAUDS = {
    "decrease": [*HONEST[:2], Entry(3, random_address(3), 299), *HONEST[3:]],
    "duplicate": [*HONEST, Entry(5, random_address(77), 10_000)],
}


@pytest.mark.parametrize("kind", FRAUDS)
def test_a_fraud_is_found_and_ended_for_a_bounty(active: Deployed, kind: str) -> None:
    finder, start = active.account(), active.w3.eth.block_number
    assert active.distributor.bond_wei() == BOUNTIES * active.distributor.bounty_wei()
    post(active, FRAUDS[kind])
    sight = look(active.distributor, active.network, published(active, HONEST, FRAUDS[kind]))
    assert sight.what == "fraud" and kind in sight.words
    assert sight.proof is not None
    active.send(finder, sight.proof)
    assert active.token.balance_wei(finder.address) == BOUNTY_WEI
    assert active.distributor.bond_wei() == (BOUNTIES - 1) * BOUNTY_WEI
    assert active.distributor.waiting_root() is None
    found = events.fetch_events(
        active.w3, [active.distributor.address], from_block=start, to_block=active.w3.eth.block_number
    )
    assert [type(event) for event in found[-2:]] == [events.RootVetoed, events.FraudProven]
    post(active, HONEST)


def test_what_only_the_guardian_can_stop_is_told(active: Deployed) -> None:
    nothing = look(active.distributor, active.network, published(active, HONEST))
    assert nothing.what == "nothing waits"
    more = [*HONEST[:4], Entry(8, random_address(8), 10_000)]
    post(active, more)
    hidden = look(active.distributor, active.network, published(active, HONEST))
    assert hidden.what == "doubtful" and "no entries are published" in hidden.words
    unearned = look(active.distributor, active.network, published(active, HONEST, more))
    assert unearned.what == "doubtful" and "does not follow" in unearned.words
    assert look(active.distributor, active.network, {}).what == "doubtful"


def test_an_honest_root_has_no_fraud() -> None:
    grown = [Entry(entry.index, random_address(9), entry.cumulative_gwei + entry.index % 2) for entry in HONEST]
    assert find_fraud(b"\0" * 32, HONEST, [*grown, Entry(9, random_address(1), 0)]) is None
    assert find_fraud(b"\0" * 32, [], HONEST) is None


def test_the_watcher_and_the_faucet_as_commands(
    active: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANYNODE_HOME", str(tmp_path / "home"))
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD)
    monkeypatch.setenv("ANYNODE_PASSWORD_FILE", str(password))
    finder = active.account()
    keystore.store(
        keystore.wallet_path(tmp_path / "home" / "data" / "wallets", "finder"), finder, PASSWORD, scrypt_n=1024
    )
    network, ledger = tmp_path / "network.toml", tmp_path / "ledger.json"
    active.network.save(network)
    post(active, FRAUDS["decrease"])
    ledger.write_text(json.dumps(published(active, HONEST)))
    watching = ["verifier", "watch", "--once", "--network", str(network), "--wallet", "finder", "--ledger", str(ledger)]
    assert run(watching) == 4
    assert "tell the guardian" in capsys.readouterr().err
    ledger.write_text(json.dumps(published(active, HONEST, FRAUDS["decrease"])))
    assert run([*watching, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seen"] == "fraud"
    assert active.token.balance_wei(finder.address) == BOUNTY_WEI

    asking = ["wallet", "faucet", "--network", str(network), "--wallet", "finder", "--json"]
    assert active.token.balance_wei(active.addresses.faucet) == FAUCET_SUPPLY_WEI
    assert run(asking) == 0
    assert active.token.balance_wei(finder.address) == BOUNTY_WEI + FAUCET_WEI
    assert run(asking) == 4
    assert "TooSoon" in capsys.readouterr().out
