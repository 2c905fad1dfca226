"""The watched loop, by a virtual clock: what is warned of and when, and when Mux is told of an end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from ingestd.config import MuxConfig
from ingestd.events import Events
from ingestd.mux.errors import MuxNotFound, MuxUnauthorised, MuxUnavailable
from ingestd.mux.events import AssetEvent, LiveStreamEvent, SimulcastEvent
from ingestd.mux.loop import Linked, MuxLoop
from ingestd.mux.model import LiveStream

CONFIG = MuxConfig(active_within=30.0, poll_every=30.0)


class Mux:
    """What is asked of Mux, and what it says. *fails* is raised in place of an answer."""

    def __init__(self) -> None:
        self.status = "idle"
        self.fails: Exception | None = None
        self.slow = 0.0
        self.asked: list[float] = []
        self.completed: list[float] = []

    async def get(self, stream_id: str) -> LiveStream:
        self.asked.append(trio.current_time())
        await self._answer()
        return LiveStream(
            id=stream_id, status=self.status, stream_key="k", playback_ids=(), latency_mode="low",
            reconnect_window=60, passthrough="", simulcast_targets=(),
        )  # fmt: skip

    async def complete(self, _stream_id: str) -> None:
        await self._answer()
        self.completed.append(trio.current_time())

    async def _answer(self) -> None:
        await trio.sleep(self.slow)
        if self.fails is not None:
            raise self.fails


class House:
    """A loop over one stream, ``cam``, with the sink ``mux``; and what our side tells."""

    def __init__(self, config: MuxConfig = CONFIG) -> None:
        self.mux = Mux()
        self.events = Events()
        self.links = {"cam": Linked("L1", frozenset({"mux"}))}
        self.loop = MuxLoop(config, self.mux, self.links.get)
        self.events.listen(self.loop.hear)
        self.numbers = 0

    def sink(self, what: str, *, session: str = "s1", name: str = "mux") -> None:
        self.events.tell(f"sink.{what}", "cam", session=session, name=name)

    def stream(self, what: str, *, session: str = "s1") -> None:
        self.events.tell(f"stream.{what}", "cam", session=session)

    def webhook(self, what: str, *, at: float | None = None) -> str:
        self.numbers += 1
        when = time.time() if at is None else at
        event = LiveStreamEvent(id=f"e{self.numbers}", at=when, stream_id="L1", what=what)
        return self.loop.receive(event)

    @property
    def status(self) -> dict[str, Any]:
        found = self.loop.status("cam")
        assert found is not None
        return found

    @property
    def warning(self) -> str | None:
        return self.status["warning"]


@asynccontextmanager
async def house(config: MuxConfig = CONFIG) -> AsyncIterator[House]:
    made = House(config)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.loop.run, ["cam"])
        yield made
        nursery.cancel_scope.cancel()


async def test_active_in_time_is_no_warning(autojump_clock: MockClock) -> None:
    """Mux is not even asked, as long as it tells."""
    async with house() as home:
        home.sink("running")
        await trio.sleep(29)
        home.webhook("active")
        await trio.sleep(20)
        assert home.mux.asked == []
        assert home.status.items() >= {"stream_id": "L1", "status": "active", "warning": None}.items()
        assert datetime.fromisoformat(home.status["since"]).timestamp() <= time.time()
        assert home.status["since"].endswith("Z")


async def test_not_active_after_active_within(autojump_clock: MockClock) -> None:
    """Mux is asked before anybody is alarmed; the log and the API have it."""
    async with house() as home:
        with capture_logs() as logs:
            home.sink("running")
            await trio.sleep(29.9)
            assert home.warning is None
            await trio.sleep(0.2)
        assert home.warning == "not_active"
        assert len(home.mux.asked) == 1
        (said,) = [entry for entry in logs if entry["event"] == "mux_warning"]
        assert said.items() >= {"stream": "cam", "stream_id": "L1", "warning": "not_active"}.items()
        assert said["log_level"] == "warning"


async def test_silent_webhooks_are_made_up_for_by_asking(autojump_clock: MockClock) -> None:
    """No webhook ever: it is asked once after active_within, and then slowly."""
    async with house() as home:
        home.mux.status = "active"
        home.sink("running")
        await trio.sleep(100)
        assert home.warning is None
        assert home.status["status"] == "active"
        assert home.mux.asked == pytest.approx([30, 60, 90])


async def test_a_warning_is_over_when_mux_is_active(autojump_clock: MockClock) -> None:
    """By a webhook, at once; and said so."""
    async with house() as home:
        home.sink("running")
        await trio.sleep(31)
        assert home.warning == "not_active"
        home.mux.status = "active"
        with capture_logs() as logs:
            home.webhook("active")
            await trio.sleep(0.1)
        assert home.warning is None
        assert "mux_warning_over" in [entry["event"] for entry in logs]


async def test_idle_while_we_push(autojump_clock: MockClock) -> None:
    """It was active; a webhook says idle, and so does Mux when it is asked: then at once."""
    async with house() as home:
        home.sink("running")
        await trio.sleep(1)
        home.webhook("active")
        await trio.sleep(39)
        home.webhook("idle")
        await trio.sleep(0.1)
        assert home.warning == "idle_while_pushing"
        assert home.status["status"] == "idle"


async def test_a_webhook_alone_does_not_alarm(autojump_clock: MockClock) -> None:
    """It says disconnected, but of the connection before: Mux itself says that it is active."""
    async with house() as home:
        home.mux.status = "active"
        home.sink("running")
        await trio.sleep(40)
        home.webhook("disconnected")
        await trio.sleep(1)
        assert home.warning is None
        assert home.status["status"] == "active"


async def test_idle_is_seen_without_a_webhook(autojump_clock: MockClock) -> None:
    async with house() as home:
        home.mux.status = "active"
        home.sink("running")
        await trio.sleep(31)
        home.mux.status = "idle"
        await trio.sleep(30)
        assert home.warning == "idle_while_pushing"


@pytest.mark.parametrize(("status", "warning"), [("disabled", "disabled_while_pushing")])
async def test_disabled_while_we_push(status: str, warning: str, autojump_clock: MockClock) -> None:
    async with house() as home:
        home.mux.status = status
        home.sink("running")
        await trio.sleep(31)
        assert home.warning == warning


async def test_deleted_while_we_push(autojump_clock: MockClock) -> None:
    async with house() as home:
        home.mux.fails = MuxNotFound("404")
        home.sink("running")
        await trio.sleep(31)
        assert home.warning == "deleted_while_pushing"
        assert home.status["status"] == "deleted"


@pytest.mark.parametrize("error", [MuxUnavailable("down"), MuxUnauthorised("401")])
async def test_when_mux_cannot_be_asked_that_is_the_warning(
    error: Exception, autojump_clock: MockClock
) -> None:
    """And it is asked no more often for that."""
    async with house() as home:
        home.mux.fails = error
        home.sink("running")
        await trio.sleep(100)
        assert home.warning == "mux_unreachable"
        assert home.mux.asked == pytest.approx([30, 60, 90])


async def test_what_is_known_to_be_active_stays_so_while_mux_cannot_be_asked(
    autojump_clock: MockClock,
) -> None:
    """Nothing says that anything is wrong with the stream; and there is no storm of questions."""
    async with house() as home:
        home.sink("running")
        home.webhook("active")
        home.mux.fails = MuxUnauthorised("401")
        await trio.sleep(100)
        assert home.warning is None
        assert len(home.mux.asked) == 3


async def test_without_polling_only_doubts_are_asked_about(autojump_clock: MockClock) -> None:
    async with house(MuxConfig(poll_every=0)) as home:
        home.mux.status = "active"
        home.sink("running")
        await trio.sleep(10_000)
        assert home.mux.asked == [30]


async def test_who_does_not_push_is_not_warned_of(autojump_clock: MockClock) -> None:
    """A sink that backs off says so itself; when it is back, Mux has its time again."""
    async with house() as home:
        home.sink("running")
        await trio.sleep(31)
        assert home.warning == "not_active"
        home.sink("backing_off")
        await trio.sleep(1)
        assert home.warning is None
        asked = len(home.mux.asked)
        await trio.sleep(300)
        assert len(home.mux.asked) == asked
        home.sink("recovered")
        await trio.sleep(29)
        assert home.warning is None
        await trio.sleep(2)
        assert home.warning == "not_active"


async def test_another_sink_is_not_mux(autojump_clock: MockClock) -> None:
    """Only sinks of type mux push there."""
    async with house() as home:
        home.sink("running", name="archive")
        await trio.sleep(100)
        assert home.mux.asked == []
        home.stream("ended")
        await trio.sleep(1)
        assert home.mux.completed == []


async def test_an_end_is_told_once_the_sink_has_stopped(autojump_clock: MockClock) -> None:
    """So that Mux does not see our own connection as a new broadcast."""
    async with house() as home:
        home.sink("running")
        await trio.sleep(5)
        home.sink("stopped")
        await trio.sleep(1)
        assert home.mux.completed == []
        home.stream("ended")
        await home.loop.drain()
        assert home.mux.completed == [6]


async def test_a_failed_session_has_ended_too(autojump_clock: MockClock) -> None:
    async with house() as home:
        home.sink("running")
        home.stream("failed")
        await home.loop.drain()
        assert len(home.mux.completed) == 1


async def test_a_hand_over_is_no_end(autojump_clock: MockClock) -> None:
    """The next daemon goes on within Mux's reconnect window."""
    async with house() as home:
        home.sink("running")
        home.sink("stopped")
        home.stream("interrupted")
        await trio.sleep(100)
        assert home.mux.completed == []


async def test_nothing_pushed_is_nothing_to_end(autojump_clock: MockClock) -> None:
    async with house() as home:
        home.sink("backing_off")
        home.stream("ended")
        await trio.sleep(1)
        assert home.mux.completed == []


async def test_an_end_is_not_told_into_the_next_session(autojump_clock: MockClock) -> None:
    """Mux takes long to answer, the publisher is back before: its recording must not be ended."""
    async with house() as home:
        home.sink("running")
        home.sink("stopped")
        home.mux.slow = 10
        with capture_logs() as logs:
            home.stream("ended")
            await trio.sleep(2)
            home.stream("live", session="s2")
            await trio.sleep(20)
        assert home.mux.completed == []
        assert "mux_completion_dropped" in [entry["event"] for entry in logs]


async def test_an_end_that_mux_does_not_take_is_logged(autojump_clock: MockClock) -> None:
    """Mux ends it by itself after the reconnect window."""
    async with house() as home:
        home.mux.fails = MuxUnavailable("down")
        home.sink("running")
        with capture_logs() as logs:
            home.stream("ended")
            await home.loop.drain()
        assert [entry["cause"] for entry in logs if entry["event"] == "mux_not_completed"] == ["down"]


async def test_drain_waits_for_the_ends_under_way(autojump_clock: MockClock) -> None:
    async with house() as home:
        home.mux.slow = 7
        home.sink("running")
        home.stream("ended")
        await home.loop.drain()
        assert trio.current_time() == 7
        await home.loop.drain()


async def test_streams_come_and_go(autojump_clock: MockClock) -> None:
    """Created, given another live stream, deleted: as the registry has it."""
    async with house() as home:
        assert home.loop.status("new") is None
        home.links["new"] = Linked("L2", frozenset({"mux"}))
        home.events.tell("stream.created", "new")
        assert home.loop.status("new") is not None
        home.links["new"] = Linked("L3", frozenset({"mux"}))
        home.events.tell("stream.updated", "new")
        found = home.loop.status("new")
        assert found is not None
        assert found["stream_id"] == "L3"
        del home.links["new"]
        home.events.tell("stream.deleted", "new")
        assert home.loop.status("new") is None
        assert home.loop.receive(LiveStreamEvent(id="x", at=1, stream_id="L3", what="deleted")) == "held"


async def test_an_update_of_other_things_forgets_nothing(autojump_clock: MockClock) -> None:
    async with house() as home:
        home.webhook("active")
        home.events.tell("stream.updated", "cam")
        assert home.status["status"] == "active"


async def test_deleted_while_pushing_stops_the_watch(autojump_clock: MockClock) -> None:
    async with house() as home:
        home.sink("running")
        await trio.sleep(1)
        home.links.clear()
        home.events.tell("stream.deleted", "cam")
        await trio.sleep(100)
        assert home.mux.asked == []


async def test_a_webhook_before_the_create_was_answered_counts(autojump_clock: MockClock) -> None:
    async with house() as home:
        event = LiveStreamEvent(id="x", at=1, stream_id="L2", what="disabled")
        assert home.loop.receive(event) == "held"
        home.links["new"] = Linked("L2", frozenset({"mux"}))
        home.events.tell("stream.created", "new")
        found = home.loop.status("new")
        assert found is not None
        assert found["status"] == "disabled"


@pytest.mark.parametrize("ended", ["idle", "disabled", "deleted"])
async def test_a_connection_that_goes_after_the_end_is_no_news(ended: str, autojump_clock: MockClock) -> None:
    """``complete`` was faster than Mux's noticing that we have hung up."""
    async with house() as home:
        home.webhook("active", at=1)
        home.webhook(ended, at=2)
        assert home.webhook("disconnected", at=3) == "applied"
        assert home.status["status"] == ended
        home.webhook("connected", at=4)
        home.webhook("disconnected", at=5)
        assert home.status["status"] == "disconnected"


async def test_a_recording_of_an_earlier_session_changes_nothing(autojump_clock: MockClock) -> None:
    """It may be ready only when the next one has long begun."""
    async with house() as home:
        home.sink("running", session="s2")
        home.events.tell("recording.ready", "cam", session="s1", name="archive")
        await trio.sleep(31)
        assert home.warning == "not_active"
        home.stream("ended", session="s2")
        await home.loop.drain()
        assert len(home.mux.completed) == 1


async def test_late_webhooks_do_not_overturn(autojump_clock: MockClock) -> None:
    async with house() as home:
        assert home.webhook("idle", at=200) == "applied"
        assert home.webhook("active", at=100) == "late"
        assert home.status["status"] == "idle"


async def test_what_mux_says_of_others_is_logged(autojump_clock: MockClock) -> None:
    """A simulcast target that fails, and a recording that is ready."""
    async with house() as home:
        with capture_logs() as logs:
            home.loop.receive(
                SimulcastEvent(id="1", at=1, stream_id="L1", target_id="T", what="errored", severity="fatal")
            )
            home.loop.receive(
                AssetEvent(id="2", at=1, stream_id="L1", asset_id="A", what="live_stream_completed")
            )
            home.webhook("warning")
        named = {entry["event"]: entry for entry in logs}
        assert named["mux_simulcast_failed"].items() >= {"target": "T", "severity": "fatal"}.items()
        assert named["mux_recording_ready"]["asset"] == "A"
        assert "mux_says_warning" in named


async def test_events_before_it_runs_are_not_lost(autojump_clock: MockClock) -> None:
    """A session that an earlier daemon left may push before the loop runs."""
    home = House()
    home.loop.follow("cam")
    home.sink("running")
    async with trio.open_nursery() as nursery:
        await nursery.start(home.loop.run)
        await trio.sleep(31)
        assert home.warning == "not_active"
        nursery.cancel_scope.cancel()
