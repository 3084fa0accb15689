"""Where AnyNode keeps its files, and settings: flags outrank ANYNODE_* variables, which outrank the settings file.

    # ~/.config/anynode/config.toml
    network = "development"              # top level: for every command that has the option
    password_file = "/run/secrets/anynode"

    [commands.wallet.create]             # a table per command, keys named like its flags
    json = true

Passwords and keys are never settings: a setting names the file that holds one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import platformdirs

from anynode_contracts.errors import UserError

SETTINGS_BYTES_MAX = 64 * 1024
#: Options that mean the same in every command; only these may stand at the top level of the file.
COMMANDS_TABLE = "commands"
SHARED = frozenset({"json", "network", "password_file", "wallet"})


@dataclass(frozen=True)
class Places:
    """The folders of this user (XDG base directories), or all below ``ANYNODE_HOME``."""

    config: Path
    data: Path
    state: Path

    @classmethod
    def find(cls, environment: Mapping[str, str]) -> Places:
        if home := environment.get("ANYNODE_HOME"):
            root = Path(home).expanduser().absolute()
            return cls(config=root / "config", data=root / "data", state=root / "state")
        folders = platformdirs.PlatformDirs("anynode", appauthor=False)
        return cls(folders.user_config_path, folders.user_data_path, folders.user_state_path)

    @property
    def networks(self) -> Path:
        return self.config / "networks"

    @property
    def wallets(self) -> Path:
        return self.data / "wallets"

    @property
    def identities(self) -> Path:
        """libp2p keys, mode 0600."""
        return self.data / "identities"

    @property
    def logs(self) -> Path:
        return self.state / "logs"


@dataclass(frozen=True)
class Settings:
    """What the settings file says, and where things are."""

    places: Places
    path: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def read_settings(path: Path | None, places: Places) -> Settings:
    """The settings of ``path``, or of the usual file if there is one.

    Raises ``UserError`` if a named file is missing or any file is not TOML.
    """
    chosen = path or places.config / "config.toml"
    if path is None and not chosen.exists():
        return Settings(places)
    try:
        with chosen.open("rb") as file:
            raw = file.read(SETTINGS_BYTES_MAX + 1)
        if len(raw) > SETTINGS_BYTES_MAX:
            raise UserError(f"the settings file {chosen} is over {SETTINGS_BYTES_MAX // 1024} KiB; shorten it")
        values = tomllib.loads(raw.decode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot read the settings file {chosen}: {reason}; check --config") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise UserError(f"the settings file {chosen} is not TOML ({error}); mend that line") from error
    unknown = sorted(values.keys() - SHARED - {COMMANDS_TABLE})
    if unknown:
        allowed = ", ".join(sorted(SHARED | {COMMANDS_TABLE}))
        raise UserError(
            f"the settings file {chosen} has an unknown key {unknown[0]!r}; at the top level it may have {allowed}"
        )
    return Settings(places, chosen, values)


def command_tables(settings: Settings) -> Mapping[str, Any]:
    """The table of every command that the file names. Raises ``UserError`` if ``commands`` is no table."""
    tables = settings.values.get(COMMANDS_TABLE, {})
    if not isinstance(tables, dict):
        raise UserError(f"`commands` in the settings file {settings.path} must be tables; write [commands.NAME]")
    return tables


def defaults_for(command: click.Command, name: str, settings: Settings) -> dict[str, Any]:
    """The settings for ``command`` as click's ``default_map``: the shared ones that it has, then its own table.

    Raises ``UserError`` for a key that no option of the command bears.
    """
    shared = {key: value for key, value in settings.values.items() if key in SHARED}
    return _defaults(command, name, command_tables(settings).get(name, {}), shared, settings.path)


def _defaults(
    command: click.Command, name: str, table: Any, shared: Mapping[str, Any], path: Path | None
) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise UserError(f"[commands.{name}] in the settings file {path} must be a table of options; mend it")
    options = {_key(option): option.name for option in command.params if isinstance(option, click.Option)}
    parts = command.commands if isinstance(command, click.Group) else {}
    found: dict[str, Any] = {options[key] or key: value for key, value in shared.items() if key in options}
    for key, value in table.items():
        if key in options:
            found[options[key] or key] = value
        elif key not in parts:
            help_of = f"`anynode {name.replace('.', ' ')} --help`"
            raise UserError(f"[commands.{name}] in the settings file {path} has an unknown key {key!r}; see {help_of}")
    for part, member in parts.items():
        found[part] = _defaults(member, f"{name}.{part}", table.get(part, {}), shared, path)
    return found


def _key(option: click.Option) -> str:
    """How the settings file spells an option: its long flag with underscores."""
    flag = max(option.opts, key=len)
    return flag.lstrip("-").replace("-", "_")
