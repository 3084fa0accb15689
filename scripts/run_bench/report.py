"""What a benchmark found: its figures, a table for people, its goals; and how that is kept as evidence."""

from __future__ import annotations

import json
import operator
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anynode_contracts.files import write_aside

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"
_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is to reach: ``Goal("time_ratio", "<=", 0.5)``."""

    key: str
    relation: str
    bound: Any

    def reached(self, keys: Mapping[str, Any]) -> bool:
        return _COMPARED[self.relation](keys[self.key], self.bound)


@dataclass(frozen=True, slots=True)
class Report:
    """``keys`` are the figures by name (JSON values), ``rows`` the table with its ``columns``, ``notes`` sentences on
    how it was measured and what limits it.
    """

    keys: dict[str, Any]
    goals: tuple[Goal, ...] = ()
    columns: tuple[str, ...] = ()
    rows: Sequence[Sequence[object]] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def reached(self) -> bool:
        return all(goal.reached(self.keys) for goal in self.goals)


def show(report: Report) -> str:
    """The report as text: table, goals, notes."""
    lines = []
    if report.rows:
        table = [report.columns, *([_text(cell) for cell in row] for row in report.rows)]
        widths = [max(len(row[column]) for row in table) for column in range(len(report.columns))]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        lines.append("")
    for goal in report.goals:
        word = "reached" if goal.reached(report.keys) else "MISSED"
        lines.append(f"{goal.key} = {_text(report.keys[goal.key])}   goal {goal.relation} {goal.bound}: {word}")
    judged = {goal.key for goal in report.goals}
    lines += [f"{key} = {_text(value)}" for key, value in report.keys.items() if key not in judged]
    return "\n".join([*lines, *report.notes])


def save(name: str, command: str, report: Report) -> Path:
    """Keep the figures as ``docs/evidence/NAME.json``, with date, hardware and command."""
    path = EVIDENCE / f"{name}.json"
    value = {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": hardware(),
        "keys": report.keys,
        "goals": [{"key": goal.key, "goal": f"{goal.relation} {goal.bound}"} for goal in report.goals],
        "columns": report.columns,
        "rows": report.rows,
        "notes": report.notes,
    }
    write_aside(path, json.dumps(value, indent=2).encode() + b"\n")
    return path


def hardware() -> str:
    """The processor, its usable cores and the memory of this machine."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{model}, {cores} cores, {memory:.0f} GiB"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
