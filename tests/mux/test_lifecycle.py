"""A stream's life at Mux, against the fake: nothing is left behind there."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from structlog.testing import capture_logs

from ingestd.config import SupervisorConfig
from ingestd.mux.client import MuxClient
from ingestd.mux.errors import MuxRefused, MuxUnavailable, MuxUnclear
from ingestd.mux.lifecycle import Lifecycle, Made, OptionsRefused
from ingestd.registry.database import DatabaseUnavailable
from ingestd.registry.leftovers import TooManyLeft
from ingestd.registry.model import MuxLink, Playback, Target
from tests.mux.tools import OPTIONS, QUICK, mux_config, opened
from tests.registry.tools import locked
from tests.support.fake_mux import FakeMux, fake_mux

#: By then each is due.
SOON = math.inf
CREATE = "POST /video/v1/live-streams"


@asynccontextmanager
async def lifecycle(
    directory: Path, now: Callable[[], float] = time.time, **changes: Any
) -> AsyncIterator[tuple[FakeMux, Lifecycle]]:
    async with fake_mux() as fake:
        config = mux_config(directory, fake.api, **{"timeout": 0.3, "max_retries": 1, **changes})
        async with MuxClient(config, jitter=lambda: 0) as client, opened(directory) as database:
            yield fake, Lifecycle(config, QUICK, client, database, now=now)


async def stored(life: Lifecycle, made: Made) -> None:
    """As the registry does, in the transaction that stores the stream."""
    await life._database.run(made.kept)


async def left(life: Lifecycle) -> int:
    return len(await life.leftovers())


async def test_what_is_made_is_what_the_registry_keeps(tmp_path: Path) -> None:
    """The key is in no ``repr``, and a log line has none."""
    async with lifecycle(tmp_path, latency_mode="reduced") as (fake, life):
        with capture_logs() as logs:
            async with life.creating("cam", "mux", 1.0) as made:
                await stored(life, made)
        assert made.link == MuxLink(stream_id="live-1", latency_mode="reduced", reconnect_window=120.0)
        assert made.target == Target(sink="mux", key="fake-key-1")
        url = "https://stream.mux.com/playback2.m3u8"
        assert made.playback == (Playback(id="playback2", provider="mux", policy="public", url=url),)
        assert fake.streams["live-1"]["passthrough"].startswith("ingestd:cam:")
        assert "fake-key" not in f"{made!r}{logs}"
        assert {
            "event": "mux_stream_created",
            "stream": "cam",
            "stream_id": "live-1",
            "log_level": "info",
        } in logs


async def test_the_options_of_the_caller_stand(tmp_path: Path) -> None:
    async with lifecycle(tmp_path) as (fake, life):
        options = attrs.evolve(OPTIONS, playback_policy="signed")
        async with life.creating("cam", "mux", 1.0, options) as made:
            await stored(life, made)
        assert made.playback[0].policy == "signed"
        assert fake.streams["live-1"]["latency_mode"] == "low"


async def test_a_window_shorter_than_our_worst_recovery_is_refused(tmp_path: Path) -> None:
    """Before Mux is asked for anything."""
    async with (
        fake_mux() as fake,
        MuxClient(mux_config(tmp_path, fake.api)) as client,
        opened(tmp_path) as database,
    ):
        life = Lifecycle(mux_config(tmp_path, fake.api), SupervisorConfig(), client, database)
        with pytest.raises(
            OptionsRefused, match=r"reconnect_window: 95s is shorter .* 96s.*retry_failed_every"
        ):
            async with life.creating("cam", "mux", 10.0, attrs.evolve(OPTIONS, reconnect_window=95.0)):
                pass
        assert fake.requests == []


@pytest.mark.parametrize("failure", [RuntimeError("the database is away"), KeyboardInterrupt()])
async def test_what_was_not_written_down_is_deleted_again(failure: BaseException, tmp_path: Path) -> None:
    async with lifecycle(tmp_path) as (fake, life):
        with pytest.raises(type(failure)):
            async with life.creating("cam", "mux", 1.0):
                raise failure
        assert fake.streams == {}
        assert await left(life) == 0


async def test_also_when_the_request_was_cancelled(tmp_path: Path) -> None:
    """The application hung up while we wrote it down."""
    async with lifecycle(tmp_path) as (fake, life):
        with trio.move_on_after(0.2) as scope:
            async with life.creating("cam", "mux", 1.0):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert fake.streams == {}


async def test_what_could_not_be_deleted_is_remembered_and_tried_again(tmp_path: Path) -> None:
    async with lifecycle(tmp_path) as (fake, life):
        fake.fault("DELETE .*", times=4)
        with capture_logs() as logs, pytest.raises(RuntimeError):
            async with life.creating("cam", "mux", 1.0):
                raise RuntimeError
        (said,) = [entry for entry in logs if entry["event"] == "mux_left_behind"]
        assert said.items() >= {"stream": "cam", "stream_id": "live-1", "log_level": "warning"}.items()
        await life.sweep(SOON)
        assert (await left(life), len(fake.streams)) == (1, 1)
        await life.sweep(SOON)
        assert (await left(life), fake.streams) == (0, {})


async def test_a_create_in_doubt_is_looked_for_later(tmp_path: Path) -> None:
    """All that is known of it is what it was made with."""
    async with lifecycle(tmp_path) as (fake, life):
        fake.fault(CREATE, "hang_up_after")
        fake.fault("GET .*", times=2)
        with pytest.raises(MuxUnclear):
            async with life.creating("cam", "mux", 1.0):
                pass
        assert (await left(life), len(fake.streams)) == (1, 1)
        await life.sweep(SOON)
        assert (await left(life), fake.streams) == (0, {})


async def test_a_create_that_was_cancelled_in_the_middle_too(tmp_path: Path) -> None:
    async with lifecycle(tmp_path, timeout=30.0) as (fake, life):
        fake.fault(CREATE, "hang_after")
        with trio.move_on_after(0.2):
            async with life.creating("cam", "mux", 1.0):
                pass
        assert len(fake.streams) == 1
        await life.sweep(SOON)
        assert (await left(life), fake.streams) == (0, {})


async def test_a_refusal_leaves_nothing(tmp_path: Path) -> None:
    async with lifecycle(tmp_path) as (_, life):
        with pytest.raises(MuxRefused):
            async with life.creating("cam", "mux", 1.0, attrs.evolve(OPTIONS, reconnect_window=9999.0)):
                pass
        assert await left(life) == 0


async def test_so_many_are_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then no more are made, until one of them is gone."""
    monkeypatch.setattr("ingestd.registry.leftovers.MOST", 2)
    async with lifecycle(tmp_path) as (fake, life):
        for number in range(2):
            link = MuxLink(stream_id=f"L{number}", latency_mode="low", reconnect_window=1)
            await life._database.run(life.leaving("cam", link))
        with pytest.raises(TooManyLeft, match="2 live streams wait"):
            async with life.creating("cam", "mux", 1.0):
                pass
        assert fake.requests == []
        await life.sweep(SOON)
        async with life.creating("cam", "mux", 1.0) as made:
            await stored(life, made)


async def test_without_the_database_nothing_is_made(tmp_path: Path) -> None:
    """What is made must be known of, whatever happens."""
    async with lifecycle(tmp_path) as (fake, life):
        with locked(tmp_path / "ingestd.db"), pytest.raises(DatabaseUnavailable):
            async with life.creating("cam", "mux", 1.0):
                pass
        assert fake.requests == []


async def test_it_is_tried_less_and_less_often_and_given_up(tmp_path: Path) -> None:
    """After 1, 2, 4, ... minutes, then every 6 hours, for `give_up_after`; a clock may be put back."""
    now = 1e9
    async with lifecycle(tmp_path, lambda: now, max_retries=0, give_up_after=86_400.0) as (fake, life):
        fake.fault("DELETE .*", times=1000)
        link = MuxLink(stream_id="L", latency_mode="low", reconnect_window=1)
        await life._database.run(life.leaving("cam", link))
        waits = []
        with capture_logs() as logs:
            while found := await life.leftovers():
                waits.append(found[0].next_attempt - now)
                now = found[0].next_attempt - 1
                await life.sweep(now)
                assert await life.leftovers() == found
                now += 1
                await life.sweep(now)
        assert waits[:4] == [60, 120, 240, 480]
        assert waits[-2:] == [6 * 3600, 6 * 3600]
        assert now >= 1e9 + 86_400
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["mux_given_up"]
        await life._database.run(life.leaving("cam", link))
        now -= 7 * 86_400
        await life.sweep(now)
        assert (await life.leftovers())[0].attempts == 1


async def test_what_is_being_made_is_not_swept(tmp_path: Path) -> None:
    """However long it takes to store it."""
    async with lifecycle(tmp_path) as (fake, life):
        async with life.creating("cam", "mux", 1.0) as made:
            await life.sweep(SOON)
            await stored(life, made)
        await life.sweep(SOON)
        assert (await left(life), len(fake.streams)) == (0, 1)


async def test_disable_enable_reset_and_delete_follow(tmp_path: Path) -> None:
    async with lifecycle(tmp_path) as (fake, life):
        async with life.creating("cam", "mux", 1.0) as made:
            await stored(life, made)
        await life.disable(made.link)
        assert fake.streams["live-1"]["status"] == "disabled"
        await life.enable(made.link)
        assert fake.streams["live-1"]["status"] == "idle"
        target = await life.reset_key(made.link, "mux")
        assert target.key == fake.streams["live-1"]["stream_key"] != made.target.key
        on = await life.add_simulcast(made.link, "rtmp://example.org/app", "their-key")
        assert fake.streams["live-1"]["simulcast_targets"][0]["stream_key"] == "their-key"
        await life.remove_simulcast(made.link, on.id)
        assert fake.streams["live-1"]["simulcast_targets"] == []
        await life.delete("cam", made.link)
        assert fake.streams == {}


async def test_a_delete_that_mux_does_not_take_is_done_later(tmp_path: Path) -> None:
    """Our stream may be gone by then."""
    async with lifecycle(tmp_path) as (fake, life):
        async with life.creating("cam", "mux", 1.0) as made:
            await stored(life, made)
        fake.fault("DELETE .*", times=2)
        await life._database.run(life.leaving("cam", made.link))
        with pytest.raises(MuxUnavailable):
            await life.delete("cam", made.link)
        assert (await left(life), len(fake.streams)) == (1, 1)
        await life.sweep(SOON)
        assert (await left(life), fake.streams) == (0, {})
