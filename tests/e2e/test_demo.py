"""The demo itself, in which the process that settles and posts is killed while it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "scripts" / "run_demo"
DEATHS = 3


@pytest.mark.deep
def test_the_poster_is_killed_at_random_moments_and_everybody_is_paid_once(
    tmp_path: Path, only_seed: int | None
) -> None:
    """All claims of the demo hold: among them two roots, and balances on the chain that are the ledger's to the wei."""
    seed = only_seed if only_seed is not None else int.from_bytes(os.urandom(2))
    print(f"seed {seed}; replay with --seed {seed}")
    done = subprocess.run(
        [
            *(sys.executable, str(DEMO), "--json", "--out", str(tmp_path / "result")),
            *("--kill-poster", str(DEATHS), "--seed", str(seed)),
        ],
        capture_output=True,
        text=True,
        timeout=900.0,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert len(summary["poster_deaths"]) == DEATHS
    assert all(summary["claims"].values()) and summary["audit_ok"]
    assert summary["paid_wei"] == summary["ledger_wei"]


def test_a_folder_with_something_else_is_not_overwritten(tmp_path: Path) -> None:
    kept = tmp_path / "thesis.txt"
    kept.write_text("years of work")
    done = subprocess.run(
        [sys.executable, str(DEMO), "--out", str(tmp_path)], capture_output=True, text=True, timeout=60.0, check=False
    )
    assert done.returncode == 2
    assert "something else than an earlier result" in done.stderr
    assert kept.read_text() == "years of work"
