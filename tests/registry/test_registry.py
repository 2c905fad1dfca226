"""The registry as the daemon has it: opened, filled, made to agree with what there is, and closed."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from attrs import evolve

from ingestd.config import Config, DatabaseConfig, Storage, StreamConfig
from ingestd.registry.database import DatabaseRefused, DatabaseUnavailable
from ingestd.registry.directory import StreamTaken
from ingestd.registry.keys import digest
from ingestd.registry.metrics import RegistryCollector
from ingestd.registry.model import Target
from ingestd.registry.recordings import keep_recordings, list_recordings
from ingestd.registry.registry import Registry
from ingestd.registry.seal import SealError
from ingestd.registry.sessions import LOST, find_session, keep_sessions
from ingestd.registry.streams import NoStream, StreamChanged
from tests.registry.test_ledger import until
from tests.registry.tools import locked, recording, session, stream


@pytest.fixture
def config(tmp_path: Path, url: str) -> Config:
    """With one declared stream, and a key that seals."""
    keys = tmp_path / "keys"
    keys.write_bytes(base64.b64encode(b"k" * 32))
    return Config(
        path=tmp_path / "ingestd.toml",
        storage=Storage(state_dir=tmp_path),
        database=DatabaseConfig(url=url, timeout=0.4, secret_key_file=str(keys)),
        streams={"stage": StreamConfig(name="stage", pipeline="hls", key_sha256=digest("key-of-stage"))},
    )


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Registry]:
    registry = Registry.of(config)
    assert await registry.open()
    yield registry
    await registry.close(5)


async def open_once(config: Config) -> None:
    registry = Registry.of(config)
    try:
        await registry.open()
    finally:
        await registry.close(0)


async def test_streams_are_there_after_a_restart(config: Config) -> None:
    """Those made, those changed, what was changed of a declared one; not those dropped."""
    kept = stream("kept", targets=(Target(sink="mux", key="k"),))
    async with opened(config) as registry:
        for each in (kept, stream("gone"), stream("changed")):
            await registry.add(each)
            assert registry.directory.get(each.name) == each
        changed = stream("changed", enabled=False, key_sha256=digest("other"), updated=2.0)
        await registry.change(changed, 1.0)
        assert await registry.drop("gone")
        assert not await registry.drop("gone")
        stage = registry.directory.get("stage")
        assert stage is not None
        await registry.change(evolve(stage, enabled=False))
    async with opened(config) as registry:
        assert registry.directory.names == ["changed", "kept", "stage"]
        assert registry.directory.find("other") == changed
        assert registry.directory.find("key-of-changed") is None
        assert registry.directory.get("kept") == kept
        assert registry.directory.get("stage") == evolve(stage, enabled=False)


async def test_what_is_refused_changes_nothing(config: Config) -> None:
    async with opened(config) as registry:
        await registry.add(stream("one"))
        for taken in (stream("one"), stream("stage"), evolve(stream("one"), name="two")):
            with pytest.raises(StreamTaken):
                await registry.add(taken)
        with pytest.raises(StreamChanged):
            await registry.change(stream("one", enabled=False), 7.0)
        with pytest.raises(NoStream):
            await registry.change(stream("two"))
        assert registry.directory.names == ["one", "stage"]
        assert registry.directory.get("one") == stream("one")


async def test_a_stream_that_the_file_declares_meanwhile_hides_the_other(config: Config) -> None:
    """It is said; with another name in the file the registered one is back."""
    async with opened(config) as registry:
        await registry.add(stream("hall"))
    hall = StreamConfig(name="hall", pipeline="other", key_sha256=digest("x"))
    with structlog.testing.capture_logs() as logs:
        async with opened(evolve(config, streams={"hall": hall})) as registry:
            found = registry.directory.get("hall")
            assert found is not None
            assert found.declared
    assert [(entry["event"], entry["stream"]) for entry in logs] == [("stream_hidden", "hall")]
    async with opened(config) as registry:
        assert registry.directory.get("hall") == stream("hall")


async def test_after_a_kill_no_session_stays_on_air(config: Config, tmp_path: Path) -> None:
    """Those that were taken up do; the recordings are those on the disk."""
    async with opened(config) as registry:
        await registry.database.run(keep_sessions, [session(1), session(2)])
        await registry.database.run(keep_recordings, [recording(1), recording(2)])
    async with opened(config) as registry, trio.open_nursery() as nursery:
        live = {("booth", "s2"), ("booth", "s3")}
        nursery.start_soon(registry.run, lambda: live, lambda: [recording(2), recording(3)])
        registry.ledger.session(session(3))
        with structlog.testing.capture_logs() as logs:
            await until(lambda: any(entry["event"] == "registry_ready" for entry in logs))
        one = await registry.database.read(find_session, "booth", "s1")
        assert one is not None
        assert (one.state, one.ended, one.cause) == ("failed", 1.0, LOST)
        assert await registry.database.read(find_session, "booth", "s2") == session(2)
        there = (await registry.database.read(list_recordings)).items
        assert there == (recording(3), recording(2))
        nursery.cancel_scope.cancel()


async def test_any_number_of_recordings_is_made_to_agree(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In calls that each take their time only; what is as it was is not written anew."""
    monkeypatch.setattr("ingestd.registry.registry._BATCH", 7)
    async with opened(config) as registry:
        await registry.database.run(keep_recordings, [recording(n) for n in range(50)])
        found = [recording(n, session=None) for n in range(20, 70)]
        sizes: list[int] = []
        run = registry.database.run

        async def counted(function: Callable[..., Any], *args: Any) -> Any:
            sizes.append(len(args[0]))
            return await run(function, *args)

        with monkeypatch.context() as patch:
            patch.setattr(registry.database, "run", counted)
            assert await registry._reconciled(list, lambda: found)
        assert sizes == [7, 7, 6, 7, 7, 6, 0]
        there = (await registry.database.read(lambda connection: list_recordings(connection, limit=99))).items
        owned = {row.id: row.session for row in there}
        assert owned == {row.id: f"s{row.size}" if row.size < 50 else None for row in found}


async def test_a_stop_writes_what_waits(config: Config) -> None:
    async with opened(config) as registry:
        registry.ledger.session(session(1))
    async with opened(config) as registry:
        assert await registry.database.read(find_session, "booth", "s1") == session(1)


@pytest.mark.parametrize("url", [""])
async def test_a_stop_without_the_database_saves_what_waits(config: Config, tmp_path: Path) -> None:
    """Also when the stop is cancelled. The next daemon writes it."""
    registry = Registry.of(config)
    registry.ledger.session(session(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await registry.close(1)
    async with opened(config) as registry, trio.open_nursery() as nursery:
        nursery.start_soon(registry.run, set, list)
        await until(lambda: registry.ledger.statistics().written == 1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("url", ["postgresql://ingestd@127.0.0.1:1/x"])
async def test_a_daemon_starts_without_its_database(config: Config) -> None:
    """Declared streams may be published; nothing can be stored, and unknown keys may be known later."""
    registry = Registry.of(config)
    assert not await registry.open()
    assert registry.directory.find("key-of-stage") is not None
    assert not registry.directory.loaded
    with pytest.raises(DatabaseUnavailable, match="cannot be used yet"):
        await registry.add(stream())
    assert registry.directory.names == ["stage"]
    registry.ledger.session(session())
    await registry.close(1)


@pytest.mark.parametrize("url", [""])
async def test_a_daemon_that_started_without_its_database_takes_it_up(config: Config, tmp_path: Path) -> None:
    async with opened(config) as registry:
        await registry.add(stream())
    (tmp_path / "ingestd.db").rename(tmp_path / "elsewhere.db")
    (tmp_path / "ingestd.db").mkdir()
    registry = Registry.of(config)
    assert not await registry.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.run, set, list)
        (tmp_path / "ingestd.db").rmdir()
        (tmp_path / "elsewhere.db").rename(tmp_path / "ingestd.db")
        await until(lambda: registry.directory.loaded)
        assert registry.directory.get("booth") == stream()
        nursery.cancel_scope.cancel()
    await registry.close(1)


@pytest.mark.parametrize("url", [""])
async def test_a_lock_does_not_keep_a_daemon_from_starting(config: Config, tmp_path: Path) -> None:
    async with opened(config) as registry:
        await registry.add(stream())
    with locked(tmp_path / "ingestd.db"):
        async with opened(config) as registry:
            assert registry.directory.get("booth") == stream()


async def test_targets_that_cannot_be_opened_are_told_at_the_start(config: Config, tmp_path: Path) -> None:
    """Not when somebody publishes. A key in place of the old one is made known as the mistake that it is."""
    async with opened(config) as registry:
        await registry.add(stream(targets=(Target(sink="mux", key="k"),)))
    (tmp_path / "keys").write_bytes(base64.b64encode(b"n" * 32))
    with pytest.raises(SealError, match="bring it back"):
        await open_once(config)
    without = evolve(config, database=evolve(config.database, secret_key_file=""))
    with pytest.raises(SealError, match="names no key"):
        await open_once(without)
    (tmp_path / "keys").write_bytes(b"\n".join(base64.b64encode(key * 32) for key in (b"n", b"k")))
    async with opened(config) as registry, trio.open_nursery() as nursery:
        with structlog.testing.capture_logs() as logs:
            nursery.start_soon(registry.run, set, list)
            await until(lambda: any(each["event"] == "registry_ready" for each in logs))
        nursery.cancel_scope.cancel()
    (tmp_path / "keys").write_bytes(base64.b64encode(b"n" * 32))
    async with opened(config) as registry:
        assert registry.directory.get("booth") == stream(targets=(Target(sink="mux", key="k"),))


async def test_a_newer_schema_keeps_the_daemon_from_starting(config: Config) -> None:
    async with opened(config) as registry:
        await registry.database.run(
            lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9'")
        )
    with pytest.raises(DatabaseRefused, match="of a newer ingestd"):
        await open_once(config)


async def test_old_sessions_are_forgotten(config: Config) -> None:
    """Those that ended longer ago than ``keep_sessions``; one on air never, and none where it is 0."""
    now = time.time()
    rows = [
        session(1, ended=now - 7200.0, started=0.0),
        session(2, ended=now - 60.0, started=0.0),
        session(3, ended=None, started=0.0),
    ]
    async with opened(config) as registry:
        await registry.database.run(keep_sessions, rows)

        async def left() -> set[str]:
            return {row.id for row in rows if await registry.database.read(find_session, row.stream, row.id)}

        registry.keep_sessions = 0.0
        await registry.forget(0.01)
        assert await left() == {"s1", "s2", "s3"}
        registry.keep_sessions = 3600.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(registry.forget, 0.01)
            with trio.fail_after(5):
                while await left() != {"s2", "s3"}:
                    pass
            nursery.cancel_scope.cancel()
        assert await left() == {"s2", "s3"}


async def test_what_prometheus_is_told(config: Config) -> None:
    """Whether the database answers, what waits for it, and what was given up."""

    def told(registry: Registry) -> dict[str, float]:
        families = RegistryCollector(registry).collect()
        return {sample.name: sample.value for family in families for sample in family.samples}

    async with opened(config) as registry:
        registry.ledger.session(session(1))
        assert told(registry) == {
            "ingestd_database_up": 1, "ingestd_registered_streams": 1, "ingestd_ledger_pending_rows": 1,
            "ingestd_ledger_written_rows_total": 0, "ingestd_ledger_dropped_rows_total": 0,
        }  # fmt: skip
        await registry.ledger.flush()
        assert told(registry)["ingestd_ledger_written_rows_total"] == 1
    unopened = Registry.of(config)
    assert told(unopened)["ingestd_database_up"] == 0
    await unopened.close(0)
