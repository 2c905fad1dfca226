"""Rows for these tests, and processes that get in a database's way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine

from ingestd.registry.keys import digest
from ingestd.registry.model import Delivery, RecordingRow, SessionRow, Stream
from ingestd.registry.recordings import recording_id
from ingestd.registry.seal import Sealer
from ingestd.registry.streams import all_streams

SEALER = Sealer((b"k" * 32,))

_LOCK = """
import sqlite3, sys
raw = sqlite3.connect(sys.argv[1], isolation_level=None)
raw.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
raw.execute("ROLLBACK")
"""


def stream(name: str = "booth", **more: Any) -> Stream:
    values: dict[str, Any] = {
        "pipeline": "hls", "key_sha256": digest(f"key-of-{name}"), "created": 1.0, "updated": 1.0, **more,
    }  # fmt: skip
    return Stream(name=name, **values)


def session(number: int = 1, stream: str = "booth", **more: Any) -> SessionRow:
    values: dict[str, Any] = {
        "pipeline": "hls", "state": "live", "started": float(number), "updated": float(number), **more,
    }  # fmt: skip
    return SessionRow(id=f"s{number}", stream=stream, **values)


def recording(number: int = 1, stream: str = "booth", **more: Any) -> RecordingRow:
    file = f"{number}.mkv"
    values: dict[str, Any] = {
        "session": f"s{number}", "sink": "file", "size": number, "changed": float(number), "finished": True,
        **more,
    }  # fmt: skip
    return RecordingRow(id=recording_id(stream, file), stream=stream, file=file, **values)


def delivery(number: int = 1, endpoint: str = "app", **more: Any) -> Delivery:
    values: dict[str, Any] = {
        "event_id": f"e{number}", "type": "stream.live", "body": b'{"a": 1}', "created": float(number),
        "next_attempt": float(number), **more,
    }  # fmt: skip
    return Delivery(id=f"{endpoint}-{number}", endpoint=endpoint, **values)


def rows(url: str, state_dir: Path, query: str) -> list[Any]:
    """What *query* finds in the database at *url* (empty: SQLite in *state_dir*), past all that is ours."""
    where = url.replace("postgresql:", "postgresql+psycopg:") or f"sqlite:///{state_dir}/ingestd.db"
    engine = create_engine(where)
    with engine.connect() as connection:
        found = list(connection.exec_driver_sql(query))
    engine.dispose()
    return found


def count_on_air(connection: Connection) -> int:
    """How many sessions the database takes for being on air."""
    return connection.exec_driver_sql("SELECT count(*) FROM sessions WHERE ended IS NULL").scalar_one()


def count_pending(connection: Connection) -> int:
    """How many deliveries wait."""
    return connection.exec_driver_sql("SELECT count(*) FROM deliveries WHERE state = 'pending'").scalar_one()


def find_stream(connection: Connection, name: str, sealer: Sealer) -> Stream | None:
    """The stream *name*."""
    return next((each for each in all_streams(connection, sealer) if each.name == name), None)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the write lock of the SQLite database at *path*."""
    process = subprocess.Popen(
        [sys.executable, "-c", _LOCK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            assert process.stdout.readline() == b"locked\n"
            yield
        finally:
            process.stdin.close()
            process.wait(20)
