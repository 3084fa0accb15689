"""Options that several of the verifier's commands have, with one meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def number_option(command: _Command) -> _Command:
    return click.option(
        "--number",
        type=click.IntRange(1, 256),
        default=1,
        show_default=True,
        help="Which of the network's verifiers this is: NETWORK-verifier, then NETWORK-verifier-2 and so on.",
    )(command)


def asked_option(command: _Command) -> _Command:
    return click.option(
        "--api-url", metavar="URL", help="Which verifier is asked. Default: the one in the network file."
    )(command)
