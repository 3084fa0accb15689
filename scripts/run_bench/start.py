"""How long the command line takes to answer: ``anynode --help`` and ``import anynode_ledger``."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from report import Goal, Report, Say

RUNS = 11


def measure(deep: bool, say: Say) -> Report:
    """The median of several cold processes each; the first run, which compiles and reads from disk, is left out."""
    runs = RUNS * (3 if deep else 1)
    help_s = _median(["-m", "anynode", "--help"], runs)
    say(f"anynode --help: {help_s:.3f} s")
    ledger_s = _median(["-c", "import anynode_ledger"], runs)
    empty_s = _median(["-c", "pass"], runs)
    return Report(
        keys={"help_s": help_s, "import_ledger_s": ledger_s, "python_s": empty_s},
        goals=(Goal("help_s", "<=", 0.3),),
        columns=("command", "median seconds"),
        rows=(("anynode --help", help_s), ("import anynode_ledger", ledger_s), ("python -c pass", empty_s)),
    )


def _median(arguments: list[str], runs: int) -> float:
    return statistics.median([_seconds(arguments) for _ in range(runs + 1)][1:])


def _seconds(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
