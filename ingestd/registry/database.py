"""The database: SQLite by default, PostgreSQL by URL, through SQLAlchemy Core in threads.

SQLite is in WAL mode, so that reading goes on while somebody writes, and with ``synchronous = FULL``: what
was answered survives a power cut, too, at one fsync a write, and writes are few.
"""

from __future__ import annotations

import hashlib
import math
import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, Unpack
from urllib.parse import quote

import sqlalchemy
import structlog
import trio
from sqlalchemy import Connection, Engine, event, exc, pool

from ingestd.config import DatabaseConfig
from ingestd.database_url import sqlite_path
from ingestd.errors import IngestdError
from ingestd.registry.guard import Guard

log = structlog.get_logger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: A call may wait for a connection, for a lock and for its statements, each as long as `timeout` says.
_WAITS = 3
_MIGRATING = 600.0
#: Calls that may wait for a connection, for each connection there is; none while the database is away.
_QUEUE = 8
#: Seconds between two attempts at what SQLite does not wait for.
_AGAIN = 0.05
_WAL_LIMIT = 64 * 2**20
#: After so many seconds PostgreSQL gives up the connections of a host that is gone.
_GONE = 60


class DatabaseUnavailable(IngestdError):
    """The database is locked, slow, full or away: try again later.

    Nothing of the call is stored, unless the connection broke just as it was being committed.
    """


class DatabaseRefused(IngestdError):
    """The database cannot be used by this daemon: the operator has to change something first."""


class NotStorable(IngestdError):
    """A value is one that the database cannot hold, like text with a zero byte: do not try again."""


class Database:
    """The database at *url* (empty: SQLite in *state_dir*), at most *pool* calls at once.

    Nothing is opened before the first call. Waits inside a call are bounded by *timeout* seconds each.
    PostgreSQL is not opened while a daemon of another host or *state_dir* uses it.
    """

    def __init__(self, url: str, state_dir: Path, *, pool: int = 4, timeout: float = 5.0) -> None:
        self.path = sqlite_path(url, state_dir)
        #: Whether the schema is the daemon's: until then calls are refused as if it were away.
        self.opened = False
        #: Why the last call failed; None while it answers.
        self.trouble: str | None = "it was not opened yet"
        #: Called when the database goes away; must not block.
        self.when_trouble: list[Callable[[], None]] = []
        self._timeout = timeout
        self._guard = Guard()
        self._away_since: float | None = None
        self._limiter = trio.CapacityLimiter(pool)
        self._places = trio.Semaphore(pool)
        self._engine = (
            _sqlite(self.path, pool, timeout) if self.path else _postgresql(url, state_dir, pool, timeout)
        )
        event.listen(self._engine, "connect", lambda raw, _record: self._guard.attach(raw))
        event.listen(self._engine, "checkout", self._checked_out)

    @classmethod
    def of(cls, config: DatabaseConfig, state_dir: Path) -> Database:
        """As ``[database]`` has it. Raises `DatabaseRefused` where the driver is missing."""
        return cls(config.url, state_dir, pool=config.pool, timeout=config.timeout)

    @property
    def is_sqlite(self) -> bool:
        return self.path is not None

    async def run(self, function: Callable[[Connection, Unpack[Ts]], T], *args: *Ts) -> T:
        """*function* with a connection and *args*, in a thread and in one transaction for writing.

        It is committed when *function* returns, and undone when it raises, which goes through. Cancelling
        has an effect only until it begins: then it is finished, its result is returned, and what follows
        up to the next checkpoint happens, too. Raises `DatabaseUnavailable` and `NotStorable`.
        """
        return await self._call(function, args, reading=False)

    async def read(self, function: Callable[[Connection, Unpack[Ts]], T], *args: *Ts) -> T:
        """As `run`, for reading: it needs no lock, so that it works while another process writes."""
        return await self._call(function, args, reading=True)

    async def open(
        self, prepare: Callable[[Connection], T], ready: Callable[[Connection], T | None] | None = None
    ) -> T:
        """Make the file where it is SQLite's and not there, and run *prepare*, which migrates.

        *ready* comes first: where it finds the schema right, its result is the result, no lock is needed
        and no patience. From then on the database is *opened*, and no other task has run since. Raises as
        `run` does, and what *prepare* and *ready* raise.
        """
        if self.path is not None:
            try:
                await trio.to_thread.run_sync(_make, self.path, self._timeout)
            except DatabaseUnavailable as error:
                self._note(str(error))
                raise
        bound = self._timeout * _WAITS
        if self.path is None:
            try:
                await self._call(_alone, (), reading=True, opening=bound)
            except DatabaseUnavailable:
                await self.close()  # or two that begin at once would wait for each other
                raise
        result = await self._call(ready or _nothing, (), reading=True, opening=bound)
        if result is None:
            result = await self._call(prepare, (), reading=False, opening=_MIGRATING)
        self.opened = True
        return result

    async def close(self) -> None:
        """Give all connections back."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._engine.dispose)

    async def _call(
        self, function: Callable[..., T], args: tuple[Any, ...], *, reading: bool, opening: float = 0.0
    ) -> T:
        if not (self.opened or opening):  # of `open`: how long it may take
            raise DatabaseUnavailable(f"the database cannot be used yet: {self.trouble}")
        # No clock bounds the wait, but the queue and the bound of each call that is under way.
        queue = 0 if self.trouble else _QUEUE * self._limiter.total_tokens
        if not self._places.value and self._places.statistics().tasks_waiting >= queue:
            raise DatabaseUnavailable("the database is busy: all its connections are in use")
        await self._places.acquire()
        limit = opening or self._timeout * _WAITS
        try:
            result = await trio.to_thread.run_sync(
                self._transaction, function, args, reading, limit, limiter=self._limiter
            )
        except DatabaseUnavailable as error:
            self._note(str(error))
            raise
        finally:
            self._places.release()
        self._note(None)
        return result

    def _transaction(
        self, function: Callable[..., T], args: tuple[Any, ...], reading: bool, limit: float
    ) -> T:
        try:
            with self._guard.bound(limit), self._connection() as connection:
                connection.execution_options(ingestd_reading=reading)
                with connection.begin():
                    return function(connection, *args)
        except (exc.DataError, UnicodeEncodeError, OverflowError) as error:
            raise NotStorable(f"a value cannot be stored: {_words(error)}") from error
        except (exc.DBAPIError, exc.TimeoutError) as error:
            if not _is_trouble(error):
                raise
            raise DatabaseUnavailable(f"the database cannot be used now: {_words(error)}") from error

    def _connection(self) -> Connection:
        try:
            return self._engine.connect()
        except exc.InvalidRequestError as error:  # after the second that was broken
            raise DatabaseUnavailable("the database cannot be used now: connections break") from error

    def _checked_out(self, raw: Any, _record: Any, _proxy: Any) -> None:
        """Before a call uses *raw*: a connection that the server has dropped meanwhile is made anew."""
        self._guard.attach(raw)
        if self.path is None:
            try:
                raw.execute("SELECT 1")
            except Exception as error:
                raise exc.DisconnectionError(str(error)) from error

    def _note(self, trouble: str | None) -> None:
        self.trouble = trouble
        if trouble is not None and self._away_since is None:
            self._away_since = time.monotonic()
            log.warning("database_unavailable", cause=trouble)
            for tell in self.when_trouble:
                tell()
        elif trouble is None and self._away_since is not None:
            seconds = round(time.monotonic() - self._away_since, 1)
            self._away_since = None
            log.info("database_back", seconds=seconds)


def _nothing(_connection: Connection) -> None:
    pass


def _sqlite(path: Path, size: int, timeout: float) -> Engine:
    def connect() -> sqlite3.Connection:
        # mode=rw: a file that went away is not made again, empty. No implicit transactions: see _begin.
        raw = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        raw.execute("PRAGMA foreign_keys = ON")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        return raw

    engine = sqlalchemy.create_engine(
        "sqlite://",
        creator=connect,
        poolclass=pool.QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=timeout,
        hide_parameters=True,
    )
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    """A transaction that will write says so at once: one that found out later could not wait for its turn."""
    reading = connection.get_execution_options().get("ingestd_reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _make(path: Path, timeout: float) -> None:
    try:
        path.touch(mode=0o600)
        raw = sqlite3.connect(path, timeout=timeout)
        try:
            _into_wal(raw, time.monotonic() + timeout)
        finally:
            raw.close()
    except (OSError, sqlite3.Error) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise DatabaseUnavailable(f"the database cannot be opened: {path}: {words}") from error


def _into_wal(raw: sqlite3.Connection, until: float) -> None:
    """For this alone SQLite does not wait by itself while another connection is there."""
    while True:
        try:
            raw.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(_AGAIN)
        else:
            return


def _postgresql(url: str, state_dir: Path, size: int, timeout: float) -> Engine:
    wait = math.ceil(timeout * 1000)
    daemon = hashlib.sha256(f"{socket.gethostname()}:{state_dir.resolve()}".encode()).hexdigest()
    try:
        return sqlalchemy.create_engine(
            sqlalchemy.make_url(url).set(drivername="postgresql+psycopg"),
            connect_args={
                "application_name": f"ingestd {daemon[:16]}",
                "connect_timeout": math.ceil(timeout),
                "prepare_threshold": None,  # a pooler in between may not keep statements
                "options": f"-c statement_timeout={wait} -c lock_timeout={wait} "
                f"-c idle_in_transaction_session_timeout={wait * _WAITS} "
                f"-c tcp_keepalives_idle={_GONE // 2} -c tcp_keepalives_interval={_GONE // 6} "
                f"-c tcp_keepalives_count=3 -c tcp_user_timeout={_GONE * 1000}",
            },
            pool_size=size,
            max_overflow=0,
            pool_timeout=timeout,
            hide_parameters=True,
        )
    except ImportError:
        raise DatabaseRefused(
            "database.url names PostgreSQL, whose driver is missing: pip install 'ingestd[postgresql]'"
        ) from None


def _alone(connection: Connection) -> None:
    """A second daemon would end the first one's sessions, and forget its recordings."""
    other = connection.execute(
        sqlalchemy.text(
            "SELECT application_name, host(client_addr) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'ingestd %'"
            " AND application_name <> current_setting('application_name') LIMIT 1"
        )
    ).first()
    if other is not None:
        name, address = other
        where = f" from {address}" if address else ""
        raise DatabaseUnavailable(
            f'another daemon uses the database: "{name}"{where}. '
            "One database is for one daemon: stop that one, or set another database.url"
        )


def _is_trouble(error: exc.DBAPIError | exc.TimeoutError) -> bool:
    """Whether the world did it, and not a statement of ours."""
    if isinstance(error, exc.TimeoutError) or error.connection_invalidated:
        return True
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code != sqlite3.SQLITE_ERROR and not isinstance(error, exc.IntegrityError)
    return isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError)


def _words(error: Exception) -> str:
    """The driver's own words on one line; values, which may be secrets, are not in them."""
    original = getattr(error, "orig", None)
    if isinstance(error, UnicodeEncodeError):
        return "text that is no Unicode"
    if isinstance(error, exc.DataError):
        return type(original).__name__
    return " ".join(str(original or error).split())
