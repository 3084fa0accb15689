"""Opens the ledger's database by URL: one writer at a time, foreign keys on, migrated to the newest tables.

What differs between SQLite and PostgreSQL is decided here and in the migrations, nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from anynode_contracts.errors import UserError
from anynode_ledger.migrate import upgrade

BUSY_TIMEOUT_MS = 30_000
_WRITE_LOCK = 0x416E794E6F6465  # PostgreSQL advisory lock key: "AnyNode"


def open_engine(url: str) -> Engine:
    """An engine on a migrated database. Raises ``UserError`` for a bad URL, path or file."""
    try:
        engine = create_engine(make_url(url))
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise UserError(
            f"{url[:200]!r} is no database this program can open; write sqlite:///PATH or postgresql+psycopg://HOST/NAME"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    try:
        with begin_write(engine) as connection:
            upgrade(connection)
    except DBAPIError as error:
        engine.dispose()
        raise UserError(
            f"the ledger's database {engine.url.render_as_string(hide_password=True)} cannot be opened:"
            f" {error.orig}; check the path, or restore it from a copy"
        ) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def begin_write(engine: Engine) -> Iterator[Connection]:
    """One transaction that holds the write lock from its start, so that what it read stays true until it commits."""
    with engine.connect() as connection, _transaction(connection, write=True):
        yield connection


@contextmanager
def begin_read(engine: Engine) -> Iterator[Connection]:
    """One transaction that sees a single state of the database."""
    with engine.connect() as connection, _transaction(connection, write=False):
        yield connection


@contextmanager
def _transaction(connection: Connection, *, write: bool) -> Iterator[None]:
    if connection.dialect.name == "sqlite":
        with connection.begin():
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN DEFERRED")
            yield
        return
    connection = connection.execution_options(isolation_level="REPEATABLE READ" if not write else "READ COMMITTED")
    with connection.begin():
        if write:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK})
        yield


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # sqlite3 must not begin transactions by itself, or BEGIN IMMEDIATE above is one too many
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "recursive_triggers = ON",  # or REPLACE would delete immutable rows without asking the trigger
    ):
        connection.execute(f"PRAGMA {pragma}").close()
