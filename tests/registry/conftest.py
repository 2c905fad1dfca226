"""Databases for these tests: SQLite in a file, PostgreSQL in a server that a worker starts once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from ingestd.registry.database import Database
from ingestd.registry.migrations import migrate
from tests.support.postgres import Postgres, running_postgres


@pytest.fixture(scope="session")
def _second_postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def own_postgres(_second_postgres: Postgres) -> Iterator[Postgres]:
    """A server that the test may stop, freeze and start."""
    yield _second_postgres
    _second_postgres.start()


@pytest.fixture
def own_url(own_postgres: Postgres) -> Iterator[str]:
    """Of an empty database at that server."""
    with own_postgres.empty_database() as url:
        yield url
        own_postgres.start()


@pytest.fixture
def connect(url: str, tmp_path: Path) -> Callable[[], Database]:
    """Makes another `Database` for the same database."""
    return lambda: Database(url, tmp_path, timeout=0.5)


@pytest.fixture
def empty(url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """For another database of the same kind, in which there is nothing."""
    if not url:
        (tmp_path / "empty").mkdir()
        yield Database("", tmp_path / "empty", timeout=5.0)
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.empty_database() as other:
        yield Database(other, tmp_path, timeout=5.0)


@pytest.fixture
async def database(connect: Callable[[], Database]) -> AsyncIterator[Database]:
    """One that is open, with the newest schema."""
    database = connect()
    await database.open(migrate)
    yield database
    await database.close()
