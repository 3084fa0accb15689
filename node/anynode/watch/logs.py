"""Log lines for people or for programs: text, or one JSON object a line with time, level, logger, message and fields.

Fields are ``job`` and ``round`` where they are known (`enter_job`, `name_job`, `enter_round`), and what a call passes
in ``extra`` under a name of `FIELDS`. Nothing else of a record gets into the line, so no object's insides do.
"""

from __future__ import annotations

import contextvars
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]

FIELDS = ("job", "round", "peer", "kind")
_MESSAGE_CHARS_MAX = 4000
#: By number: importing hivemind renames some of logging's levels.
_LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}


@dataclass
class _Where:
    """Where a task and all that it has started are: changed in place, so that all of them see it."""

    job: str = ""
    round: int = -1


_where: contextvars.ContextVar[_Where] = contextvars.ContextVar("anynode_where")


def enter_job(job: str) -> None:
    """From here on, lines of this task and of those it starts name ``job`` (empty: not known yet)."""
    _where.set(_Where(job))


def name_job(job: str) -> None:
    """The job that this task works on is known now: lines of everything that has started since `enter_job` name it."""
    where = _where.get(None)
    if where is not None:
        where.job = job


def enter_round(number: int) -> None:
    """Lines of the current job name this round from now on."""
    where = _where.get(None)
    if where is not None:
        where.round = number


def formatter(form: LogFormat) -> logging.Formatter:
    """The formatter of a log file."""
    if form == "json":
        return JsonLines()
    return logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class JsonLines(logging.Formatter):
    """One JSON object a line; the time is UTC, ISO 8601."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": _LEVELS.get(record.levelno, record.levelname),
            "logger": record.name,
            "message": record.getMessage()[:_MESSAGE_CHARS_MAX],
        }
        where = _where.get(None)
        if where is not None:
            line |= {"job": where.job} if where.job else {}
            line |= {"round": where.round} if where.round >= 0 else {}
        line |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
