"""Where the modules lie that the attacks share with other tests and with the benchmarks. Importing it finds them."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
FOLDERS = (
    *(".", "sim", "unit/training", "unit/verifier", "unit/rounds", "e2e"),
    *("../scripts/run_bench", "../scripts/run_demo"),
)
sys.path[:0] = [str(TESTS / folder) for folder in FOLDERS]
