"""Any database comes to the newest schema; one that is newer is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from ingestd.registry.database import Database, DatabaseRefused, DatabaseUnavailable
from ingestd.registry.migrations import current, migrate, newest
from ingestd.registry.tables import metadata


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True}
    )
    return list(compare_metadata(context, metadata))


def names(connection: Connection) -> set[str | None]:
    """Of all tables, indexes and constraints."""
    inspector = inspect(connection)
    found: set[str | None] = set()
    for table in metadata.tables:
        found.add(inspector.get_pk_constraint(table)["name"])
        found |= {
            each["name"] for each in inspector.get_indexes(table) if "duplicates_constraint" not in each
        }
        found |= {each["name"] for each in inspector.get_unique_constraints(table)}
        found |= {each["name"] for each in inspector.get_foreign_keys(table)}
    return found


def made_without_migrations(connection: Connection) -> set[str | None]:
    metadata.create_all(connection)
    return names(connection)


async def test_the_migrations_make_the_tables(
    database: Database, connect: Callable[[], Database], tmp_path: Path
) -> None:
    """Types, columns, indexes and constraints are those of the tables, down to their names."""
    assert await database.read(differences) == []
    expected = Database(f"sqlite:///{tmp_path}/plain.db", tmp_path)
    assert await database.read(names) == await expected.open(made_without_migrations)
    await expected.close()


async def test_migrating_again_changes_nothing(database: Database) -> None:
    assert await database.run(migrate) == newest()
    assert await database.read(current) == newest()


async def test_daemons_that_start_at_once_migrate_one_after_the_other(
    connect: Callable[[], Database],
) -> None:
    databases = [connect() for _ in range(4)]
    async with trio.open_nursery() as nursery:
        for database in databases:
            nursery.start_soon(database.open, migrate)
    for database in databases:
        assert await database.read(current) == newest()
        await database.close()


async def test_a_newer_schema_is_refused(database: Database, connect: Callable[[], Database]) -> None:
    """The error says what to do, and nothing was changed."""

    def from_the_future(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    await database.run(from_the_future)
    older = connect()
    with pytest.raises(DatabaseRefused, match=r'schema "9999" of a newer ingestd.*run the newer one'):
        await older.open(migrate)
    with pytest.raises(DatabaseUnavailable, match="cannot be used yet"):
        await older.run(current)
    assert await database.read(current) == "9999"
    await older.close()


async def test_a_migration_that_fails_leaves_nothing(connect: Callable[[], Database]) -> None:
    """Half a schema is worse than none."""

    def fail(connection: Connection) -> None:
        migrate(connection)
        raise ZeroDivisionError

    database = connect()
    with pytest.raises(ZeroDivisionError):
        await database.open(fail)
    assert await database.open(current) is None
    await database.close()
