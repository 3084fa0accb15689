"""The repository looks as its design says: folders, file heads, sizes, locks."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
from product import PACKAGES, ROOT, every_file, modules, tree

DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "lib", "tools"}
LINES_MAX, LINES_USUAL = 700, 300


def test_folders() -> None:
    for folder in ("contracts/src", "hardhat", "scripts", "docs", "tests", *(p.name for p in PACKAGES.values())):
        assert (ROOT / folder).is_dir(), f"{folder} is missing"
    for file in ("README.md", "LICENSE", "CHANGELOG.md", "requirements.lock", "package-lock.json", ".ci/run"):
        assert (ROOT / file).is_file(), f"{file} is missing"


def test_every_package_is_typed() -> None:
    for package, folder in PACKAGES.items():
        assert (folder / package / "py.typed").is_file()


@pytest.mark.parametrize("path", every_file(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file(path: Path) -> None:
    """One subject per file, said in its first line; no file is a drawer."""
    assert path.stem not in DRAWERS, "name a file after its one subject"
    head = ast.get_docstring(tree(path))
    assert head, "the first line of a file says its subject"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_MAX, "cut it by subject"


def test_most_files_are_short() -> None:
    lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in every_file()]
    assert sum(length <= LINES_USUAL for length in lengths) >= 0.9 * len(lengths)


def test_every_folder_of_modules_is_a_package() -> None:
    """No namespace package is left out of the wheel."""
    for package in PACKAGES:
        for path in modules(package).values():
            assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py"


def test_a_broken_invariant_is_told_by_its_own_error() -> None:
    raising = (
        f"{name}, line {node.lineno}"
        for package in PACKAGES
        for name, path in modules(package).items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Raise) and node.exc is not None and "AssertionError" in ast.unparse(node.exc)
    )
    assert not list(raising), "raise InvariantError, or call invariant()"


@pytest.mark.parametrize(("file", "packages_min"), [("requirements.lock", 80), ("requirements-bench.lock", 2)])
def test_a_python_lock(file: str, packages_min: int) -> None:
    """Every package has a hash, no registry is named, and torch, whose builds differ, is pinned elsewhere."""
    lock = (ROOT / file).read_text()
    blocks = re.findall(r"^[a-z0-9].*\n(?: .*\n)*", lock, re.MULTILINE)
    assert len(blocks) > packages_min
    assert all("--hash=sha256:" in block and re.match(r"[a-z0-9.-]+==", block) for block in blocks)
    assert "://" not in lock
    assert not re.search(r"^(torch|triton|nvidia-[a-z0-9-]+)==", lock, re.MULTILINE)


def test_torch_is_pinned() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [line for line in extras["node"] if re.fullmatch(r"torch==[\d.]+", line)]


def test_the_python_locks_name_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    everywhere, bench = locked_names("requirements.lock"), locked_names("requirements-bench.lock")
    wanted = wanted_names(project["dependencies"] + extras["node"] + extras["dev"] + extras["postgresql"])
    assert wanted <= everywhere, f"run scripts/lock: {wanted - everywhere} is not locked"
    wanted = wanted_names(extras["bench"])
    assert wanted <= bench, f"run scripts/lock: {wanted - bench} is not locked"
    assert not everywhere & bench, "a package has two locks: the one could install another version over the other's"


def locked_names(file: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9.-]+)==", (ROOT / file).read_text(), re.MULTILINE))


def wanted_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace("_", "-") for line in requirements} - {"torch"}


def test_the_npm_lock() -> None:
    """What this platform installs has a hash; no registry is named; other platforms' binaries are listed."""
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    for path, package in packages.items():
        assert "resolved" not in package, f"{path} names where it was fetched"
        assert not path or "integrity" in package or package.get("optional"), f"{path} has no hash"
        for name in package.get("optionalDependencies", {}):
            assert f"node_modules/{name}" in packages, f"{name} is missing: npm ci would refuse; run scripts/lock"
