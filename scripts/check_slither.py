"""Run Slither over ``contracts/src`` and hold what it finds against ``hardhat/silenced.toml``.

Every finding has to be named there with a reason, and every line there has to meet a finding: what has been mended is
not silenced any longer. Slither has an environment of its own, made by ``scripts/setup --slither``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SLITHER = ROOT / "build" / "slither" / "bin" / "slither"
SILENCED = ROOT / "hardhat" / "silenced.toml"
COMMAND = (
    *(str(SLITHER), "contracts/src", "--solc", "hardhat/solc.mjs", "--solc-standard-json"),
    *("--compile-force-framework", "solc", "--solc-remaps", "@openzeppelin=node_modules/@openzeppelin"),
    *("--filter-paths", "node_modules"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One result: its detector, the place as `Contract.function` or `Contract.variable`, and its words."""

    check: str
    place: str
    words: str


@dataclass(frozen=True, slots=True)
class Silenced:
    """A finding that is no fault, and why. Without places it is meant wherever its detector finds it."""

    check: str
    places: frozenset[str]
    why: str

    def covers(self, finding: Finding) -> bool:
        return self.check == finding.check and (not self.places or finding.place in self.places)


def main() -> int:
    findings, silenced = found(), silences(SILENCED.read_text())
    loud = [finding for finding in findings if not any(entry.covers(finding) for entry in silenced)]
    for finding in loud:
        print(f"{finding.check} at {finding.place}: {finding.words}")
    stale = unmet(silenced, findings)
    for line in stale:
        print(f"{SILENCED.name}: nothing is found any longer at {line}; take it out")
    print(f"slither: {len(findings)} findings, {len(findings) - len(loud)} silenced with a reason, {len(loud)} not")
    return 1 if loud or stale else 0


def found() -> list[Finding]:
    """What Slither finds now."""
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        done = subprocess.run(
            [*COMMAND, "--json", str(report)],
            cwd=ROOT,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.exists():
            sys.exit(f"slither could not look at the contracts:\n{done.stderr[-2000:]}")
        raw = json.loads(report.read_text())
    if not raw["success"]:
        sys.exit(f"slither could not look at the contracts: {raw['error']}")
    return [Finding(item["check"], place(item["elements"][0]), item["description"].strip()) for item in detected(raw)]


def detected(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of a report, of which there is no key at all when there is none."""
    results: list[dict[str, Any]] = raw["results"].get("detectors", [])
    return results


def place(element: dict[str, Any]) -> str:
    """`Contract.function`, also for a variable of that function."""
    parent = element.get("type_specific_fields", {}).get("parent")
    if parent is None:
        return str(element["name"])
    return f"{place(parent)}.{element['name']}"


def silences(text: str) -> list[Silenced]:
    """The entries of ``silenced.toml``."""
    entries = tomllib.loads(text)["silenced"]
    return [Silenced(entry["check"], frozenset(entry.get("places", ())), entry["why"]) for entry in entries]


def unmet(silenced: list[Silenced], findings: list[Finding]) -> list[str]:
    """What is silenced and not found: a whole entry, or one place of it."""
    there = {(finding.check, finding.place) for finding in findings}
    lines = [entry.check for entry in silenced if not any(entry.covers(finding) for finding in findings)]
    return lines + [
        f"{entry.check}, {place}"
        for entry in silenced
        for place in sorted(entry.places)
        if (entry.check, place) not in there
    ]


if __name__ == "__main__":
    sys.exit(main())
