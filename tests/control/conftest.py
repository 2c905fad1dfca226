"""One daemon a module, without a session at first, on SQLite and where that matters on PostgreSQL, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.daemon.tools import AT_ONCE, COPY, HLS, MKV, RAW
from tests.support.daemon import Daemon, daemon
from tests.support.postgres import Postgres

PIPELINE = COPY + AT_ONCE + RAW + MKV + HLS
#: Tests make more streams than people.
MANY = '[auth]\ncreates = "1000/1s"\ncreates_in_all = "1000/1s"\n'
PUSH = '[[sinks]]\ntype = "rtmp"\nname = "push"\nurl = "rtmps://live.example.org/app"\nper_stream = true\n'


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Runs the module twice: over each database."""
    directory = tmp_path_factory.mktemp("daemon")
    (directory / "secret").write_text("c2VjcmV0IGtleSBvZiBleGFjdGx5IDMyIGJ5dGVzISE=\n")
    database = MANY + '[database]\nsecret_key_file = "secret"\ntimeout = "400ms"\n'
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        database += f'url = "{server.new_database()}"\n'
    (directory / "pipelines").mkdir()
    (directory / "pipelines" / "push.toml").write_text(COPY + PUSH)
    with daemon(directory, PIPELINE, config=database, control='pipeline = "test"\n') as started:
        yield started
