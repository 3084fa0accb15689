"""`anynode network write`: a file that `Network` reads back, and refusals in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Anynode

from anynode_contracts.networks import Network
from deployment_record import VERIFIER, address, record

PEER_ID = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
PEER = f"/ip4/203.0.113.5/tcp/8421/p2p/{PEER_ID}"
URLS = ("--rpc-url", "https://rpc.example.org", "--api-url", "https://api.example.org")
ONE = ("--verifier", VERIFIER, "--peer", PEER)
SECOND = ("--verifier", address(7), "--peer", f"/ip6/2001:db8::1/tcp/8421/p2p/{PEER_ID}")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command is called, with a record in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "record.json").write_text(json.dumps(record()))
    return tmp_path


def test_the_file_is_read_back(anynode: Anynode, kept: Path) -> None:
    """It is in the present folder, and nobody's known network yet."""
    given = (*URLS, *ONE, *SECOND, "--quorum", "2", "--held-back-limit", "0.5")
    made = anynode("network", "write", "record.json", *given, "--json")
    assert made.code == 0, made.out
    network = Network.load(kept / "sepolia.toml")
    assert (network.verifiers, network.initial_peers) == ((VERIFIER, address(7)), (PEER, SECOND[3]))
    assert (network.quorum, network.held_back_limit_wei) == (2, 5 * 10**17)
    assert (network.rpc_url, network.api_url) == (URLS[1], URLS[3])
    assert made.object["path"] == "sepolia.toml" and made.object["held_back_limit_wei"] == str(5 * 10**17)
    assert "2 of 2 verifiers sign" in made.err and made.object["only_here"] == []
    assert anynode("network", "list", "--json").object == {"networks": []}


def test_nothing_is_overwritten_unasked(anynode: Anynode, kept: Path) -> None:
    (kept / "other.toml").write_text("mine")
    write = ("network", "write", "record.json", *URLS, "--name", "other")
    refused = anynode(*write)
    assert refused.code == 2 and "other.toml exists already" in refused.err
    assert (kept / "other.toml").read_text() == "mine"
    assert anynode(*write, "--replace").code == 0
    assert Network.load(kept / "other.toml").name == "other"


def test_what_only_this_machine_reaches_is_told(anynode: Anynode, kept: Path) -> None:
    made = anynode(
        *(
            "network",
            "write",
            "record.json",
            "--rpc-url",
            "http://127.0.0.1:8545",
            "--api-url",
            "http://localhost:8420",
        ),
        *("--verifier", VERIFIER, "--peer", f"/ip4/127.0.0.1/tcp/8421/p2p/{PEER_ID}", "--json"),
    )
    assert made.object["only_here"] == ["http://127.0.0.1:8545", "http://localhost:8420", "127.0.0.1"]
    assert made.err.count("nobody else reaches it there") == 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (ONE[:2], "1 verifiers and 0 peers were given"),
        (("--verifier", "0x12", *ONE[2:]), "'0x12' is no address"),
        ((*ONE, *ONE), "two --verifier are the same"),
        ((*ONE[:3], "/dns4/example.org/tcp/1/p2p/" + PEER_ID), "is no address that a verifier's peer listens at"),
        ((*ONE[:3], "/ip4/203.0.113.5/tcp/0/p2p/" + PEER_ID), "is no address that a verifier's peer listens at"),
        ((*ONE[:3], "/ip4/203.0.113.555/tcp/1/p2p/" + PEER_ID), "is no address that a verifier's peer listens at"),
        ((*ONE, *SECOND, "--quorum", "1"), "more than half of the verifiers"),
        ((*ONE, "--held-back-limit", "much"), "is not an amount of tokens"),
        (("--name", "No Name"), "no network can be like that: name"),
    ],
)
def test_a_network_that_cannot_be(anynode: Anynode, kept: Path, given: tuple[str, ...], says: str) -> None:
    refused = anynode("network", "write", "record.json", *URLS, *given)
    assert (refused.code, refused.out) == (2, "")
    assert says in refused.err and refused.err.count("\n") == 1
    assert [path.name for path in kept.glob("*.toml")] == []
