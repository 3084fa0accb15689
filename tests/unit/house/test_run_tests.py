"""The test command runs every folder of tests once, and its last line counts them all."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from types import ModuleType

import pytest
from product import ROOT


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_tests", ROOT / "scripts" / "run_tests.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_tests"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_each_folder_of_tests_is_run_once(runner: ModuleType) -> None:
    found = [check for check in runner.checks(deep=False) if check.name.startswith("pytest")]
    named = [part for check in found for part in check.command if part.startswith("tests/")]
    (rest,) = (check for check in found if not any(part.startswith("tests/") for part in check.command))
    ignored = [part.removeprefix("--ignore=") for part in rest.command if part.startswith("--ignore=")]
    assert sorted(ignored) == sorted(named) == sorted(set(named))
    assert all((ROOT / path).is_dir() for path in named)


def test_deep_goes_to_every_pytest(runner: ModuleType) -> None:
    found = [check for check in runner.checks(deep=True) if check.name.startswith("pytest")]
    assert len(found) == 5
    assert all("--deep" in check.command for check in found)


def test_every_pytest_names_its_slowest_tests(runner: ModuleType) -> None:
    found = [check for check in runner.checks(deep=False) if check.name.startswith("pytest")]
    assert all("--durations=15" in check.command for check in found)


@pytest.mark.parametrize(
    ("said", "tests"),
    [
        ("....\n===== 4 passed in 1.02s =====\n", {"passed": 4}),
        ("2 failed, 1278 passed, 3 skipped in 200.91s (0:03:20)\n", {"passed": 1278, "failed": 2, "skipped": 3}),
        ("== slowest 2 durations ==\n1.01s call     tests/a.py::b\n===== 4 passed in 1.02s =====\n", {"passed": 4}),
        ("==== 1 passed, 2 errors in 3.00s ====\nand a last word\n", {"passed": 1, "error": 2}),
        ("found 3 errors in 2 files\n", {}),
    ],
)
def test_counting(runner: ModuleType, said: str, tests: dict[str, int]) -> None:
    assert runner.counted(said) == Counter(tests)


def test_the_last_line(runner: ModuleType) -> None:
    outcomes = [
        runner.Outcome("ruff", True, 1.0),
        runner.Outcome("mypy", False, 1.0),
        runner.Outcome("one", False, 1.0, Counter(passed=5, failed=2, skipped=1)),
        runner.Outcome("other", True, 1.0, Counter(passed=7)),
    ]
    assert runner.closing(outcomes, 12.34) == "12 passed, 3 failed, 1 skipped in 12.3s"
