"""Settings: the file, outranked by the environment, outranked by flags; unknown keys are named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import Anynode

from anynode.cli.settings import Places
from anynode.wallet import keystore


@pytest.fixture
def wallets(home: Path) -> dict[str, str]:
    """Three wallets without a network to ask; name -> address."""
    folder = home / "data" / "wallets"
    names = ("in-file", "in-env", "in-flag")
    return {
        name: keystore.store(folder / f"{name}.json", keystore.new_account(), "a long password", scrypt_n=1024).address
        for name in names
    }


def settings(home: Path, text: str) -> Path:
    path = home / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def asked_network(anynode: Anynode, *arguments: str) -> str:
    """Which network a command looked for: none exists, so the error names it."""
    answer = anynode("wallet", "balance", *arguments)
    assert answer.code == 2
    return Path(answer.err.removeprefix("anynode: no network file ").partition(";")[0]).stem


def test_precedence(anynode: Anynode, home: Path, wallets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings(home, 'network = "in-file"\nwallet = "in-file"\n')
    assert asked_network(anynode) == "in-file"
    monkeypatch.setenv("ANYNODE_NETWORK", "in-env")
    assert asked_network(anynode) == "in-env"
    assert asked_network(anynode, "--network", "in-flag") == "in-flag"


def test_a_table_outranks_the_top_level(anynode: Anynode, home: Path, wallets: dict[str, str]) -> None:
    table = '[commands.wallet.balance]\nnetwork = "table"\nwallet = "in-file"\n[commands.wallet.list]\njson = true\n'
    settings(home, f'network = "top"\n{table}')
    assert asked_network(anynode) == "table"
    assert {item["address"] for item in anynode("wallet", "list").object["wallets"]} == set(wallets.values())


def test_json_from_the_environment_also_for_errors(anynode: Anynode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYNODE_JSON", "1")
    answer = anynode("wallet", "balance", "--wallet", "none")
    assert answer.code == 2 and "no wallet" in answer.object["error"]


def test_json_from_the_file_also_for_errors(anynode: Anynode, home: Path) -> None:
    settings(home, "json = true\n")
    assert "no wallet" in anynode("wallet", "balance").object["error"]


def test_another_file(anynode: Anynode, tmp_path: Path, wallets: dict[str, str]) -> None:
    path = tmp_path / "own.toml"
    path.write_text('network = "own"\nwallet = "in-file"\n')
    answer = anynode("--config", path, "wallet", "balance")
    assert "own.toml;" in answer.err or "/own.toml" in answer.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("netwrok = 'x'\n", "unknown key 'netwrok'"),
        ("[commands.walet]\n", "[commands.walet] in the settings file"),
        ("commands = 3\n", "must be tables"),
        ("[commands.wallet]\ncolour = 1\n", "unknown key 'colour'"),
        ("[commands.wallet.list]\ncolour = 1\n", "[commands.wallet.list]"),
        ("[commands.wallet]\nlist = 3\n", "[commands.wallet.list]"),
        ("password = 'secret'\n", "unknown key 'password'"),
        ("= 3\n", "is not TOML"),
        ("# " + "x" * 70_000, "over 64 KiB"),
    ],
)
def test_mistakes_in_the_file(anynode: Anynode, home: Path, text: str, said: str) -> None:
    path = settings(home, text)
    answer = anynode("wallet", "list")
    assert answer.code == 2
    assert said in answer.err and str(path) in answer.err
    assert answer.err.count("\n") == 1
    assert "secret" not in answer.err


def test_named_file_is_missing(anynode: Anynode, tmp_path: Path) -> None:
    answer = anynode("--config", tmp_path / "none.toml", "wallet", "list")
    assert answer.code == 2 and "cannot read the settings file" in answer.err


def test_places_follow_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.delenv("ANYNODE_HOME", raising=False)
    places = Places.find(os.environ)
    if os.uname().sysname == "Linux":
        assert places.networks == tmp_path / "CONFIG" / "anynode" / "networks"
        assert places.wallets == tmp_path / "DATA" / "anynode" / "wallets"
        assert places.logs == tmp_path / "STATE" / "anynode" / "logs"
