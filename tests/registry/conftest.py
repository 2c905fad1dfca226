"""Databases for these tests: SQLite in a file, PostgreSQL in a server that a worker starts once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from ingestd.registry.database import Database
from ingestd.registry.migrations import migrate
from tests.support.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test twice: with SQLite ("" is its URL), and with PostgreSQL."""
    if request.param == "sqlite":
        yield ""
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.empty_database() as url:
        yield url


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
