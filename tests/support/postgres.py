"""A PostgreSQL server of the tests' own: on a socket in a directory, without fsync, gone with the block."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from tests.support.packages import postgresql
from tests.support.processes import alive, free_port

_numbers = itertools.count(1)


class Postgres:
    """A server in *directory*, at 127.0.0.1:*port*; `start` and `stop` may be called again and again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._emptied: list[str] = []
        # The server refuses to run as root.
        self._user = None if os.getuid() else _unprivileged()
        if self._user is not None:
            shutil.chown(directory, self._user)
        options = ["--auth=trust", "--username=ingestd", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run(
            [postgresql("initdb"), *options, f"--pgdata={self._data}"],
            check=True, capture_output=True, user=self._user, cwd=directory, timeout=60,
        )  # fmt: skip

    def start(self) -> None:
        """Returns when connections are taken; nothing happens where it runs already."""
        if self._process is not None:
            self.resume()
            return
        settings = (
            "fsync=off", "full_page_writes=off", "shared_buffers=16MB", "listen_addresses=127.0.0.1",
            f"port={self.port}", f"unix_socket_directories={self.directory}", "max_connections=60",
        )  # fmt: skip
        log = (self.directory / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [postgresql("postgres"), "-D", self._data, *(f"-c{setting}" for setting in settings)],
                stdout=log, stderr=log, user=self._user, cwd=self.directory,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while subprocess.run(
            [postgresql("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False, timeout=30
        ).returncode:
            text = (self.directory / "log").read_text()
            assert self._process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it: by SIGINT all connections are cut; by SIGQUIT without a farewell."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def freeze(self) -> None:
        """All its processes stand still: the kernel takes connections and data, and nobody answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `freeze`."""
        self._signal_all(signal.SIGCONT)

    def url(self, database: str = "postgres", scheme: str = "postgresql") -> str:
        """Of *database* at this server."""
        return f"{scheme}://ingestd@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """The URL of a database that is empty. After the block another test may have it."""
        url = self._emptied.pop() if self._emptied else self.new_database()
        yield url
        with psycopg.connect(url, autocommit=True) as connection:
            # A test that failed may have left connections, which hold locks.
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        self._emptied.append(url)

    def new_database(self) -> str:
        """The URL of a new, empty database. Costs 10 MB of the disk: see `empty_database`."""
        name = f"test_{next(_numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def _signal_all(self, number: int) -> None:
        if self._process is None or not alive(self._process.pid):
            return
        parent = self._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in (parent, *map(int, children)):
            with suppress(ProcessLookupError):  # a backend may just have ended
                os.kill(pid, number)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server that takes connections, in a directory that goes with it."""
    # Not pytest's own: that is closed to other users.
    with tempfile.TemporaryDirectory(prefix="ingestd-postgres-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        server = Postgres(directory)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)  # nobody wants its data any more


def _unprivileged() -> int:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise AssertionError("PostgreSQL does not run as root, and there is no user postgres or nobody")
