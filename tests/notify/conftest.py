"""A database with the newest schema: SQLite's, and PostgreSQL's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestd.registry.database import Database
from ingestd.registry.migrations import migrate


@pytest.fixture
async def database(tmp_path: Path, url: str) -> AsyncIterator[Database]:
    """With little patience."""
    database = Database(url, tmp_path, timeout=0.5 if url else 0.1)
    await database.open(migrate)
    yield database
    await database.close()
