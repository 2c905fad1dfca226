"""Fixtures for all tests: which FFmpeg, and that no test leaves a process behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.packages import embedded_ffmpeg, program
from tests.support.postgres import Postgres, running_postgres
from tests.support.processes import nothing_left_behind
from tests.support.rtmps_server import RtmpServer

DATA = Path(__file__).parent / "data"


@pytest.fixture
def data() -> Path:
    """The folder with the trimmed captures."""
    return DATA


@pytest.fixture
def ffmpeg() -> str:
    """The system's FFmpeg."""
    return program("ffmpeg")


@pytest.fixture(params=["system", "embedded"])
def each_ffmpeg(request: pytest.FixtureRequest) -> str:
    """Runs the test twice: with the system's FFmpeg, and with the embedded one of the ``ffmpeg`` extra."""
    return program("ffmpeg") if request.param == "system" else embedded_ffmpeg()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL, one a worker: `Postgres.new_database` for a test of its own."""
    with running_postgres() as server:
        yield server


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
def rtmp_server() -> Iterator[RtmpServer]:
    """A running nginx-rtmp behind TLS, on ports of its own."""
    with RtmpServer() as server:
        yield server


@pytest.fixture
def no_processes_left() -> Iterator[None]:
    """Fails the test if a process that it started is still there, or was not reaped."""
    with nothing_left_behind():
        yield
