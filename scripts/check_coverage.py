"""How much of ``contracts/src`` the Hardhat tests reach: lines, and arms of every ``if``. Fails below 99 % of either.

Hardhat counts lines and statements. So it runs on a copy of the project, in ``build/coverage``, in which every arm of
an ``if``, also one that is not written down, has a marked line of its own (``hardhat/branches.mjs``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "coverage"
BIN = ROOT / ".venv" / "bin"
GOAL = 0.99
COPIED = ("contracts/src", "contracts/anynode_contracts", "hardhat", "node_modules")
COPIED_FILES = ("hardhat.config.ts", "package.json", "tsconfig.json")

Hits = dict[str, dict[int, int]]


@dataclass(frozen=True, slots=True)
class Reached:
    """How many lines and arms of a file there are, and how many of them are reached."""

    lines: int
    lines_reached: int
    arms: int
    arms_reached: int


def main() -> int:
    copy_project()
    marks = json.loads(run("node", "hardhat/branches.mjs", str(COPY), folder=ROOT))
    run("npx", "hardhat", "test", "--coverage", folder=COPY)
    hits = read_lcov((COPY / "coverage" / "lcov.info").read_text())
    reached = {name: count(lines, frozenset(marks.get(name, ()))) for name, lines in sorted(hits.items())}
    for name, item in reached.items():
        print(f"{name:<48} lines {item.lines_reached:>3}/{item.lines:<3}  arms {item.arms_reached:>3}/{item.arms:<3}")
    for name, lines in marks.items():
        for line in (line for line in lines if not hits[name].get(line)):
            print(f"{name}: not reached, in the marked copy: line {line}")
    lines = sum(item.lines_reached for item in reached.values()) / sum(item.lines for item in reached.values())
    arms = sum(item.arms_reached for item in reached.values()) / sum(item.arms for item in reached.values())
    print(f"coverage: {lines:.2%} of lines, {arms:.2%} of arms; at least {GOAL:.0%} of each is asked for")
    return 0 if min(lines, arms) >= GOAL else 1


def copy_project() -> None:
    """What Hardhat needs; packages as links to the same files."""
    shutil.rmtree(COPY, ignore_errors=True)
    for name in COPIED:
        link = os.link if name == "node_modules" else shutil.copy2
        shutil.copytree(ROOT / name, COPY / name, symlinks=True, copy_function=link)
    for name in COPIED_FILES:
        shutil.copy2(ROOT / name, COPY)


def read_lcov(text: str) -> Hits:
    """By file, how often each line was reached."""
    hits: Hits = {}
    lines: dict[int, int] = {}
    for record in text.splitlines():
        key, _, value = record.partition(":")
        if key == "SF":
            lines = hits.setdefault(value, {})
        elif key == "DA":
            number, times = value.split(",")[:2]
            lines[int(number)] = int(times)
    return hits


def count(lines: Mapping[int, int], marks: frozenset[int]) -> Reached:
    own = [times for line, times in lines.items() if line not in marks]
    return Reached(len(own), sum(map(bool, own)), len(marks), sum(bool(lines.get(line)) for line in marks))


def run(*command: str, folder: Path) -> str:
    """Its output; ends with it if the command fails."""
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}", "FUZZ": "short"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
