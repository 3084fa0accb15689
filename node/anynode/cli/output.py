"""What commands say: lines and tables for people, or with --json one object as the last line of stdout."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

_JSON = "anynode.json"
_WIDTH_OF_FILES = 400


class Output:
    """People read stdout; with ``as_json`` they read stderr, so that stdout holds the object and nothing else."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def say(self, text: str) -> None:
        """One line of progress or result."""
        click.echo(text, err=self.as_json)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
        """A table; numbers go to the right."""
        from rich.table import Table  # here, because most commands print no table and rich is slow to import

        table = Table(title=title or None, title_justify="left")
        for position, column in enumerate(columns):
            numeric = bool(rows) and all(isinstance(row[position], int | float) for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(str(cell) for cell in row))
        self.show(table)

    def show(self, what: RenderableType) -> None:
        """A table or a group of them, where people read."""
        from rich.console import Console

        # What others said (reasons, names) is shown as it is: their brackets are no markup.
        console = Console(stderr=self.as_json, markup=False, emoji=False)
        if not console.is_terminal:  # a file or a pipe has no width: nothing is folded for it
            console.width = _WIDTH_OF_FILES
        console.print(what)

    def result(self, value: Mapping[str, Any]) -> None:
        """The result as one JSON object on one line; nothing without --json. Amounts in wei are strings:
        many JSON readers hold numbers as doubles, which are exact to 2^53 only."""
        if self.as_json:
            click.echo(json.dumps(value))


def reports(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flag ``--json`` and an :class:`Output` as its first argument."""

    @click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        envvar="ANYNODE_JSON",
        callback=_remember,
        help="Print the result (or the error) as one JSON object on the last line.",
    )
    @functools.wraps(command)
    def wrapped(*arguments: Any, as_json: bool, **options: Any) -> Any:
        return command(Output(as_json=as_json), *arguments, **options)

    return wrapped


def json_wanted(context: click.Context) -> bool:
    """Whether the command that ran under ``context`` was asked for JSON, by flag, environment or file."""
    return bool(context.meta.get(_JSON, False))


def _remember(context: click.Context, _option: click.Parameter, value: bool) -> bool:
    context.meta[_JSON] = value  # nested contexts share it, so the outermost one knows it when an error gets there
    return value
