"""Backup and restore of an SQLite database: whole, checked, and never half. All of it blocks."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import sqlalchemy

from ingestd.errors import IngestdError
from ingestd.registry.database import DatabaseRefused
from ingestd.registry.migrations import check_known, current


class BackupFailed(IngestdError):
    """The backup could not be made or taken back; what was there before is there still."""


def back_up(database: Path, target: Path) -> None:
    """Copy *database* as it is at one moment to *target*, also while a daemon writes to it.

    The copy is checked, on the disk and readable by its owner only before it gets its name.
    Raises `BackupFailed`.
    """
    if not database.is_file():
        raise BackupFailed(f"there is no database {database}; the daemon makes it when it is first started")
    with _fresh(target) as fresh, _open(database) as source, closing(sqlite3.connect(fresh)) as copy:
        # One step: the daemon may write meanwhile, and would otherwise make it begin again and again.
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a -wal beside it
        _check(copy, target)


def restore(source: Path, database: Path) -> Path | None:
    """Put *source* in the place of *database*, which no daemon may be using.

    Returns where the one that was there is now. Raises `BackupFailed`, and `DatabaseRefused` for the
    backup of a newer daemon.
    """
    if not source.is_file():
        raise BackupFailed(f"there is no file {source}")
    with _fresh(database) as fresh:
        with _open(source) as backup, closing(sqlite3.connect(fresh)) as copy:
            backup.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            _check(copy, source)
        _check_schema(fresh, source)
        return _set_aside(database)


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        # Not read-only: what a dead daemon left in the -wal belongs to it.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=10)) as raw:
            yield raw
    except sqlite3.Error as error:
        raise BackupFailed(f"{path} cannot be copied: {error}") from error


@contextmanager
def _fresh(target: Path) -> Iterator[Path]:
    """A file beside *target* that takes its place at the end of the block, unless that raises."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)  # of one that was killed, and had our number
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        try:
            yield fresh
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            fresh.replace(target)
            directory = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise BackupFailed(f"{target} cannot be written: {error.strerror}") from error


def _check(copy: sqlite3.Connection, path: Path) -> None:
    (found,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise BackupFailed(f"{path} is damaged: {found}")


def _check_schema(path: Path, shown: Path) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=str(path)))
    try:
        with engine.connect() as connection:
            revision = current(connection)
        if revision is None:
            raise BackupFailed(f"{shown} is no database of ingestd")
        check_known(revision)
    except DatabaseRefused as error:
        raise DatabaseRefused(f"{shown}: {error}") from None
    finally:
        engine.dispose()


def _set_aside(database: Path) -> Path | None:
    """Rename *database*, with all that was committed in it, to the next free name."""
    kept = None
    if database.exists():
        with suppress(BackupFailed), _open(database) as raw:  # a damaged one is kept as it is
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        names = (database.with_name(f"{database.name}.before-restore-{n}") for n in itertools.count(1))
        kept = next(name for name in names if not name.exists())
        os.close(os.open(kept, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        shutil.copyfile(database, kept)
        with kept.open("rb") as file:
            os.fsync(file.fileno())
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    return kept
