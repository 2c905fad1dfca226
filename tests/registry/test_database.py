"""The database locked, slow, frozen, killed and back: every wait is bounded, and nothing is half done."""

from __future__ import annotations

import sqlite3
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from ingestd.config import DatabaseConfig
from ingestd.registry.database import Database, DatabaseRefused, DatabaseUnavailable
from ingestd.registry.migrations import migrate
from ingestd.registry.sessions import keep_sessions
from tests.registry.tools import count_on_air, locked, session
from tests.support.postgres import Postgres


@pytest.fixture
async def away(own_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """An open database at a server that the test may stop."""
    database = Database(own_url, tmp_path, timeout=0.4)
    await database.open(migrate)
    yield database
    await database.close()


async def test_one_database_of_a_server_is_for_one_daemon(own_url: str, tmp_path: Path) -> None:
    """A second one touches nothing until the first is gone; the same daemon, begun anew, is no second."""
    first = Database(own_url, tmp_path / "a", timeout=5)
    second = Database(own_url, tmp_path / "b", timeout=5)
    again = Database(own_url, tmp_path / "x" / ".." / "a", timeout=5)
    await first.open(migrate)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match='another daemon uses the database: "ingestd '):
            await second.open(migrate)
    assert not second.opened
    await again.open(migrate)
    await again.close()
    await first.close()
    with trio.fail_after(10):
        # The server takes a moment to see that they are gone.
        while not second.opened:
            with suppress(DatabaseUnavailable):
                await second.open(migrate)
    await second.close()


def sleep(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_sleep(60)"))
    else:
        many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        connection.execute(text(many))


async def test_what_is_written_is_read(database: Database) -> None:
    await database.run(keep_sessions, [session()])
    assert await database.read(count_on_air) == 1
    assert database.trouble is None


async def test_an_error_undoes_the_transaction(database: Database) -> None:
    """It goes through as it is, and nothing stays of what was done before it."""

    def fail(connection: Connection) -> None:
        keep_sessions(connection, [session()])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.run(fail)
    assert await database.read(count_on_air) == 0


async def test_a_mistake_of_ours_is_no_absence(database: Database) -> None:
    """Trying a wrong statement again would hide the defect."""
    with pytest.raises((OperationalError, ProgrammingError)):
        await database.run(lambda connection: connection.execute(text("SELECT * FROM nothing")))
    assert database.trouble is None


async def test_a_cancelled_call_is_whole(database: Database) -> None:
    """Once it has begun it is finished, and its result arrives, so that what follows from it can be done."""
    begun, go_on = threading.Event(), threading.Event()

    def work(connection: Connection) -> str:
        keep_sessions(connection, [session()])
        begun.set()
        assert go_on.wait(5)
        keep_sessions(connection, [session(2)])
        return "done"

    results = []

    async def call() -> None:
        results.append(await database.run(work))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.to_thread.run_sync(begun.wait)
        nursery.cancel_scope.cancel()
        go_on.set()
    assert results == ["done"]
    assert await database.read(count_on_air) == 2


async def test_a_call_that_was_cancelled_before_it_began_does_nothing(database: Database) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await database.run(keep_sessions, [session()])
    assert await database.read(count_on_air) == 0


async def test_a_call_that_takes_too_long_is_ended(database: Database) -> None:
    """And the next one goes on as if nothing had been."""
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="cannot be used now"):
        await database.run(sleep)
    assert time.monotonic() - began < 10
    await database.run(keep_sessions, [session()])


async def test_calls_do_not_queue_without_end(connect: Callable[[], Database]) -> None:
    """Eight wait for each connection there is; one more is told at once that the database is busy."""
    database = connect()
    await database.open(migrate)
    go_on, done, busy = threading.Event(), [], []

    async def call() -> None:
        try:
            done.append(await database.read(lambda _: go_on.wait(1)))
        except DatabaseUnavailable as error:
            busy.append(str(error))
            go_on.set()

    async with trio.open_nursery() as nursery:
        for _ in range(4 + 8 * 4 + 1):
            nursery.start_soon(call)
    assert busy == ["the database is busy: all its connections are in use"]
    assert len(done) == 36
    await database.close()


async def test_leaving_and_coming_back_are_logged_once(database: Database) -> None:
    told: list[str] = []
    database.when_trouble.append(lambda: told.append("away"))
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                await database.run(sleep)
        for _ in range(2):
            await database.read(count_on_air)
    assert [entry["event"] for entry in logs] == ["database_unavailable", "database_back"]
    assert logs[1]["seconds"] > 0
    assert told == ["away"]


# SQLite


async def test_a_locked_database_is_waited_for_and_can_be_read(tmp_path: Path) -> None:
    """Another process that writes delays a write for so long, and no reader."""
    database = Database("", tmp_path, timeout=0.3)
    await database.open(migrate)
    with locked(tmp_path / "ingestd.db"):
        assert await database.read(count_on_air) == 0
        with pytest.raises(DatabaseUnavailable, match="database is locked"):
            await database.run(keep_sessions, [session()])
        assert await database.read(count_on_air) == 0
    await database.run(keep_sessions, [session()])
    await database.close()


async def test_transactions_that_read_and_then_write_wait_for_each_other(tmp_path: Path) -> None:
    """None fails because another one wrote since it read."""
    database = Database("", tmp_path, timeout=5)
    await database.open(migrate)

    def add_one(connection: Connection) -> None:
        keep_sessions(connection, [session(count_on_air(connection))])

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(database.run, add_one)
    assert await database.read(count_on_air) == 20
    await database.close()


async def test_the_file_is_its_owner_s_and_in_wal_mode(tmp_path: Path) -> None:
    """Each connection holds foreign keys, and syncs what it commits."""
    database = Database("", tmp_path)

    def pragmas(connection: Connection) -> list[Any]:
        names = ("journal_mode", "foreign_keys", "synchronous")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

    await database.open(migrate)
    assert await database.read(pragmas) == ["wal", 1, 2]
    assert stat.S_IMODE((tmp_path / "ingestd.db").stat().st_mode) == 0o600
    await database.close()


async def test_a_file_elsewhere(tmp_path: Path) -> None:
    """Whatever its name has in it."""
    path = tmp_path / "a b?c#d%e.db"
    database = Database(f"sqlite:///{tmp_path}/a b%3Fc%23d%25e.db", tmp_path)
    await database.open(migrate)
    assert path.exists()
    await database.close()


async def test_a_file_that_went_away_is_not_made_again(tmp_path: Path) -> None:
    """An empty database in its place would look as if all streams were gone."""
    database = Database("", tmp_path)
    await database.open(migrate)
    await database.close()
    (tmp_path / "ingestd.db").unlink()
    with pytest.raises(DatabaseUnavailable, match="unable to open database file"):
        await database.read(count_on_air)
    assert not (tmp_path / "ingestd.db").exists()


async def test_what_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """Its path is told."""
    (tmp_path / "ingestd.db").write_text("hello" * 1000)
    for state in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatabaseUnavailable) as caught:
            await Database("", state).open(migrate)
        assert f"{state}/ingestd.db" in str(caught.value)


async def test_a_lock_at_the_start_is_no_obstacle(tmp_path: Path) -> None:
    """Where there is nothing to migrate, opening only reads."""
    first = Database("", tmp_path)
    await first.open(migrate)
    second = Database("", tmp_path, timeout=0.2)
    with locked(tmp_path / "ingestd.db"):
        assert await second.open(migrate, count_on_air) == 0
    assert second.opened
    await first.close()
    await second.close()


def test_wal_is_needed_of_sqlite() -> None:
    """RETURNING and upserts, too: any SQLite that Python 3.11 is built with here has them."""
    assert sqlite3.sqlite_version_info >= (3, 35)


# PostgreSQL


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    database = Database("postgresql://ingestd:hidden@127.0.0.1:1/x", tmp_path, timeout=0.3)
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.open(migrate)
    assert "refused" in str(caught.value)
    assert "hidden" not in str(caught.value)


async def test_a_server_that_was_killed_and_is_back(own_postgres: Postgres, away: Database) -> None:
    """Connections that it had are made anew, without a call that fails."""
    await away.run(keep_sessions, [session()])
    own_postgres.stop()
    with pytest.raises(DatabaseUnavailable):
        await away.read(count_on_air)
    own_postgres.start()
    assert await away.read(count_on_air) == 1
    own_postgres.stop()
    own_postgres.start()
    assert await away.read(count_on_air) == 1


async def test_a_server_that_is_killed_in_the_middle(own_postgres: Postgres, away: Database) -> None:
    """The call fails, and nothing of it is there."""

    def work(connection: Connection) -> None:
        keep_sessions(connection, [session()])
        own_postgres.stop()
        keep_sessions(connection, [session(2)])

    with pytest.raises(DatabaseUnavailable):
        await away.run(work)
    own_postgres.start()
    assert await away.read(count_on_air) == 0


async def test_a_frozen_server_is_not_waited_for(own_postgres: Postgres, away: Database) -> None:
    """It takes data and answers nothing, so that no timeout of its own helps; the call ends all the same."""
    await away.read(count_on_air)
    own_postgres.freeze()
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        await away.read(count_on_air)
    assert time.monotonic() - began < 15
    own_postgres.resume()
    with trio.fail_after(20):
        while True:
            try:
                assert await away.read(count_on_air) == 0
                break
            except DatabaseUnavailable:
                await trio.sleep(0.05)


async def test_a_lock_in_the_server_is_waited_for_so_long(away: Database) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        connection.execute(text("LOCK TABLE sessions"))
        held.set()
        go_on.wait(5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(away.run, hold)
        await trio.to_thread.run_sync(held.wait)
        with pytest.raises(DatabaseUnavailable, match="timeout"):
            await away.run(keep_sessions, [session()])
        go_on.set()


def test_a_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    config = DatabaseConfig(url="postgresql://u:hidden@127.0.0.1/x")
    with pytest.raises(DatabaseRefused, match=r"pip install 'ingestd\[postgresql\]'"):
        Database.of(config, tmp_path)
    assert "hidden" not in repr(config)
