"""Wallets on disk: encrypted keystores (Web3 Secret Storage, version 3, scrypt), one file per wallet, mode 0600.

A file is made of the public address and the key under a password. It can be moved to and from other Ethereum
software. Nothing here takes a key or a password from the environment or a command line.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anynode_contracts.errors import UserError
from anynode_contracts.files import cannot_write, make_folder, sync_folder, write_aside

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

KEYSTORE_BYTES_MAX = 16 * 1024
PASSWORD_BYTES_MAX = 1024
PASSWORD_CHARACTERS_MIN = 8
#: Memory and time of scrypt: 256 MiB and about a second, what the keystore definition calls standard.
SCRYPT_N = 2**18
#: A foreign file may ask for no more than 1 GiB of memory, or four times the time.
_SCRYPT_COST_MAX = 2**23
_PBKDF2_ROUNDS_MAX = 10_000_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")


@dataclass(frozen=True)
class Wallet:
    """A keystore file and the address that it is for (checksummed)."""

    name: str
    address: str
    path: Path


def wallet_path(folder: Path, name: str) -> Path:
    """The file of wallet ``name``. Raises ``UserError`` if it is not a name."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name[:60]!r} is not a wallet name; use up to 80 of a-z, 0-9, - and _, beginning with a letter or digit"
        )
    return folder / f"{name}.json"


def new_account() -> LocalAccount:
    """A fresh key."""
    from eth_account import Account

    account: LocalAccount = Account.create()
    return account


def store(path: Path, account: LocalAccount, password: str, *, scrypt_n: int = SCRYPT_N) -> Wallet:
    """Write ``account`` encrypted to ``path``. Raises ``UserError`` if the file exists or cannot be written."""
    from eth_account import Account

    check_new_password(password)
    refuse_existing(path)
    keystore = Account.encrypt(account.key, password, kdf="scrypt", iterations=scrypt_n)
    make_folder(path.parent, 0o700)
    aside = path.with_name(f".new-{os.getpid()}-{path.name}")
    write_aside(aside, json.dumps(keystore, indent=1).encode())  # created with mode 0600
    try:
        os.link(aside, path)  # unlike a rename, this never replaces a key that somebody else has just put there
    except FileExistsError:
        refuse_existing(path)
    finally:
        aside.unlink()
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    return Wallet(path.stem, str(account.address), path)


def copy(wallet: Wallet, password: str, out: Path) -> None:
    """Write the keystore to ``out`` as it is, once its password has opened it: a copy that nobody can open is none.

    Raises ``UserError`` if the password is wrong, or ``out`` exists or cannot be written.
    """
    refuse_existing(out)
    keystore = _read(wallet.path)
    unlock_keystore(keystore, password, str(wallet.path))
    write_aside(out, json.dumps(keystore, indent=1).encode())  # no link, which a stick for backups lacks


def unlock(path: Path, password: str) -> LocalAccount:
    """The key in ``path``. Raises ``UserError`` if the file is not a keystore or the password is wrong."""
    return unlock_keystore(_read(path), password, str(path))


def unlock_keystore(keystore: dict[str, Any], password: str, what: str) -> LocalAccount:
    """The key in a parsed keystore. Raises ``UserError`` as :func:`unlock` does."""
    from eth_account import Account

    _check_cost(keystore, what)
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(keystore, password))
    except ValueError as error:
        if "MAC" in str(error):
            raise UserError(f"the password for {what} is wrong; try again") from None
        raise _not_a_keystore(what) from error
    except (KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise _not_a_keystore(what) from error
    claimed = keystore.get("address")
    if isinstance(claimed, str) and claimed.lower().removeprefix("0x") != account.address.lower()[2:]:
        raise UserError(f"{what} names another address than its key has; restore it from a backup")
    return account


def read(path: Path) -> Wallet:
    """The wallet in ``path``, without its password. Raises ``UserError`` if it is not a keystore."""
    from eth_utils.address import is_hex_address, to_checksum_address

    address = _read(path).get("address")
    if not isinstance(address, str) or not is_hex_address(address):
        raise _not_a_keystore(str(path))
    return Wallet(path.stem, str(to_checksum_address(address)), path)


def list_wallets(folder: Path) -> tuple[Wallet, ...]:
    """Every wallet in ``folder``, by name."""
    if not folder.is_dir():
        return ()
    return tuple(read(path) for path in sorted(folder.glob("*.json")) if not path.name.startswith("."))


def refuse_existing(path: Path) -> None:
    """Raise ``UserError`` if ``path`` is taken: a key is never overwritten."""
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists already and a wallet is never overwritten; choose another name")


def check_new_password(password: str) -> None:
    """Raise ``UserError`` unless ``password`` may protect a key."""
    if len(password) < PASSWORD_CHARACTERS_MIN:
        raise UserError(f"a password has {PASSWORD_CHARACTERS_MIN} characters or more; choose a longer one")


def read_password_file(path: Path) -> str:
    """The first line of ``path``. Raises ``UserError`` if others can read the file, or it holds no password."""
    text = read_secret(path, "password file", PASSWORD_BYTES_MAX)
    password = text.split("\n", 1)[0].rstrip("\r")
    if not password:
        raise UserError(f"the password file {path} is empty; write the password on its first line")
    return password


def read_secret(path: Path, what: str, bytes_max: int) -> str:
    """The text of a file that only its owner can read. Raises ``UserError`` where that is not so."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            raw = file.read(bytes_max + 1)
    except OSError as error:
        raise UserError(f"cannot read the {what} {path}: {error.strerror or error}; check the path") from error
    if stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077:
        raise UserError(f"other users can read the {what} {path}; run chmod 600 {path}")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"the {what} {path} is not UTF-8 text; write it again") from error
    if len(raw) > bytes_max:
        raise UserError(f"the {what} {path} is longer than {bytes_max} bytes; check that it is the right file")
    return text


def parse(raw: bytes, what: str) -> dict[str, Any]:
    """A keystore's JSON, with its keys in lower case as readers expect. Raises ``UserError`` if it is none."""
    try:
        value = json.loads(raw) if len(raw) <= KEYSTORE_BYTES_MAX else None
    except (ValueError, RecursionError) as error:
        raise _not_a_keystore(what) from error
    if not isinstance(value, dict):
        raise _not_a_keystore(what)
    value = {key.lower(): item for key, item in value.items()}
    if value.get("version") != 3 or not isinstance(value.get("crypto"), dict):
        raise _not_a_keystore(what)
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(KEYSTORE_BYTES_MAX + 1)
    except OSError as error:
        raise UserError(f"cannot read the wallet {path}: {error.strerror or error}; check the path") from error
    return parse(raw, str(path))


def _check_cost(keystore: dict[str, Any], what: str) -> None:
    """Refuse a file that asks for absurd memory or time before any password is tried."""
    parameters = keystore["crypto"].get("kdfparams")
    if not isinstance(parameters, dict):
        raise _not_a_keystore(what)
    numbers = {key: value for key, value in parameters.items() if key in {"n", "r", "p", "c", "dklen"}}
    if any(type(value) is not int or value < 1 for value in numbers.values()):
        raise _not_a_keystore(what)
    cost = numbers.get("n", 1) * numbers.get("r", 1) * numbers.get("p", 1)
    if cost > _SCRYPT_COST_MAX or numbers.get("c", 1) > _PBKDF2_ROUNDS_MAX or numbers.get("dklen", 32) != 32:
        raise UserError(f"{what} asks for more memory or time than any honest keystore; make it again elsewhere")


def _not_a_keystore(what: str) -> UserError:
    return UserError(f"{what} is not a version 3 keystore; choose another file or restore it from a backup")
