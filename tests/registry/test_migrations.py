"""Any database comes to the newest schema; one that is newer is left alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from ingestd.registry.database import Database, DatabaseRefused, DatabaseUnavailable
from ingestd.registry.migrations import REVISIONS, current, migrate, newest
from ingestd.registry.migrations.upgrade import configuration, upgrade
from ingestd.registry.sessions import find_session, keep_sessions
from ingestd.registry.tables import metadata
from tests.registry.tools import session


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


def made_by_migrations(connection: Connection) -> tuple[list[object], set[str | None], str | None]:
    upgrade(connection)
    return differences(connection), names(connection), current(connection)


async def test_the_migrations_make_the_tables(database: Database, empty: Database) -> None:
    """Types, columns, indexes and constraints are those of a database that was empty, down to their names."""
    assert await database.read(differences) == []
    found = await empty.open(made_by_migrations)
    assert found == ([], await database.read(names), newest())
    await empty.close()


def test_the_versions_are_in_their_order() -> None:
    """Each goes on from the one before; none is missing from `REVISIONS`."""
    script = ScriptDirectory.from_config(configuration())
    assert tuple(each.revision for each in reversed(list(script.walk_revisions()))) == REVISIONS
    assert script.get_current_head() == newest()


def test_alembic_is_not_loaded_where_there_is_nothing_to_migrate(tmp_path: Path) -> None:
    """It would take a third of the daemon's memory and start."""
    code = (
        "import sys, trio; from pathlib import Path; "
        "from ingestd.registry.database import Database; from ingestd.registry.migrations import migrate; "
        f"base = Database('', Path({str(tmp_path)!r})); trio.run(base.open, migrate); "
        "sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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


async def test_an_older_database_keeps_what_it_has(connect: Callable[[], Database]) -> None:
    """It comes to the newest schema once, however many daemons start on it."""

    def oldest(connection: Connection) -> None:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, REVISIONS[0])
        keep_sessions(connection, [session()])

    first = connect()
    await first.open(oldest)
    databases = [connect() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for database in databases:
            nursery.start_soon(database.open, migrate)
    assert await first.read(current) == newest()
    assert await first.read(differences) == []
    assert await first.read(find_session, "booth", "s1") == session()
    for database in (first, *databases):
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
