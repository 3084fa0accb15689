"""Brings a database to the newest version of the tables, inside the caller's transaction."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from anynode_contracts.errors import UserError

SCRIPTS = Path(__file__).parent / "migrations"


def is_newest(connection: Connection) -> bool:
    """Whether the tables are those of this program."""
    newest = ScriptDirectory(str(SCRIPTS)).get_current_head()
    return MigrationContext.configure(connection).get_current_revision() == newest


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing. Raises ``UserError`` when the database is newer than this program."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise UserError(
            "the ledger's database was written by a newer AnyNode; update AnyNode, or open another database"
        ) from error
