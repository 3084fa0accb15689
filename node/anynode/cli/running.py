"""Running until Ctrl-C or SIGTERM: one way to stop for every command that stays."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from anynode.watch.logs import LogFormat, formatter
from anynode_contracts.errors import UserError

_LOG_BYTES_MAX = 10 << 20


def run_until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` to its end, or until SIGINT or SIGTERM, after which it is cancelled and cleans up.

    Raises the first error of ``work``; of several at once, the first that is the user's to mend.
    """
    try:
        asyncio.run(_stoppable(work))
    except BaseExceptionGroup as group:
        raise _first(group) from group


def log_to(path: Path, level: int, form: LogFormat = "text") -> None:
    """Send the log to a file that is rotated at 10 MiB; the terminal is for what people want to see."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES_MAX, backupCount=3)
    except OSError as error:
        raise UserError(f"cannot write the log {path}: {error.strerror or error}; choose another folder") from error
    handler.setFormatter(formatter(form))
    logging.raiseExceptions = False  # a log that cannot be written (a full disk) must not fill the terminal instead
    logging.basicConfig(level=level, handlers=[handler], force=True)


async def _stoppable(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(task, return_exceptions=True)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaves: list[BaseException] = []

    def walk(error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                walk(inner)
        else:
            leaves.append(error)

    walk(group)
    return next((leaf for leaf in leaves if isinstance(leaf, UserError)), leaves[0])
