"""What the demo shows: progress as it goes, and a table at the end."""

from __future__ import annotations

import sys
import time
from typing import Any

from claims import CLAIMS, Claims
from rich.console import Console
from rich.table import Table

TOKENS_PER_SAMPLE = 64


class Screen:
    """With ``as_json`` everything for people goes to stderr, so that stdout holds the summary alone."""

    def __init__(self, *, as_json: bool) -> None:
        self._console = Console(file=sys.stderr if as_json else sys.stdout, highlight=False)
        self._began = time.monotonic()
        self._shown: tuple[Any, ...] = ()

    def step(self, text: str) -> None:
        """One thing that the demo does now."""
        self._console.print(f"[bold]{self._clock()}[/bold]  {text}")

    def job(self, job: dict[str, Any]) -> None:
        """A line whenever a round begins or its phase changes."""
        losses = job["losses"]
        now = (job["round"], job["phase"], len(losses), job["audits"]["replayed"])
        if now == self._shown:
            return
        self._shown = now
        last = list(losses.values())[-1] if losses else float("nan")
        alive = sum(item["alive"] for item in job["members"])
        tokens = job["samples_per_s"] * TOKENS_PER_SAMPLE
        audits = job["audits"]
        self._console.print(
            f"{self._clock()}  round {job['round']:>2}/{job['rounds']}  {job['phase']:<20} loss {last:6.3f}  "
            f"peers {alive}  {tokens:6.0f} tokens/s  "
            f"audits {audits['replayed']} replayed, {audits['rejected']} rejected"
        )

    def finish(self, summary: dict[str, Any], claims: Claims) -> None:
        """The two tables: what was claimed, and what everybody has."""
        table = Table(title="What was shown", title_justify="left")
        table.add_column("")
        table.add_column("claim")
        for number, text in CLAIMS.items():
            mark = "[green]yes[/green]" if claims.holds(number) else "[red]NO[/red]"
            why = "".join(f"\n[red]{line}[/red]" for line in claims.failures.get(number, []))
            table.add_row(mark, f"{number}. {text}{why}")
        self._console.print(table)
        money = Table(title="Pay, in wei", title_justify="left")
        for column in ("worker", "ledger says", "held back till the close", "paid on the chain"):
            money.add_column(column, justify="left" if column == "worker" else "right")
        for name, paid in summary["paid_wei"].items():
            money.add_row(name, summary["ledger_wei"][name], summary["held_back_wei"][name], paid)
        self._console.print(money)
        for name, reason in summary["rejected"].items():
            self._console.print(f"[bold]{name}[/bold] was rejected: {reason}")
        self._console.print(
            f"{summary['rounds']} rounds, validation loss {summary['loss_first']:.3f} → {summary['loss_last']:.3f}, "
            f"{summary['tokens_per_s']:.0f} tokens/s, {summary['state_forks']} state forks, "
            f"{summary['seconds']:.0f} s. The result is in {summary['result']}."
        )

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60}:{seconds % 60:02d}"
