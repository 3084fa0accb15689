"""What tests on a real chain begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed import Deployed
from founding import PASSWORD, Founding
from ledger_setting import LedgerSetting


@pytest.fixture
def setting(deployment: Deployed, tmp_path: Path) -> Iterator[LedgerSetting]:
    """A ledger with nothing in it yet, beside freshly deployed contracts."""
    setting = LedgerSetting(deployment, tmp_path)
    yield setting
    setting.close()


@pytest.fixture
def founding(
    deployment: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Founding:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(f"{PASSWORD}\n")
    monkeypatch.setenv("ANYNODE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANYNODE_PASSWORD_FILE", str(password))
    return Founding(deployment, tmp_path, capsys)
