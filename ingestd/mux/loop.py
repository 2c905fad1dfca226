"""The watched loop: what we push and what Mux says of it are held against each other, and an end is told.

It hears of sessions and sinks from `ingestd.events.Events`, and of Mux from webhooks, or by asking where
none comes. Nothing here holds up a session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import structlog
import trio
from attrs import frozen

from ingestd.config import MuxConfig
from ingestd.events import Event
from ingestd.mux.errors import MuxError, MuxNotFound
from ingestd.mux.events import AssetEvent, LiveStreamEvent, MuxEvent, SimulcastEvent
from ingestd.mux.inbox import Inbox, Outcome
from ingestd.mux.model import LiveStream
from ingestd.mux.standing import Standing, Warned

log = structlog.get_logger(__name__)

_NEVER = float("inf")
#: Requests of the loop that are under way at once.
_ABREAST = 4


class Api(Protocol):
    """What the loop asks of Mux; `ingestd.mux.client.MuxClient` does it."""

    async def get(self, stream_id: str) -> LiveStream: ...
    async def complete(self, stream_id: str) -> None: ...


@frozen(slots=True)
class Linked:
    """A stream of ours with its live stream at Mux, and the names of its sinks of type ``mux``."""

    stream_id: str
    sinks: frozenset[str]


#: The `Linked` of a stream by its name, or None for one that is not at Mux.
Find = Callable[[str], Linked | None]


class MuxLoop:
    """`hear` listens to `Events`, `receive` to webhooks, `status` is for the API; `run` does the rest.

    *find* is asked when a stream is told to be created, updated or deleted: it must know of that by then.
    """

    def __init__(self, config: MuxConfig, api: Api, find: Find) -> None:
        self._config = config
        self._api = api
        self._find = find
        self._streams: dict[str, Standing] = {}
        self._by_id: dict[str, Standing] = {}
        self._watched: dict[str, trio.CancelScope] = {}
        self._ending: dict[str, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._limit = trio.Semaphore(_ABREAST)
        self._quiet = trio.lowlevel.ParkingLot()
        self.inbox = Inbox(
            self._apply, time.monotonic, config.remember_events, config.hold_events, config.hold_for
        )

    async def run(
        self, streams: Iterable[str] = (), *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Watch until cancelled, beginning with *streams*. Call `drain` before, or ends may go untold.

        The API's client must outlive it.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.follow_all(streams)
                for standing in self._streams.values():
                    self._watch_if_pushing(standing)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def drain(self) -> None:
        """Return when Mux was told of each session that has ended, or could not be (`mux.deadline`)."""
        while self._ending:
            await self._quiet.park()

    def status(self, stream: str) -> dict[str, Any] | None:
        """``{"stream_id", "status", "since", "warning"}`` of *stream*, or None for one that is not at Mux."""
        standing = self._streams.get(stream)
        return standing.unstructure() if standing is not None else None

    def follow(self, stream: str) -> None:
        """Look up anew what *stream* is at Mux: it was created, updated or deleted."""
        linked, known = self._find(stream), self._streams.get(stream)
        if known is not None:
            if linked is not None and (known.stream_id, known.sinks) == (linked.stream_id, linked.sinks):
                return
            self._forget(known)
        if linked is not None:
            standing = Standing(stream, linked.stream_id, linked.sinks)
            self._streams[stream] = self._by_id[linked.stream_id] = standing
            self.inbox.know(linked.stream_id)

    def follow_all(self, streams: Iterable[str]) -> None:
        """`follow` each of *streams*."""
        for stream in streams:
            self.follow(stream)

    def hear(self, event: Event) -> None:
        """A listener for `Events`: does not block, does not raise."""
        noun, _, what = event.type.partition(".")
        if noun == "stream" and what in ("created", "updated", "deleted"):
            self.follow(event.stream)
        standing = self._streams.get(event.stream)
        session = event.data.get("session")
        # A recording may be ready long after its session.
        if standing is None or not isinstance(session, str) or noun not in ("stream", "sink"):
            return
        if standing.begun(session):
            # To tell Mux of the last one's end now would end this one's recording.
            self._give_up_telling(standing)
        if noun == "sink":
            name = str(event.data.get("name"))
            standing.sink(name, running=what in ("running", "recovered"))
            self._watch_if_pushing(standing)
        elif noun == "stream" and what in ("ended", "failed") and standing.session_ended():
            self._tell_end(standing)

    def receive(self, event: MuxEvent) -> Outcome:
        """A webhook whose signature is right."""
        outcome = self.inbox.take(event)
        log.debug("mux_event", event_id=event.id, kind=type(event).__name__, outcome=outcome)
        return outcome

    def _forget(self, standing: Standing) -> None:
        del self._streams[standing.stream], self._by_id[standing.stream_id]
        self.inbox.forget(standing.stream_id)
        for scopes in (self._watched, self._ending):
            if standing.stream_id in scopes:
                scopes[standing.stream_id].cancel()

    def _apply(self, event: LiveStreamEvent | SimulcastEvent | AssetEvent) -> None:
        standing = self._by_id[event.stream_id]
        where = {"stream": standing.stream, "stream_id": standing.stream_id}
        if isinstance(event, LiveStreamEvent):
            standing.event(event)
            if event.what == "warning":
                log.warning("mux_says_warning", **where)
        elif isinstance(event, SimulcastEvent):
            if event.what == "errored":
                log.warning("mux_simulcast_failed", **where, target=event.target_id, severity=event.severity)
        elif event.what == "live_stream_completed":
            log.info("mux_recording_ready", **where, asset=event.asset_id)

    # What we push

    def _watch_if_pushing(self, standing: Standing) -> None:
        if standing.pushing and self._nursery is not None and standing.stream_id not in self._watched:
            scope = self._watched[standing.stream_id] = trio.CancelScope()
            self._nursery.start_soon(self._watch, standing, scope)

    async def _watch(self, standing: Standing, scope: trio.CancelScope) -> None:
        """As long as *standing* pushes: ask Mux where it is not active, or was not heard of, and judge."""
        config = self._config
        try:
            with scope:
                asked = -_NEVER
                while True:
                    await self._wait_for_doubt(standing, asked)
                    if not standing.pushing:
                        break
                    reachable, asked = await self._ask(standing), trio.current_time()
                    self._warn(standing, standing.judge(config.active_within, reachable=reachable))
        finally:
            del self._watched[standing.stream_id]
            self._warn(standing, None)
        # It may have begun again while we were leaving.
        if not scope.cancelled_caught:
            self._watch_if_pushing(standing)

    async def _wait_for_doubt(self, standing: Standing, asked: float) -> None:
        """Until Mux should be asked: it is late, it says that nothing comes, or it says nothing.

        *asked* is when it was asked before.
        """
        config = self._config
        poll = config.poll_every or _NEVER
        while (began := standing.pushing_since) is not None:
            active, warned = standing.status == "active", standing.warning is not None
            if active and warned:
                return
            due = began + config.active_within
            if active or warned:
                due = max(began, asked, standing.heard if active else began) + poll
            if trio.current_time() >= due:
                return
            await standing.wait(due - trio.current_time())

    async def _ask(self, standing: Standing) -> bool:
        """Have Mux say how it stands; False if it cannot be asked."""
        try:
            async with self._limit:
                found = await self._api.get(standing.stream_id)
        except MuxNotFound:
            standing.enter("deleted")
        except MuxError as error:
            log.info("mux_not_asked", stream=standing.stream, cause=str(error))
            return False
        else:
            if found.answered is not None:
                self.inbox.passed(standing.stream_id, found.answered)
            standing.answered(found.status)
        return True

    def _warn(self, standing: Standing, warning: Warned | None) -> None:
        before, standing.warning = standing.warning, warning
        if warning is before:
            return
        where = {"stream": standing.stream, "stream_id": standing.stream_id, "status": standing.status}
        if warning is not None:
            log.warning("mux_warning", **where, warning=warning.value)
        elif standing.pushing:
            log.info("mux_warning_over", **where)

    # How a session ends

    def _tell_end(self, standing: Standing) -> None:
        if self._nursery is None or standing.stream_id in self._ending:
            return
        scope = self._ending[standing.stream_id] = trio.CancelScope()
        self._nursery.start_soon(self._complete, standing, scope)

    def _give_up_telling(self, standing: Standing) -> None:
        if standing.stream_id in self._ending:
            self._ending[standing.stream_id].cancel()

    async def _complete(self, standing: Standing, scope: trio.CancelScope) -> None:
        """Our connection is closed: end Mux's recording now, in place of after its reconnect window."""
        where = {"stream": standing.stream, "stream_id": standing.stream_id}
        try:
            with scope:
                async with self._limit:
                    await self._api.complete(standing.stream_id)
                log.info("mux_completed", **where)
        except MuxError as error:
            log.warning("mux_not_completed", **where, cause=str(error))
        finally:
            del self._ending[standing.stream_id]
            self._quiet.unpark_all()
        if scope.cancelled_caught:
            log.info("mux_completion_dropped", **where)
