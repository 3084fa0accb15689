"""`anynode wallet`, called as a person and as a program would."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Anynode
from eth_account import Account

from anynode.wallet import keystore

ANYNODE = str(Path(sys.executable).with_name("anynode"))
PASSWORD = "correct horse battery"


def test_create_list_unlock(anynode: Anynode, home: Path, password_file: Path) -> None:
    made = anynode("wallet", "create", "miner", "--password-file", password_file, "--json")
    assert made.code == 0
    path = home / "data" / "wallets" / "miner.json"
    assert made.object == {"name": "miner", "address": keystore.read(path).address, "path": str(path)}
    assert made.object["address"] in made.err, "with --json the words for people go to stderr"

    listed = anynode("wallet", "list", "--json")
    assert listed.object == {"wallets": [made.object]}
    shown = anynode("wallet", "list")
    assert made.object["address"] in shown.out
    assert keystore.unlock(path, PASSWORD).address == made.object["address"]


def test_create_twice(anynode: Anynode, home: Path, password_file: Path) -> None:
    wallets = home / "data" / "wallets"
    keystore.store(wallets / "miner.json", keystore.new_account(), PASSWORD, scrypt_n=1024)
    before = (wallets / "miner.json").read_bytes()
    again = anynode("wallet", "create", "miner", "--password-file", password_file)
    assert (again.code, again.out) == (2, "")
    assert again.err.startswith("anynode: ") and again.err.count("\n") == 1
    assert (wallets / "miner.json").read_bytes() == before


def test_import_a_key(anynode: Anynode, tmp_path: Path, password_file: Path) -> None:
    account = Account.create()
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(account.key.hex() + "\n")
    made = anynode("wallet", "import", "old", "--key-file", key, "--password-file", password_file, "--json")
    assert made.object["address"] == account.address
    key.chmod(0o644)
    refused = anynode("wallet", "import", "older", "--key-file", key, "--password-file", password_file)
    assert refused.code == 2 and "chmod 600" in refused.err


@pytest.mark.parametrize("text", ["", "xyz", "0x12", "00" * 32, "ff" * 32, "ab" * 33])
def test_import_no_key(anynode: Anynode, home: Path, tmp_path: Path, password_file: Path, text: str) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(text)
    refused = anynode("wallet", "import", "old", "--key-file", key, "--password-file", password_file)
    assert refused.code == 2
    assert "not a private key" in refused.err
    assert text == "" or text not in refused.err, "what might be a key is not repeated"
    assert not home.exists()


def test_import_a_keystore(anynode: Anynode, tmp_path: Path, password_file: Path) -> None:
    account = keystore.new_account()
    foreign = keystore.store(tmp_path / "UTC--abc.json", account, PASSWORD, scrypt_n=1024).path
    made = anynode("wallet", "import", "old", "--keystore", foreign, "--password-file", password_file, "--json")
    assert made.object["address"] == account.address
    password_file.write_text("wrong horse battery")
    wrong = anynode("wallet", "import", "older", "--keystore", foreign, "--password-file", password_file, "--json")
    assert wrong.code == 2
    assert wrong.object == {"error": f"the password for {foreign} is wrong; try again", "exit_code": 2}


def test_export_is_a_copy_that_opens(anynode: Anynode, home: Path, tmp_path: Path, password_file: Path) -> None:
    account = keystore.new_account()
    keystore.store(home / "data" / "wallets" / "miner.json", account, PASSWORD, scrypt_n=1024)
    out = tmp_path / "backup" / "miner.json"
    made = anynode("wallet", "export", "miner", out, "--password-file", password_file, "--json")
    assert made.object == {"name": "miner", "address": account.address, "path": str(out)}
    assert out.stat().st_mode & 0o777 == 0o600
    assert Account.decrypt(json.loads(out.read_bytes()), PASSWORD) == account.key
    again = anynode("wallet", "export", "miner", out, "--password-file", password_file)
    assert again.code == 2 and "never overwritten" in again.err
    password_file.write_text("wrong horse battery")
    wrong = anynode("wallet", "export", "miner", tmp_path / "other.json", "--password-file", password_file)
    assert wrong.code == 2 and "the password for " in wrong.err and not (tmp_path / "other.json").exists()
    nobody = anynode("wallet", "export", "nobody", tmp_path / "other.json", "--password-file", password_file)
    assert nobody.code == 2 and "no wallet" in nobody.err


def test_nobody_to_ask(home: Path) -> None:
    """Without a terminal the command does not hang and does not read a password from a pipe by accident."""
    done = subprocess.run(
        [ANYNODE, "wallet", "create", "miner"],
        input="correct horse battery\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--password-file" in done.stderr
    assert not home.exists()


class Terminal:
    """A program that runs on a terminal of its own."""

    def __init__(self, *command: str) -> None:
        self.master, slave = os.openpty()

        def take_terminal() -> None:
            os.login_tty(slave)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job, as we may be, ignores it

        self.process = subprocess.Popen(command, preexec_fn=take_terminal)  # noqa: PLW1509
        os.close(slave)
        self.seen = ""

    def read_until(self, words: str) -> None:
        while words not in self.seen:
            ready, _, _ = select.select([self.master], [], [], 60)
            assert ready, f"waited for {words!r}, saw {self.seen!r}"
            self.seen += os.read(self.master, 4096).decode()

    def type(self, text: str) -> None:
        self.seen = ""
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Read what is left, so that the program can end, and return its exit code."""
        try:
            while os.read(self.master, 4096):
                pass
        except OSError:  # how Linux says that the other side has closed
            pass
        os.close(self.master)
        return self.process.wait(60)


def test_a_person_is_asked_twice_and_nothing_is_shown(home: Path) -> None:
    terminal = Terminal(ANYNODE, "wallet", "create", "miner")
    terminal.read_until("New password for the wallet miner")
    terminal.type(f"{PASSWORD}\n")
    terminal.read_until("Repeat")
    assert PASSWORD not in terminal.seen
    terminal.type(f"{PASSWORD}\n")
    terminal.read_until("Wallet miner: 0x")
    assert PASSWORD not in terminal.seen
    assert terminal.end() == 0
    assert keystore.unlock(home / "data" / "wallets" / "miner.json", PASSWORD)


def test_control_c_is_quiet(home: Path) -> None:
    terminal = Terminal(ANYNODE, "wallet", "create", "miner")
    terminal.read_until("New password for the wallet miner")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.seen
    assert not home.exists()
