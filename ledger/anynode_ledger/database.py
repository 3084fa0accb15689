"""Opens the ledger's database by URL: one writer at a time, foreign keys on, migrated to the newest tables.

What differs between SQLite and PostgreSQL is decided here and in the migrations, nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from anynode_contracts.errors import UserError
from anynode_ledger.migrate import is_newest, upgrade

BUSY_TIMEOUT_MS = 30_000
_WRITE_LOCK = 0x416E794E6F6465  # PostgreSQL advisory lock key: "AnyNode"


def open_engine(url: str) -> Engine:
    """An engine on a migrated database. Raises ``UserError`` for a bad URL, path or file.

    A connection that died with its server is found out before it is used, and replaced.
    """
    engine = create_engine(_parse(url), pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    with _whole_or_disposed(engine, url), begin_write(engine) as connection:
        upgrade(connection)
    return engine


def open_read_only(url: str) -> Engine:
    """An engine that cannot write, on a database that another process may be writing to, or on a copy of one.

    Raises ``UserError`` for a bad URL, path or file, and for tables of another version than this program's.
    """
    parsed = _parse(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite:
        engine = create_engine(_read_only_file(parsed))
        event.listen(engine, "connect", _prepare_sqlite_reader)
    else:
        engine = create_engine(parsed, pool_pre_ping=True, execution_options={"postgresql_readonly": True})
    with _whole_or_disposed(engine, url), begin_read(engine) as connection:
        if not is_newest(connection):
            raise UserError(
                f"the database {parsed.render_as_string(hide_password=True)} holds no ledger of this version of"
                " AnyNode; check the path, or start its verifier once with this version"
            )
    return engine


def _parse(url: str) -> URL:
    """The URL of a database for which the driver is there."""
    shown = "the URL of the ledger's database"
    try:
        parsed = make_url(url)
        shown = parsed.render_as_string(hide_password=True)
        parsed.get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "psycopg":
            raise UserError(
                "a ledger on PostgreSQL needs psycopg; install it with scripts/setup, which installs all that is locked"
            ) from error
        raise UserError(
            f"{shown[:200]} names no database that this program can open; write sqlite:///PATH or "
            "postgresql+psycopg://HOST/NAME"
        ) from error
    return parsed


@contextmanager
def _whole_or_disposed(engine: Engine, url: str) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        engine.dispose()
        raise UserError(
            f"the ledger's database {make_url(url).render_as_string(hide_password=True)} cannot be opened:"
            f" {error.orig}; check the path, or restore it from a copy"
        ) from error
    except BaseException:
        engine.dispose()
        raise


def _read_only_file(url: URL) -> URL:
    """SQLite's own way to say so. In a folder that cannot be written either, nobody else can have the file open."""
    path = Path(url.database or "").absolute()
    alone = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-shm").exists()
    query = {"uri": "true", "mode": "ro"} | ({"immutable": "1"} if alone else {})
    return url.set(database=f"file:{quote(str(path))}", query=query)


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


def _prepare_sqlite_reader(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", "query_only = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


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
