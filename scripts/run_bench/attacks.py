"""Every attack in tests/attacks, against real training processes, services and round cores: what comes of it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from report import Goal, Report, Say

from anynode_contracts.errors import UserError

ROOT = Path(__file__).parents[2]
LIMIT_S = 1_800.0


def measure(deep: bool, say: Say) -> Report:
    """Run the attacks as tests, each of which asserts the outcome that its file names, and read what they found."""
    entries = _run(deep, say)
    made = [entry for entry in entries if _ways(entry)]
    found = [way["found"] for entry in made for way in _ways(entry) if way["found"]]
    failed = [entry["name"] for entry in made if any(not _held(way) for way in _ways(entry))]
    outcomes = [entry["outcome"] for entry in made if entry["name"] not in failed]
    in_swarms = sum("passed" in entry["swarm"]["results"] for entry in entries)
    left = sum("skipped" in entry["swarm"]["results"] for entry in entries)
    keys: dict[str, Any] = {
        "failed": len(failed),
        "fraud_net_wei": sum(item["paid_wei"] - item["slashed_wei"] for item in found),
        "attacks": len(made),
        "in_swarms": in_swarms,
    }
    keys |= {outcome: outcomes.count(outcome) for outcome in ("prevented", "caught", "unprofitable", "bounded")}
    return Report(
        keys=keys,
        goals=(Goal("failed", "==", 0), Goal("fraud_net_wei", "<=", 0)),
        columns=("attack", "expected", "found", "in a real swarm", "paid - slashed, wei", "what was seen"),
        rows=[_row(entry) for entry in entries],
        notes=(
            "Each expected outcome stands in the attack's file and is asserted there. Wei: what the ledger paid for "
            "work that was fraudulent, less what it slashed, in a job, simulated or real, whose verdicts end as "
            "this attack's.",
            *((f"{left} attacks are made in real swarms too, which takes long: --deep does it.",) if left else ()),
            *((f"Failed: {', '.join(failed)}.",) if failed else ()),
        ),
    )


def _run(deep: bool, say: Say) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "attacks.json"
        command = [sys.executable, "-m", "pytest", "-q", "tests/attacks", "--attack-report", str(report)]
        say(f"attacking: {' '.join(command[1:4])}{' --deep' if deep else ''}")
        done = subprocess.run(
            [*command, *(["--deep"] if deep else [])],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
        if not report.exists():
            raise UserError(f"the attacks could not be run; see:\n{done.stdout[-2000:]}")
        if done.returncode:
            say(done.stdout[-3000:])
        entries: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))
        return entries


def _ways(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The ways in which an attack was made: by itself, in a real swarm, or both."""
    return [way for way in (entry["alone"], entry["swarm"]) if way["results"] and "skipped" not in way["results"]]


def _held(way: dict[str, Any]) -> bool:
    """Whether every test of it passed, and one says what it found."""
    return set(way["results"]) == {"passed"} and way["found"] is not None


def _word(way: dict[str, Any]) -> str:
    if not way["results"] or "skipped" in way["results"]:
        return ""
    return str(way["found"]["outcome"]) if _held(way) else "FAILED"


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    found = [way["found"] for way in _ways(entry) if way["found"]]
    net_wei = sum(item["paid_wei"] - item["slashed_wei"] for item in found)
    seen = found[-1]["how"][:90] if found else entry["what"]
    return entry["name"], entry["outcome"], _word(entry["alone"]), _word(entry["swarm"]), net_wei, seen
