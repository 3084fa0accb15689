"""Options of the commands that stay: metrics and the log's form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def watch_options(command: _Command) -> _Command:
    """--metrics-port, --metrics-host and --log-format."""
    for option in (
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="Form of the log file: text, or one JSON object a line.",
        ),
        click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address to serve metrics on."),
        click.option(
            "--metrics-port",
            type=click.IntRange(0, 65535),
            help="Serve Prometheus metrics on this TCP port; 0 takes a free one. Default: none are served.",
        ),
    ):
        command = option(command)
    return command
