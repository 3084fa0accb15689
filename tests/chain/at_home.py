"""A user's home beside a real chain: wallets, a password file and the network's file; and what is typed there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from deployed import Deployed
from eth_account.signers.local import LocalAccount

from anynode.cli.main import run
from anynode.wallet import keystore

PASSWORD = "correct horse battery"


class AtHome:
    """Types commands on the network ``deployed``, each with one of the wallets ``accounts``."""

    def __init__(
        self,
        deployed: Deployed,
        folder: Path,
        accounts: Mapping[str, LocalAccount],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.deployed, self.folder, self._capsys = deployed, folder, capsys
        monkeypatch.setenv("ANYNODE_HOME", str(folder / "home"))
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text(PASSWORD)
        monkeypatch.setenv("ANYNODE_PASSWORD_FILE", str(password))
        for name, account in accounts.items():
            path = keystore.wallet_path(folder / "home" / "data" / "wallets", name)
            keystore.store(path, account, PASSWORD, scrypt_n=1024)
        deployed.network.save(folder / "network.toml")

    def run(self, *arguments: object, wallet: str) -> tuple[int, str, str]:
        """The exit code of a command, what it printed, and what it printed as an error."""
        self._capsys.readouterr()
        code = run([*map(str, arguments), "--network", str(self.folder / "network.toml"), "--wallet", wallet])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def run_json(self, *arguments: object, wallet: str) -> tuple[int, dict[str, Any]]:
        """The exit code of a command, and its object."""
        code, out, _ = self.run(*arguments, "--json", wallet=wallet)
        return code, json.loads(out.splitlines()[-1])
