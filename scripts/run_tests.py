"""Run everything that must pass: ``scripts/test [--deep] [--only NAME] [pytest arguments]``.

Every check runs, also after one has failed, so that one run shows everything. Three run side by side: whoever is free
takes the next, first the tests that mostly wait for real processes, then what only computes. A check's output is shown
when it ends. The last line counts all Python tests. ``--deep`` goes to pytest, which then runs more schedules and
repetitions.
``--only`` runs a single check by its name, with its output as it comes; with names or options of pytest after it,
`scripts/test --only pytest tests/unit -k merkle`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
PYTEST_FOUND_NONE = 5
SIDE_BY_SIDE = 3
#: So many of its slowest tests each run of pytest names, so that it shows where the time goes.
SLOWEST = 15
#: Tests of real processes. They leave the processor idle for much of their time, and must not be starved.
WAITING = {"pytest-e2e": ("tests/e2e",), "pytest-swarm": ("tests/chain", "tests/swarm")}
#: The larger folders of tests that only compute, apart so that no processor is idle at the end.
COMPUTING = {"pytest-sim": ("tests/sim",), "pytest-attacks": ("tests/attacks",)}
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b")
#: What pytest's closing line looks like: counts, and the time at its end.
_CLOSING = re.compile(r"^(?:=+ )?(?:\d+ [a-z]+(?:, )?)+ in [\d.]+s")


@dataclass(frozen=True)
class Check:
    """One command, by the name that --only takes. ``nice`` is added to its priority number."""

    name: str
    command: tuple[str, ...]
    nice: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a check ended, and the tests that it counted, by how they ended."""

    name: str
    passed: bool
    seconds: float
    tests: Counter[str] = field(default_factory=Counter)


def pytest_check(name: str, arguments: Sequence[str]) -> Check:
    return Check(name, (str(BIN / "python"), "-m", "pytest", *arguments))


def checks(deep: bool) -> list[Check]:
    """All checks in the order in which they begin: what waits, the quick ones, and what takes long to compute.

    Both that use Hardhat's cache are far enough apart never to meet.
    """
    python = str(BIN / "python")
    npm = (str(BIN / "npm"), "run", "--silent")
    options = [f"--durations={SLOWEST}", *(["--deep"] if deep else [])]
    apart = [path for paths in (WAITING | COMPUTING).values() for path in paths]
    computing = [
        Check("ruff", (python, "-m", "ruff", "check", ".")),
        Check("format", (python, "-m", "ruff", "format", "--check", "--quiet", ".")),
        Check("abi", (*npm, "check")),
        Check("dead-code", (python, "-m", "vulture")),
        Check("mypy", (python, "-m", "mypy")),
        Check("mypy-scripts", (python, "-m", "mypy", *scripts("*.py"), *scripts("run_demo/*.py"))),
        Check("mypy-bench", (python, "-m", "mypy", *scripts("run_bench/*.py"))),  # apart: it has a __main__ too
        pytest_check("pytest-unit", [*options, *(f"--ignore={path}" for path in apart)]),
        *(pytest_check(name, [*options, *paths]) for name, paths in COMPUTING.items()),
        Check("solidity", ("env", f"FUZZ={'long' if deep else 'short'}", *npm, "test")),
        *(looks_at_contracts() if deep else []),
    ]
    waiting = [pytest_check(name, [*options, *paths]) for name, paths in WAITING.items()]
    return [*waiting, *(replace(check, nice=10) for check in computing)]


def looks_at_contracts() -> list[Check]:
    """What takes an environment of its own, or all of Hardhat's tests once more."""
    return [
        Check("slither", ("bash", str(ROOT / "scripts" / "slither"))),
        Check("coverage", (str(BIN / "python"), str(ROOT / "scripts" / "check_coverage.py"))),
    ]


def scripts(pattern: str) -> list[str]:
    return sorted(str(path) for path in ROOT.glob(f"scripts/{pattern}"))


def title(check: Check) -> str:
    return f"\n== {check.name}: {' '.join(Path(part).name if part.startswith('/') else part for part in check.command)}"


def start(check: Check, output: int | None) -> int:
    """Run a check to its end and return its exit code; ``output`` is where it writes, None for here."""
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}", "PYTHONNOUSERSITE": "1"}
    lowered = ("nice", "-n", str(check.nice)) if check.nice else ()
    done = subprocess.run(
        [*lowered, *check.command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        check=False,
    )
    return done.returncode


def run(check: Check, talking: threading.Lock) -> Outcome:
    """Run a check among others; what it said is shown in one piece when it has ended."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+b") as said:
        code = start(check, said.fileno())
        said.seek(0)
        text = said.read().decode(errors="replace")
    with talking:
        print(title(check))
        print(text, end="" if text.endswith("\n") else "\n", flush=True)
    return Outcome(check.name, code == 0, time.monotonic() - started, counted(text))


def counted(text: str) -> Counter[str]:
    """How many tests ended how, by the closing line of pytest; nothing for other checks."""
    tests: Counter[str] = Counter()
    for line in reversed(text.splitlines()):
        if _CLOSING.match(line):
            tests.update({word.removesuffix("s"): int(number) for number, word in _COUNT.findall(line)})
            break
    return tests


def run_all(deep: bool) -> int:
    """All checks, some side by side; the last line counts all Python tests."""
    started = time.monotonic()
    talking = threading.Lock()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        outcomes = list(pool.map(lambda check: run(check, talking), checks(deep)))
    print("\n== all")
    for outcome in outcomes:
        print(f"   {'ok  ' if outcome.passed else 'FAIL'} {outcome.name:<16} {outcome.seconds:6.1f} s")
    failed = [outcome.name for outcome in outcomes if not outcome.passed]
    if failed:
        print(f"failed: {', '.join(failed)}")
    print(closing(outcomes, time.monotonic() - started), flush=True)
    return 1 if failed else 0


def closing(outcomes: Sequence[Outcome], seconds: float) -> str:
    """The last line. A check that failed without a failed test counts as one."""
    tests = sum((outcome.tests for outcome in outcomes), Counter[str]())
    failed = sum(outcome.tests["failed"] + outcome.tests["error"] or not outcome.passed for outcome in outcomes)
    return f"{tests['passed']} passed, {failed} failed, {tests['skipped']} skipped in {seconds:.1f}s"


def run_one(name: str, deep: bool, rest: Sequence[str], parser: argparse.ArgumentParser) -> int:
    """A single check, with its output as it comes."""
    known = {check.name: check for check in checks(deep)}
    known["pytest"] = pytest_check("pytest", [*(["--deep"] if deep else []), *rest])
    if name not in known:
        parser.error(f"no check is called {name}; there are {', '.join(known)}")
    print(title(known[name]), flush=True)
    code = start(known[name], None)
    if code == PYTEST_FOUND_NONE:
        print("pytest found no test; check the names given", flush=True)
    return 1 if code else 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/test", description=__doc__, add_help=True)
    parser.add_argument("--deep", action="store_true", help="more schedules and repetitions")
    parser.add_argument("--only", metavar="NAME", help="run one check, or pytest with arguments of yours after it")
    options, rest = parser.parse_known_args(arguments)
    if rest and options.only is None:
        options.only = "pytest"
    if options.only:
        return run_one(options.only, options.deep, rest, parser)
    return run_all(options.deep)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
