"""A database with the newest schema, in a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestd.registry.database import Database
from ingestd.registry.migrations import migrate


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """SQLite, with little patience."""
    database = Database("", tmp_path, timeout=0.1)
    await database.open(migrate)
    yield database
    await database.close()
