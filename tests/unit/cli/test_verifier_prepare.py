"""`anynode verifier prepare`: a wallet and a peer identity once, and what a command says where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Anynode

from anynode.swarm.identity import peer_id_of
from anynode.wallet import keystore
from anynode_contracts.networks import Network
from anynode_contracts.record import Record
from deployment_record import VERIFIER, record


@pytest.fixture(autouse=True)
def light_keystores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore.store, "__kwdefaults__", {"scrypt_n": 1024})


def test_what_is_there_is_kept_and_shown(anynode: Anynode, home: Path, password_file: Path) -> None:
    prepare = ("verifier", "prepare", "sepolia", "--number", "2", "--host", "203.0.113.5", "--json")
    made = anynode(*prepare, "--password-file", password_file)
    assert made.code == 0, made.out
    path, identity = home / "data/wallets/sepolia-verifier-2.json", home / "data/identities/sepolia-verifier-2.key"
    assert made.object == {
        "network": "sepolia",
        "number": 2,
        "wallet": "sepolia-verifier-2",
        "address": keystore.read(path).address,
        "path": str(path),
        "identity": str(identity),
        "peer": f"/ip4/203.0.113.5/tcp/8421/p2p/{peer_id_of(identity)}",
    }
    assert path.stat().st_mode & 0o077 == identity.stat().st_mode & 0o077 == 0
    assert f"--verifier {made.object['address']} --peer {made.object['peer']}" in made.err
    before = path.read_bytes(), identity.read_bytes()
    assert anynode(*prepare).object == made.object, "no password is needed to look"
    assert (path.read_bytes(), identity.read_bytes()) == before


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("sepolia", "--host", "example.org"), "'example.org' is not an IP address"),
        (("Sepolia", "--host", "203.0.113.5"), "'Sepolia' is not a network name"),
    ],
)
def test_nothing_is_made_for_what_cannot_be(
    anynode: Anynode, home: Path, password_file: Path, given: tuple[str, ...], says: str
) -> None:
    refused = anynode("verifier", "prepare", *given, "--password-file", password_file)
    assert refused.code == 2 and says in refused.err and refused.err.count("\n") == 1
    assert not home.exists()


@pytest.mark.parametrize(
    "command",
    [("run",), ("run", "--number", "2"), ("stake",), ("calibrate",), ("excise", "3f", "--round=1", "--slot=1")],
)
def test_a_missing_wallet_is_told_with_both_ways_to_one(
    anynode: Anynode, home: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    file = tmp_path / "sepolia.toml"
    (tmp_path / "record.json").write_text(json.dumps(record()))
    made = Record.load(tmp_path / "record.json").deployment([VERIFIER])
    made.network(name="sepolia", rpc_url="http://127.0.0.1:1", held_back_limit_wei=0).save(file)
    assert Network.load(file).verifiers == (VERIFIER,)
    refused = anynode("verifier", *command, "--network", file)
    name = "sepolia-verifier-2" if "2" in command else "sepolia-verifier"
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert f"no wallet {home / 'data/wallets' / name}.json" in refused.err
    for way in (f"`anynode wallet import {name}`", "`anynode network init`", "`anynode verifier prepare`"):
        assert way in refused.err
