"""The migrations lead to exactly the tables that the code uses, and leave the app's logging alone."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql

from anynode_ledger import migrate, schema
from anynode_ledger.book import Book


def test_the_newest_migration_equals_the_tables(url: str, open_book: Callable[[], Book]) -> None:
    open_book()
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    engine.dispose()


def test_opening_again_migrates_nothing_and_keeps_loggers(open_book: Callable[[], Book]) -> None:
    logger = logging.getLogger("somebody.elses")
    before = (logging.getLogger().handlers[:], logging.getLogger().level, logger.disabled)
    open_book()
    open_book()
    assert (logging.getLogger().handlers[:], logging.getLogger().level, logger.disabled) == before


def test_tables_of_another_version_are_told_apart(url: str, open_book: Callable[[], Book]) -> None:
    open_book()
    engine = create_engine(url)
    with engine.begin() as connection:
        assert migrate.is_newest(connection)
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
        assert not migrate.is_newest(connection)
    engine.dispose()


def test_one_line_of_versions() -> None:
    scripts = ScriptDirectory(str(migrate.SCRIPTS))
    assert len(scripts.get_heads()) == 1
    assert len(scripts.get_bases()) == 1


def test_amounts_are_exact_numbers_in_postgresql() -> None:
    dialect = postgresql.dialect()
    kind = schema.Wei().dialect_impl(dialect)
    assert str(kind.compile(dialect=dialect)) == "NUMERIC(78, 0)"
    bound = schema.Wei().process_bind_param(2**255 + 1, dialect)
    assert schema.Wei().process_result_value(bound, dialect) == 2**255 + 1


def test_the_migration_speaks_postgresql(capsys: pytest.CaptureFixture[str]) -> None:
    """Rendered offline: every statement of the migrations in PostgreSQL's words, triggers included."""
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True})
    with Operations.context(context):
        for version in reversed(list(ScriptDirectory(str(migrate.SCRIPTS)).walk_revisions())):
            version.module.upgrade()
    rendered = capsys.readouterr().out
    assert "amount_wei NUMERIC(78, 0) NOT NULL" in rendered
    assert "BIGSERIAL" in rendered
    for table in schema.IMMUTABLE:
        assert f"CREATE TRIGGER {table}_immutable BEFORE UPDATE OR DELETE ON {table}" in rendered
        assert f"CREATE TRIGGER {table}_kept BEFORE TRUNCATE ON {table}" in rendered
    assert "RAISE(ABORT" not in rendered
