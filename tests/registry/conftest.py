"""Databases for these tests: SQLite in a file, PostgreSQL in a server that a worker starts once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from ingestd.registry.database import Database
from ingestd.registry.migrations import migrate
from tests.support.postgres import Postgres, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Runs the test twice: with SQLite ("" is its URL), and with PostgreSQL."""
    if request.param == "sqlite":
        return ""
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def connect(url: str, tmp_path: Path) -> Callable[[], Database]:
    """Makes another `Database` for the same database."""
    return lambda: Database(url, tmp_path, timeout=0.5)


@pytest.fixture
async def database(connect: Callable[[], Database]) -> AsyncIterator[Database]:
    """One that is open, with the newest schema."""
    database = connect()
    await database.open(migrate)
    yield database
    await database.close()
