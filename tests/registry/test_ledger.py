"""The ledger: nothing that streams tell is lost while the database is away, and nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import structlog
import trio
from attrs import evolve
from trio.testing import MockClock

from ingestd.registry.database import Database, DatabaseUnavailable
from ingestd.registry.ledger import Ledger
from ingestd.registry.migrations import migrate
from ingestd.registry.model import SessionRow
from ingestd.registry.recordings import list_recordings
from ingestd.registry.sessions import find_session, list_sessions
from ingestd.registry.unwritten import load_rows
from tests.registry.tools import locked, recording, session
from tests.support.postgres import Postgres


@asynccontextmanager
async def running(database: Database, tmp_path: Path) -> AsyncIterator[Ledger]:
    ledger = Ledger(database, tmp_path / "unwritten.jsonl")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ledger.run)
        yield ledger
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110  of the ledger and the database, which tell no test
            await trio.sleep(0.02)


async def rows(database: Database) -> dict[str, SessionRow]:
    return {row.id: row for row in (await database.read(partial(list_sessions, limit=1000))).items}


async def test_what_is_told_is_written(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path) as ledger:
        ledger.session(session(1))
        ledger.session(session(1, chunks=5, updated=2.0))
        ledger.recording(recording(1))
        ledger.recording(recording(2))
        await until(lambda: ledger.statistics().depth == 0)
        ledger.forget_recording("booth", "1.mkv")
        ledger.session(session(2))
        await until(lambda: ledger.statistics().depth == 0)
    assert await rows(database) == {"s1": session(1, chunks=5, updated=2.0), "s2": session(2)}
    assert (await database.read(list_recordings)).items == (recording(2),)
    statistics = ledger.statistics()
    assert (statistics.peak, statistics.dropped, statistics.last_error) == (3, 0, None)
    # One session told twice in a moment may be one row or two.
    assert statistics.written in (5, 6)


async def test_a_locked_database_delays_and_loses_nothing(tmp_path: Path) -> None:
    """Telling takes no time; what was told is written once the lock is gone, the newest of each."""
    database = Database("", tmp_path, timeout=0.1)
    await database.open(migrate)
    with structlog.testing.capture_logs() as logs:
        async with running(database, tmp_path) as ledger:
            with locked(tmp_path / "ingestd.db"):
                began = time.monotonic()
                for number in range(1000):
                    ledger.session(session(number % 10, updated=float(number)))
                assert time.monotonic() - began < 1
                await until(lambda: ledger.statistics().last_error is not None)
                assert ledger.statistics().depth == 10
            await until(lambda: ledger.statistics().depth == 0)
    assert {row.updated for row in (await rows(database)).values()} == set(map(float, range(990, 1000)))
    assert [entry["event"] for entry in logs] == ["database_unavailable", "database_back"]
    assert not (tmp_path / "unwritten.jsonl").exists()
    await database.close()


async def test_a_server_that_comes_back_gets_all(
    own_postgres: Postgres, own_url: str, tmp_path: Path
) -> None:
    """What was told before, while and after it was away."""
    database = Database(own_url, tmp_path, timeout=0.3)
    await database.open(migrate)
    async with running(database, tmp_path) as ledger:
        ledger.session(session(1))
        await until(lambda: ledger.statistics().written == 1)
        own_postgres.stop()
        ledger.session(session(2))
        await until(lambda: ledger.statistics().last_error is not None)
        ledger.session(session(3))
        await until(lambda: (tmp_path / "unwritten.jsonl").exists())
        own_postgres.start()
        await until(lambda: ledger.statistics().depth == 0)
    assert set(await rows(database)) == {"s1", "s2", "s3"}
    await database.close()


async def test_it_notices_that_the_database_is_back_with_nothing_to_write(
    own_postgres: Postgres, own_url: str, tmp_path: Path
) -> None:
    """Somebody else's call has failed; nobody has to call again."""
    database = Database(own_url, tmp_path, timeout=0.3)
    await database.open(migrate)
    async with running(database, tmp_path):
        own_postgres.stop()
        with pytest.raises(DatabaseUnavailable):
            await database.read(list_sessions)
        own_postgres.start()
        await until(lambda: database.trouble is None)
    await database.close()


class Away(Database):
    """As a database that is away, without the time that this takes."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__("", state_dir)
        self.calls: list[float] = []

    async def run(self, *_: object) -> None:  # type: ignore[override]
        self.calls.append(trio.current_time())
        self.trouble = "away"
        raise DatabaseUnavailable("away")


class InMemory(Ledger):
    """Without its file: a thread takes no virtual time."""

    async def save(self) -> None:
        pass


async def test_the_waits_grow(autojump_clock: MockClock, tmp_path: Path) -> None:
    """1, 2, 5, 10, 20 and then 30 seconds, and the little in which changes are gathered."""
    database = Away(tmp_path)
    ledger = InMemory(database, tmp_path)
    ledger.session(session())
    with trio.move_on_after(150):
        await ledger.run()
    waits = [round(after - before, 2) for before, after in pairwise(database.calls)]
    assert waits == [1.25, 2.25, 5.25, 10.25, 20.25, 30.25, 30.25, 30.25]


@pytest.mark.parametrize(("given", "dropped"), [(100, 0), (101, 1), (150, 50)])
async def test_it_holds_so_many_rows(tmp_path: Path, given: int, dropped: int) -> None:
    """The oldest goes first, and it is said once; a newer row of one that waits takes no room."""
    ledger = Ledger(Away(tmp_path), tmp_path / "x", max_pending=100)
    with structlog.testing.capture_logs() as logs:
        for number in range(given):
            ledger.session(session(number))
            ledger.session(session(number, updated=500.0))
    statistics = ledger.statistics()
    assert (statistics.depth, statistics.peak, statistics.dropped) == (100, 100, dropped)
    assert [entry["event"] for entry in logs] == ["ledger_full"] * (dropped > 0)


async def test_one_bad_row_holds_no_other_up(database: Database, tmp_path: Path) -> None:
    """It is given up and named; what it says is not in the log."""
    bad = session(2, cause="hidden \ud800")
    twin = evolve(recording(2), id="another")  # of the same file: the table has one row a file
    with structlog.testing.capture_logs() as logs:
        async with running(database, tmp_path) as ledger:
            for row in (session(1), bad, session(3)):
                ledger.session(row)
            for each in (recording(2), twin, recording(4)):
                ledger.recording(each)
            await until(lambda: ledger.statistics().depth == 0)
    assert set(await rows(database)) == {"s1", "s3"}
    assert set((await database.read(list_recordings)).items) == {recording(2), recording(4)}
    assert [(entry["event"], entry["id"]) for entry in logs] == [
        ("row_refused", "s2"),
        ("row_refused", "another"),
    ]
    assert "hidden" not in str(logs)
    assert (ledger.statistics().written, ledger.statistics().dropped) == (4, 2)


async def test_what_waits_outlives_the_daemon(tmp_path: Path) -> None:
    """The next one writes it; what that one knows better is not replaced."""
    first = Ledger(Away(tmp_path), tmp_path / "unwritten.jsonl")
    first.session(session(1))
    first.session(session(2))
    first.recording(recording(1))
    first.forget_recording("booth", "9.mkv")
    with pytest.raises(DatabaseUnavailable):
        await first.flush()
    await first.save()

    database = Database("", tmp_path)
    await database.open(migrate)
    second = Ledger(database, tmp_path / "unwritten.jsonl")
    second.session(session(2, state="ended", ended=9.0, updated=9.0))
    assert await second.restore() == 4
    await second.flush()
    assert await rows(database) == {
        "s1": session(1), "s2": session(2, state="ended", ended=9.0, updated=9.0),
    }  # fmt: skip
    assert not (tmp_path / "unwritten.jsonl").exists()
    await database.close()


async def test_a_torn_file_gives_what_it_has(tmp_path: Path) -> None:
    file = tmp_path / "unwritten.jsonl"
    ledger = Ledger(Away(tmp_path), file)
    for number in range(3):
        ledger.session(session(number))
    await ledger.save()
    assert file.stat().st_mode & 0o077 == 0
    file.write_bytes(file.read_bytes()[:-20] + b'\n\xff\n[1]\n{"x": 1}\n{"session": {"id": "a"}}\n')
    with structlog.testing.capture_logs() as logs:
        assert load_rows(file) == [session(0), session(1)]
    assert [(entry["event"], entry["cause"]) for entry in logs] == [
        ("ledger_not_restored", "5 lines are no rows")
    ]


async def test_a_disk_that_takes_nothing_does_not_end_the_ledger(tmp_path: Path) -> None:
    ledger = Ledger(Away(tmp_path), tmp_path / "nowhere" / "x")
    ledger.session(session())
    with structlog.testing.capture_logs() as logs:
        await ledger.save()
    assert [entry["event"] for entry in logs] == ["ledger_not_saved"]
    assert ledger.statistics().depth == 1


async def test_a_file_that_cannot_be_removed_is_no_reason_to_hurry(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It is tried again with the next rows, not again and again."""

    class Taking(Database):
        async def run(self, *_: object) -> None:  # type: ignore[override]
            self.trouble = None

    class Stuck(Ledger):
        async def save(self) -> None:
            tried.append(trio.current_time())

    tried: list[float] = []
    ledger = Stuck(Taking("", tmp_path), tmp_path / "x")
    ledger._saved = True
    ledger.session(session())
    with trio.move_on_after(1000):
        await ledger.run()
    assert (len(tried), ledger.statistics().written) == (1, 1)


async def test_two_that_save_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    """The end saves while the ledger's own task may be at it: the newest rows are there, each once."""
    ledger = Ledger(Away(tmp_path), tmp_path / "x")
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            for number in range(200):
                ledger.session(session(number, cause="x" * (200 - number)))
                if number % 10 == 0:
                    nursery.start_soon(ledger.save)
                    await trio.lowlevel.checkpoint()
        await ledger.save()
    assert logs == []
    assert [row.id for row in load_rows(tmp_path / "x") if isinstance(row, SessionRow)] == [
        f"s{number}" for number in range(200)
    ]


async def test_cancelling_in_the_middle_loses_nothing(database: Database, tmp_path: Path) -> None:
    for steps in range(12):
        ledger = Ledger(database, tmp_path / "x")
        ledger.session(session(steps))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ledger.flush)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        written = await database.read(find_session, "booth", f"s{steps}") is not None
        assert ledger.statistics().depth == (0 if written else 1)
