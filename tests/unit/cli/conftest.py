"""A home folder of its own for every test, and the command line called in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Answer, Anynode

from anynode.cli.main import run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ANYNODE_HOME; no other setting of the environment reaches the test."""
    for name in ("ANYNODE_JSON", "ANYNODE_NETWORK", "ANYNODE_WALLET", "ANYNODE_PASSWORD_FILE", "ANYNODE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    monkeypatch.setenv("ANYNODE_HOME", str(folder))
    return folder


@pytest.fixture
def anynode(home: Path, capsys: pytest.CaptureFixture[str]) -> Anynode:
    """``anynode("wallet", "list")`` runs that command line and returns its :class:`Answer`."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return call


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text("correct horse battery\n")
    return path
