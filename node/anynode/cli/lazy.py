"""A command group that knows its commands by name and imports only the one that runs.

Other packages add commands through the entry-point group ``anynode.commands``; they too are imported when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from anynode.cli.settings import Settings, command_tables, defaults_for
from anynode_contracts.errors import UserError

ENTRY_POINTS = "anynode.commands"


@dataclass(frozen=True)
class Command:
    """A command's name, where it is (``module:attribute``; None: an entry point), and its line in the help."""

    name: str
    target: str | None
    summary: str


class LazyGroup(click.Group):
    """See the module. ``context.obj`` holds the :class:`Settings` by the time a command runs."""

    def __init__(self, *, commands_known: Sequence[Command], **options: Any) -> None:
        super().__init__(**options)
        self._known = {command.name: command for command in commands_known}

    def list_commands(self, ctx: click.Context) -> list[str]:
        known = [name for name, command in self._known.items() if command.target or name in _extensions()]
        return known + sorted(set(_extensions()) - set(known))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._load(cmd_name)

    def use(self, ctx: click.Context, settings: Settings) -> None:
        """Hand ``settings`` to the command that is about to run. Raises ``UserError`` for what no command knows."""
        ctx.obj = settings
        tables = command_tables(settings)
        if tables and (strangers := sorted(tables.keys() - set(self.list_commands(ctx)))):
            raise UserError(
                f"[commands.{strangers[0]}] in the settings file {settings.path} is no command; see `anynode --help`"
            )
        name = ctx.invoked_subcommand
        if settings.values and name is not None and (command := self._load(name)) is not None:
            ctx.default_map = {name: defaults_for(command, name, settings)}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in --help, from the table alone."""
        rows = []
        for name in self.list_commands(ctx):
            command = self._known.get(name)
            rows.append((name, command.summary if command else f"From {_distribution(_extensions()[name])}."))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _load(self, name: str) -> click.Command | None:
        known = self._known.get(name)
        if known is not None and known.target is not None:
            module, _, attribute = known.target.partition(":")
            loaded = getattr(import_module(module), attribute)
        elif name in _extensions():
            loaded = _extensions()[name].load()
        else:
            return None
        if not isinstance(loaded, click.Command):
            raise UserError(f"`anynode {name}` is not a command; update the package that brings it")
        return loaded


@cache
def _extensions() -> dict[str, EntryPoint]:
    """The installed packages' commands by name. Every installed package is looked at for it, so once is enough."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.module
