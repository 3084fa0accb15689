"""What the house tests look at: the packages that are shipped, as files and as syntax trees."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
#: Package -> the folder that holds it.
PACKAGES = {
    "anynode_contracts": ROOT / "contracts",
    "anynode_ledger": ROOT / "ledger",
    "anynode": ROOT / "node",
    "anynode_verifier": ROOT / "verifier",
}


@cache
def modules(package: str) -> dict[str, Path]:
    """Dotted name -> file of every module of ``package``."""
    folder = PACKAGES[package]
    found = {}
    for path in sorted((folder / package).rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def every_file() -> list[Path]:
    """Every Python file of the product, and the scripts."""
    shipped = [path for package in PACKAGES for path in modules(package).values()]
    return shipped + sorted((ROOT / "scripts").rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def dotted(node: ast.expr) -> str:
    """``a.b.c`` for a chain of names, or an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{left}.{node.attr}" if (left := dotted(node.value)) else ""
    return ""
