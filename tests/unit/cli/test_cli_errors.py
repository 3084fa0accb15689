"""How a command line ends: one sentence, the right exit code, and an object with --json."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from command_line import Anynode

from anynode.cli.main import cli
from anynode_contracts.errors import InvariantError, RefusedError, UnreachableError, UserError

ANYNODE = str(Path(sys.executable).with_name("anynode"))


class RequestException(Exception):
    """Named like the family of errors of an HTTP library."""


class SlowRpc(RequestException):
    """A member of that family."""


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `anynode wallet` raise ``error``."""

    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(type(cli), "_load", lambda self, name: command)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("bad file; mend it"), 2, "bad file; mend it"),
        (UnreachableError("nobody answers; start it"), 3, "nobody answers; start it"),
        (RefusedError("it said no; ask why"), 4, "it said no; ask why"),
        (ConnectionRefusedError(111, "refused"), 3, "did not answer"),
        (SlowRpc("https://secret-token@rpc"), 3, "did not answer"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "scripts/setup"),
        (click.UsageError("no such thing."), 2, "no such thing"),
    ],
)
def test_sentences(anynode: Anynode, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str) -> None:
    raising(monkeypatch, error)
    answer = anynode("wallet")
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err and answer.err.startswith("anynode: ") and answer.err.count("\n") == 1
    assert "secret" not in answer.err


@pytest.mark.parametrize("error", [InvariantError("two states for one round"), RuntimeError("boom")])
def test_our_own_fault(anynode: Anynode, home: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    raising(monkeypatch, error)
    answer = anynode("wallet")
    log = home / "state" / "logs" / "faults.log"
    assert answer.code == 70
    assert "fault in AnyNode and not yours" in answer.err and str(log) in answer.err
    assert "Traceback" not in answer.err
    assert str(error) in log.read_text() and "Traceback" in log.read_text()


def test_control_c(anynode: Anynode, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    answer = anynode("wallet")
    assert (answer.code, answer.out, answer.err) == (130, "", "")


def test_unknown_command(anynode: Anynode) -> None:
    answer = anynode("chian")
    assert answer.code == 2
    assert answer.err == "anynode: no such command 'chian'; see `anynode --help`\n"


def test_unknown_flag_as_json(anynode: Anynode) -> None:
    answer = anynode("wallet", "list", "--colour", "--json")
    assert answer.code == 2
    assert "--colour" in answer.object["error"] and "anynode wallet list --help" in answer.object["error"]


def test_a_reader_that_goes_away() -> None:
    """`anynode ... | head -0` ends without a traceback."""
    with subprocess.Popen([ANYNODE, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert b"Traceback" not in said and b"Exception" not in said
    assert process.returncode in {0, 141}
