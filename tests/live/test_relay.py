"""Relays: one a stream for as long as somebody watches, from session to session, and none for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.lowlevel
from attrs import define, field

from ingestd.config import Viewers
from ingestd.errors import WatchRefused
from ingestd.events import Events
from ingestd.live import relay as module
from ingestd.live.audience import Audience
from ingestd.live.hub import Hub
from ingestd.live.session import StreamState
from ingestd.live.streams import Streams
from tests.live.tools import Source, hub_config
from tests.live.viewers import Watched, kinds, watched


@define(eq=False)
class FakeSession:
    """A session as a relay sees it."""

    id: str
    source: Any = field(factory=lambda: SimpleNamespace(hub=Hub(hub_config())))
    state: StreamState = StreamState.LIVE
    started: float = 0.0
    cause: str | None = None
    failed: bool = False
    begun: trio.Event = field(factory=trio.Event)
    frames: Any = None

    def __attrs_post_init__(self) -> None:
        self.begun.set()
        self.frames = Source(self.source.hub)

    def end(self) -> None:
        self.source.hub.end()
        self.state = StreamState.ENDED


@define(eq=False)
class Running:
    """The streams as an audience sees them: of "cam" alone."""

    events: Events = field(factory=Events)
    sessions: dict[str, FakeSession] = field(factory=dict)
    directory: Any = field(factory=lambda: SimpleNamespace(loaded=True, get=lambda name: STREAMS.get(name)))
    draining: bool = False
    _begun: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    async def wait_session(self, name: str, after: FakeSession | None = None) -> FakeSession:
        while (session := self.sessions.get(name)) is None or session is after:
            await self._begun.park()
        return session

    def begin(self, id_: str, **more: Any) -> FakeSession:
        session = self.sessions["cam"] = FakeSession(id_, **more)
        self._begun.unpark_all()
        return session

    def tell(self, what: str) -> None:
        self.events.tell(what, "cam")


STREAMS = {"cam": SimpleNamespace(enabled=True, life="1"), "off": SimpleNamespace(enabled=False, life="1")}


@asynccontextmanager
async def audience(**config: Any) -> AsyncIterator[tuple[Audience, Running]]:
    running = Running()
    made = Audience(Viewers(**config), cast(Streams, running))
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        yield made, running
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def watching(made: Audience) -> AsyncIterator[Watched]:
    async with watched() as viewer:
        with made.watching("cam", viewer.viewer):
            yield viewer


def relays(made: Audience) -> int:
    """Relays that are remembered; each is a task."""
    assert made._nursery is not None
    return len(made._relays)


async def gone(made: Audience) -> None:
    """Wait until no relay's task is left."""
    assert made._nursery is not None
    with trio.fail_after(20):
        while made._nursery.child_tasks:
            await trio.lowlevel.checkpoint()


async def test_a_relay_lives_as_long_as_somebody_watches() -> None:
    """One for all; when the last has gone, no task, no subscription and no ring are left."""
    async with audience() as (made, running):
        session = running.begin("S1")
        hub = session.source.hub
        for _ in range(2):
            session.frames.publish(key=True)
            async with watching(made) as first:
                assert kinds(await first.frames(3))[:2] == ["waiting", "waiting"]
                async with watching(made) as second:
                    assert "init" in kinds(await second.frames(1))
                    assert (relays(made), made.count, made.of("cam")) == (1, 2, 2)
                    assert hub.statistics()["subscriptions"] == 1
                assert relays(made) == 1
            assert (relays(made), made.count, made.of("cam")) == (0, 0, 0)
            await gone(made)
            assert hub.statistics()["subscriptions"] == 0
        tally = made.tally("cam")
        assert tally is not None
        assert tally.sent > 0


async def test_what_happened_is_told_behind_the_frames_before_it() -> None:
    """Though the event is there before the relay has come to them."""
    async with audience() as (made, running):
        session = running.begin("S1")
        session.frames.publish(key=True)
        async with watching(made) as viewer:
            await viewer.frames(6)
            session.frames.publish(frames=2)
            session.frames.publish(frames=2)
            running.tell("stream.interrupted")
            running.tell("stream.resumed")
            session.frames.publish(frames=2)
            assert [kind if isinstance(kind, str) else "media" for kind in kinds(await viewer.frames(5))] == [
                "media", "media", "media", "interrupted", "resumed",
            ]  # fmt: skip


async def test_the_end_is_told_and_the_next_session_begins_by_itself() -> None:
    """With an init segment of its own, though it is the same one."""
    async with audience() as (made, running), watching(made) as viewer:
        assert (await viewer.frames(1))[0][1] == {"type": "waiting", "state": "idle"}
        for id_, cause in (("S1", "the publisher ended it"), ("S2", "stopped")):
            session = running.begin(id_, cause=None if id_ == "S1" else cause)
            session.frames.publish(key=True)
            found = [payload for _, payload in await viewer.frames(4)]
            assert found[0] == {"type": "waiting", "state": "live"}
            assert found[1]["session"] == id_
            while viewer.viewer.waits:
                await trio.lowlevel.checkpoint()
            session.end()
            with trio.fail_after(20):
                while (told := (await viewer.frames(1))[0][1]) and not (
                    isinstance(told, dict) and told["type"] == "ended"
                ):
                    pass
            assert told == {"type": "ended", "cause": cause, "recording": None}
            assert (await viewer.frames(1))[0][1] == {"type": "waiting", "state": "ended"}


async def test_another_stream_of_the_same_name_is_not_for_those_who_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A live stream that is deleted, and made again before its viewers have seen the end."""
    async with audience() as (made, running):
        session = running.begin("S1")
        session.frames.publish(key=True)
        async with watching(made) as old:
            while old.viewer.waits:
                await trio.lowlevel.checkpoint()
            running.tell("stream.deleted")
            monkeypatch.setitem(STREAMS, "cam", SimpleNamespace(enabled=True, life="2"))
            async with watching(made) as new:
                session.end()
                with trio.fail_after(20):
                    while old.viewer.closing is None:
                        await trio.lowlevel.checkpoint()
                assert old.viewer.closing == (4404, "the stream was deleted")
                assert new.viewer.closing is None


async def test_a_session_that_has_no_media_any_more_is_not_shown() -> None:
    """Its recordings are still being finished; who comes now waits for the next one."""
    async with audience() as (made, running):
        session = running.begin("S1")
        session.frames.publish(key=True)
        session.end()
        async with watching(made) as viewer:
            assert (await viewer.frames(1))[0][1] == {"type": "waiting", "state": "ended"}
            running.begin("S2").frames.publish(key=True)
            found = await viewer.frames(2)
            assert found[1][1]["session"] == "S2"


async def test_a_session_taken_up_is_said_to_be_interrupted() -> None:
    async with audience() as (made, running):
        running.begin("S1", state=StreamState.INTERRUPTED)
        async with watching(made) as viewer:
            assert kinds(await viewer.frames(3)) == ["waiting", "waiting", "interrupted"]


async def test_a_defect_ends_one_streams_viewers_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told 1011; who comes again has a relay that works."""

    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    async with audience() as (made, running):
        session = running.begin("S1")
        with monkeypatch.context() as broken:
            broken.setattr(module.Segmenter, "messages", fail)
            async with watching(made) as viewer:
                session.frames.publish(key=True)
                with trio.CancelScope(shield=True), trio.fail_after(20):
                    while viewer.viewer.closing is None:
                        await trio.lowlevel.checkpoint()
        assert viewer.viewer.closing == (1011, "internal error")
        await gone(made)
        async with watching(made) as viewer:
            assert kinds(await viewer.frames(3))[-1] == "init"


async def test_a_clock_comes_every_two_seconds_of_media(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    async with audience() as (made, running):
        session = running.begin("S1")
        async with watching(made) as viewer:
            for number in range(60):
                session.frames.publish(key=number % 10 == 0)
                await trio.sleep(0.1)
            frames = await viewer.frames(64)
        clocks = [
            payload for opcode, payload in frames if isinstance(payload, dict) and payload["type"] == "clock"
        ]
        assert [clock["time"] for clock in clocks] == [0, 660, 1320]


async def test_who_may_not_is_told_which_limit() -> None:
    """Streams that are unknown or off, and places at their edges: none, and one."""
    async with audience(max=1) as (made, running), watched() as viewer:
        for name, code in (("nobody", 4404), ("off", 4423)):
            with pytest.raises(WatchRefused) as refused, made.watching(name, viewer.viewer):
                pass
            assert refused.value.code == code
        async with watching(made):
            with pytest.raises(WatchRefused, match="too many viewers"), made.watching("cam", viewer.viewer):
                pass
        async with watching(made):
            pass
        running.draining = True
        with pytest.raises(WatchRefused) as refused, made.watching("cam", viewer.viewer):
            pass
        assert refused.value.code == 1001
    async with audience(max=0) as (made, _), watched() as viewer:
        with pytest.raises(WatchRefused, match="too many viewers"), made.watching("cam", viewer.viewer):
            pass
