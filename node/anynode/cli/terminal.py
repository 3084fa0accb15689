"""What `anynode join` shows at a terminal: lines that stay, and one live line below them that is written over."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import time
from typing import TYPE_CHECKING

import click

from anynode.cli.output import Output

if TYPE_CHECKING:
    from anynode.watch.activity import Activity
    from anynode.worker.notices import Notice

log = logging.getLogger("anynode.join")

REDRAW_S = 0.5
_CLEAR_LINE = "\r\x1b[2K"
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Screen:
    """Notices go above the live line, and into the log. Without a terminal, or with --json, there is no live line."""

    def __init__(self, output: Output, activity: Activity) -> None:
        self._output, self._activity = output, activity
        self._live = sys.stdout.isatty() and not output.as_json
        self._download = ""
        self._rates = LineRates()

    def notify(self, notice: Notice) -> None:
        """One more thing to tell; "progress" is for the live line only."""
        if notice.kind == "progress":
            self._download = notice.text if self._activity.phase == "starting" or "bytes" in notice.text else ""
            return
        log.info("%s", notice.text, extra={"kind": notice.kind})
        self._download = ""
        self._clear()
        self._output.say(notice.text)
        self._draw()

    async def keep_drawing(self) -> None:
        """Redraw the live line until cancelled."""
        try:
            while self._live:
                self._rates.measure(*self._activity.traffic.totals(), time.monotonic())
                self._draw()
                await asyncio.sleep(REDRAW_S)
        finally:
            self._clear()

    def _draw(self) -> None:
        if self._live and (text := self._download or live_line(self._activity, self._rates)):
            width = max(20, shutil.get_terminal_size().columns - 1)
            click.echo(f"{_CLEAR_LINE}{text[:width]}", nl=False)

    def _clear(self) -> None:
        if self._live:
            click.echo(_CLEAR_LINE, nl=False)


class LineRates:
    """Bytes a second up and down over the last few seconds."""

    def __init__(self, time_s: float = 4.0) -> None:
        self.up_per_s = self.down_per_s = 0.0
        self._time_s = time_s
        self._last: tuple[int, int, float] | None = None

    def measure(self, sent_bytes: int, received_bytes: int, now_s: float) -> None:
        """``sent_bytes`` and ``received_bytes`` are totals."""
        if self._last is not None and now_s > self._last[2]:
            passed_s = now_s - self._last[2]
            share = min(1.0, passed_s / self._time_s)
            self.up_per_s += share * ((sent_bytes - self._last[0]) / passed_s - self.up_per_s)
            self.down_per_s += share * ((received_bytes - self._last[1]) / passed_s - self.down_per_s)
        self._last = (sent_bytes, received_bytes, now_s)


def live_line(activity: Activity, rates: LineRates) -> str:
    """One line: round, what is done in it, loss, speed, line. Empty before the first round."""
    if activity.round < 0:
        return ""
    parts = [f"round {activity.round}"]
    if activity.phase == "working" and activity.steps_of_round:
        parts.append(f"step {activity.step}/{activity.steps_of_round}")
    else:
        parts.append(activity.phase)
    if activity.loss is not None:
        parts.append(f"loss {activity.loss:.3f}")
    if activity.steps_per_s:
        parts.append(f"{activity.steps_per_s:.1f} steps/s")
    parts.append(f"↑ {rate_words(rates.up_per_s)} ↓ {rate_words(rates.down_per_s)}")
    parts.append(f"computing {activity.utilisation:.0%}")
    return " · ".join(parts)


def rate_words(bytes_per_s: float) -> str:
    """Three digits and a decimal unit."""
    for size, unit in _UNITS:
        if bytes_per_s >= size:
            return f"{bytes_per_s / size:.1f} {unit}/s"
    return f"{bytes_per_s:.0f} B/s"
