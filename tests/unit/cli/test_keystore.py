"""Keystores: written privately, never overwritten, readable elsewhere, and careful with foreign files."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from eth_account import Account

from anynode.wallet import keystore
from anynode_contracts.errors import UserError

PASSWORD = "correct horse battery"
QUICK_N = 2**10


@pytest.fixture
def wallet(tmp_path: Path) -> keystore.Wallet:
    return keystore.store(tmp_path / "wallets" / "miner.json", keystore.new_account(), PASSWORD, scrypt_n=QUICK_N)


def test_round_trip(wallet: keystore.Wallet) -> None:
    assert keystore.unlock(wallet.path, PASSWORD).address == wallet.address
    assert keystore.read(wallet.path) == wallet
    assert keystore.list_wallets(wallet.path.parent) == (wallet,)


def test_modes(wallet: keystore.Wallet) -> None:
    assert stat.S_IMODE(wallet.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(wallet.path.parent.stat().st_mode) == 0o700
    assert list(wallet.path.parent.iterdir()) == [wallet.path], "nothing is left beside the keystore"


def test_the_key_is_not_in_the_file(wallet: keystore.Wallet) -> None:
    key = keystore.unlock(wallet.path, PASSWORD).key.hex()
    assert key not in wallet.path.read_text()
    assert json.loads(wallet.path.read_text())["crypto"]["kdf"] == "scrypt"


def test_the_usual_cost_is_the_standard_one() -> None:
    assert keystore.SCRYPT_N == 262144


def test_wrong_password(wallet: keystore.Wallet) -> None:
    with pytest.raises(UserError, match=r"password for .* is wrong"):
        keystore.unlock(wallet.path, "wrong horse battery")


def test_never_overwritten(wallet: keystore.Wallet) -> None:
    before = wallet.path.read_bytes()
    with pytest.raises(UserError, match="never overwritten"):
        keystore.store(wallet.path, keystore.new_account(), PASSWORD, scrypt_n=QUICK_N)
    assert wallet.path.read_bytes() == before
    assert list(wallet.path.parent.iterdir()) == [wallet.path]


def test_short_password(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="8 characters"):
        keystore.store(tmp_path / "a.json", keystore.new_account(), "short")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "../miner", "Miner", "a/b", "-x", "a" * 81, "miner.json", "ä"])
def test_bad_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="not a wallet name"):
        keystore.wallet_path(tmp_path, name)


def test_a_keystore_of_other_software(tmp_path: Path) -> None:
    """The test vector of the Web3 Secret Storage definition (pbkdf2, password `testpassword`)."""
    vector = {
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
            "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
            "kdf": "pbkdf2",
            "kdfparams": {
                "c": 262144,
                "dklen": 32,
                "prf": "hmac-sha256",
                "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
            },
            "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3,
    }
    path = tmp_path / "foreign.json"
    path.write_text(json.dumps(vector))
    expected = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
    assert keystore.unlock(path, "testpassword").key.hex().removeprefix("0x") == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n": 2**30}, "more memory or time"),
        ({"r": 2**20}, "more memory or time"),
        ({"n": -1}, "not a version 3 keystore"),
        ({"n": True}, "not a version 3 keystore"),
        ({"n": 1000}, "not a version 3 keystore"),
        ({"dklen": 2**20}, "more memory or time"),
        ({"salt": "zz"}, "not a version 3 keystore"),
        ({"salt": 7}, "not a version 3 keystore"),
    ],
)
def test_a_hostile_cost(wallet: keystore.Wallet, change: dict[str, object], said: str) -> None:
    value = json.loads(wallet.path.read_text())
    value["crypto"]["kdfparams"] |= change
    wallet.path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=said):
        keystore.unlock(wallet.path, PASSWORD)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"version": 3}',
        b'{"version": 4, "crypto": {}}',
        b'{"version": 3, "crypto": {}}',
        b'{"version": 3, "crypto": {"kdf": "none", "kdfparams": {}}}',
        b"[" * 5000,
        b" " * 20_000,
    ],
)
def test_not_a_keystore(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(raw)
    with pytest.raises(UserError, match="not a version 3 keystore"):
        keystore.unlock(path, PASSWORD)


def test_another_address_than_the_key_has(wallet: keystore.Wallet) -> None:
    value = json.loads(wallet.path.read_text())
    value["address"] = Account.create().address
    wallet.path.write_text(json.dumps(value))
    with pytest.raises(UserError, match="another address"):
        keystore.unlock(wallet.path, PASSWORD)


def test_password_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text("first line \r\nsecond line\n")
    assert keystore.read_password_file(path) == "first line "


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_password_file_that_others_can_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    path.chmod(mode)
    with pytest.raises(UserError, match="chmod 600"):
        keystore.read_password_file(path)


@pytest.mark.parametrize(
    ("raw", "said"), [(b"", "empty"), (b"\n", "empty"), (b"\xff\xfe", "UTF-8"), (b"a" * 2000, "longer")]
)
def test_bad_password_file(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_bytes(raw)
    with pytest.raises(UserError, match=said):
        keystore.read_password_file(path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        keystore.read_password_file(tmp_path / "none")
    with pytest.raises(UserError, match="cannot read"):
        keystore.read(tmp_path / "none.json")
    assert keystore.list_wallets(tmp_path / "none") == ()
