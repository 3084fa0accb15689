"""Run everything that must pass: ``scripts/test [--deep] [--only NAME] [pytest arguments]``.

Every check runs, also after one has failed, so that one run shows everything. The Python tests come last: pytest's
closing line counts them. ``--deep`` goes to pytest, which then runs more schedules and repetitions. ``--only`` runs a
single check by its name; with names or options of pytest after it, `scripts/test --only pytest tests/unit -k merkle`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
PYTEST_FOUND_NONE = 5


@dataclass(frozen=True)
class Check:
    """One command, by the name that --only takes."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a check ended."""

    name: str
    passed: bool
    seconds: float


def checks(pytest_arguments: Sequence[str]) -> tuple[Check, ...]:
    """Everything that must pass, the quick ones first."""
    python = str(BIN / "python")
    npm = (str(BIN / "npm"), "run", "--silent")
    return (
        Check("ruff", (python, "-m", "ruff", "check", ".")),
        Check("format", (python, "-m", "ruff", "format", "--check", "--quiet", ".")),
        Check("dead-code", (python, "-m", "vulture")),
        Check("mypy", (python, "-m", "mypy")),
        Check("mypy-scripts", (python, "-m", "mypy", *scripts("*.py"), *scripts("run_demo/*.py"))),
        Check("mypy-bench", (python, "-m", "mypy", *scripts("run_bench/*.py"))),  # apart: it has a __main__ too
        Check("abi", (*npm, "check")),
        Check("solidity", (*npm, "test")),
        Check("pytest", (python, "-m", "pytest", *pytest_arguments)),
    )


def scripts(pattern: str) -> list[str]:
    return sorted(str(path) for path in ROOT.glob(f"scripts/{pattern}"))


def run(check: Check) -> Outcome:
    """Run one check with its output shown as it comes."""
    print(f"\n== {check.name}: {' '.join(Path(part).name if part.startswith('/') else part for part in check.command)}")
    sys.stdout.flush()
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}", "PYTHONNOUSERSITE": "1"}
    started = time.monotonic()
    code = subprocess.run(check.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    if check.name == "pytest" and code == PYTEST_FOUND_NONE:
        print("pytest found no test; check the names given", flush=True)
    return Outcome(check.name, code == 0, time.monotonic() - started)


def show(outcomes: Sequence[Outcome]) -> None:
    print("\n== so far" if outcomes and outcomes[-1].name != "pytest" else "\n== all")
    for outcome in outcomes:
        print(f"   {'ok  ' if outcome.passed else 'FAIL'} {outcome.name:<14} {outcome.seconds:6.1f} s")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/test", description=__doc__, add_help=True)
    parser.add_argument("--deep", action="store_true", help="more schedules and repetitions")
    parser.add_argument("--only", metavar="NAME", help="run one check: " + ", ".join(c.name for c in checks([])))
    options, rest = parser.parse_known_args(arguments)
    chosen = checks([*(["--deep"] if options.deep else []), *rest])
    if options.only:
        chosen = tuple(check for check in chosen if check.name == options.only)
        if not chosen:
            parser.error(f"no check is called {options.only}")
    outcomes: list[Outcome] = []
    for check in chosen:
        if check.name == "pytest" and outcomes:
            show(outcomes)  # before pytest, so that the closing line with its count stays the last one
        outcomes.append(run(check))
    failed = [outcome.name for outcome in outcomes if not outcome.passed]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
