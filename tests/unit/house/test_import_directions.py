"""Imports run one way, and a wallet, a claim and the ledger work without torch and hivemind."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from product import PACKAGES, modules, tree

#: Package -> the other packages that it may import.
ALLOWED = {
    "anynode_contracts": set[str](),
    "anynode_ledger": {"anynode_contracts"},
    "anynode": {"anynode_contracts"},
    "anynode_verifier": {"anynode_contracts", "anynode_ledger", "anynode"},
}
HEAVY = ("torch", "hivemind", "numpy", "safetensors")
#: Must import where only `pip install anynode` was run.
LIGHT = (
    *("anynode_contracts", "anynode_ledger", "anynode.blobs", "anynode.cli", "anynode.wallet"),
    *("anynode_verifier.ledger_command", "anynode_verifier.watch_command", "anynode_verifier.watching"),
)

#: What of `anynode.rounds` acts: it keeps and publishes records on disk, feeds the core and carries out its effects.
ROUND_SHELL = {"anynode.rounds.chain", "anynode.rounds.driver", "anynode.rounds.public"}


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports anywhere in it, type checking included."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_directions(package: str) -> None:
    for name, path in modules(package).items():
        wrong = (imported(path) & set(PACKAGES)) - ALLOWED[package] - {package}
        assert not wrong, f"{name} imports {wrong}; {package} may import {ALLOWED[package] or 'none of the others'}"


def test_light_modules_need_no_heavy_package() -> None:
    """In a process of its own in which the heavy packages cannot be imported at all."""
    light = [
        name
        for package in PACKAGES
        for name in modules(package)
        if name.startswith(tuple(f"{prefix}." for prefix in LIGHT)) or name in LIGHT
        if "migrations" not in name  # Alembic runs these itself, inside a migration
    ]
    assert len(light) > 30
    program = "import importlib, sys\n"
    program += f"for name in {HEAVY!r}: sys.modules[name] = None\n"
    program += f"for name in {light!r}: importlib.import_module(name)\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_round_core_is_pure() -> None:
    """`anynode.rounds` decides: no socket, clock, file, thread or torch in it, but for its thin shell."""
    impure = {"asyncio", "socket", "time", "threading", "subprocess", "os", "torch", "hivemind", "sqlalchemy", "web3"}
    for name, path in modules("anynode").items():
        if name.startswith("anynode.rounds") and name not in ROUND_SHELL:
            assert not imported(path) & impure, f"{name} imports {imported(path) & impure}"
