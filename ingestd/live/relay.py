"""The relay: what one stream's publisher sends, muxed and encoded once, to all who watch it.

It follows the stream from session to session for as long as somebody watches. Each message is written to
each viewer at once, without waiting; only for one whose socket is full a task works through the ring.
"""

from __future__ import annotations

import json
import math
import time
import traceback

import structlog
import trio
from attrs import define, field

from ingestd.config import Viewers
from ingestd.events import Event
from ingestd.live.hub import Hub, Subscription
from ingestd.live.ring import Message, Ring
from ingestd.live.segmenter import Segmenter, Unplayable
from ingestd.live.session import Session
from ingestd.live.state import StreamState
from ingestd.live.streams import Streams
from ingestd.live.viewer import DISABLED, INTERNAL_ERROR, NO_SUCH_STREAM, UNPLAYABLE, Viewer
from ingestd.server_frames import text_frame

log = structlog.get_logger(__name__)

#: Seconds between two clocks.
CLOCK = 2.0


@define(eq=False)
class Relay:
    """All who watch *stream*. `run` is its whole life."""

    stream: str
    streams: Streams
    ring: Ring
    viewers: set[Viewer] = field(factory=set)
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    _session: Session | None = None
    _subscription: Subscription | None = None
    _news: list[dict[str, object]] = field(factory=list)
    _count: int = 0

    @classmethod
    def of(cls, stream: str, streams: Streams, config: Viewers) -> Relay:
        return cls(stream, streams, Ring(config.memory, config.max_lag))

    # Viewers

    def add(self, viewer: Viewer) -> None:
        """Let *viewer* begin, or tell it that there is nothing yet."""
        stream = self.streams.directory.get(self.stream)
        viewer.life = stream.life if stream is not None else ""
        self.viewers.add(viewer)
        viewer.attach(self.ring)
        viewer.pump()
        if viewer.waits:
            viewer.say(json.dumps(self._waiting()))

    def remove(self, viewer: Viewer) -> None:
        """*viewer* has gone; idempotent."""
        self.viewers.discard(viewer)
        viewer.detach()

    def close(self, code: int, reason: str) -> None:
        """End all viewers."""
        for viewer in tuple(self.viewers):
            viewer.end(code, reason)

    # What happens

    def heard(self, event: Event) -> None:
        """Something happened to the stream."""
        if event.type == "stream.interrupted":
            self._tell_in_order({"type": "interrupted"})
        elif event.type == "stream.resumed":
            self._tell_in_order({"type": "resumed"})
        elif event.type in ("stream.deleted", "stream.updated") and self._session is None:
            self._check_open()

    async def run(self) -> None:
        """Relay one session after the other, until cancelled."""
        with self.scope:
            try:
                session: Session | None = None
                while True:
                    session = await self.streams.wait_session(self.stream, session)
                    await self._follow(session)
            except Unplayable as error:
                self.close(UNPLAYABLE, str(error))
            except Exception as error:
                # A defect of ours, in one stream's relay; the others, and the publisher, go on. As text:
                # a renderer that shows local variables would show all streams.
                text = "".join(traceback.format_exception(error))
                log.error("relay_failed", stream=self.stream, traceback=text)  # noqa: TRY400
                self.close(INTERNAL_ERROR, "internal error")

    async def _follow(self, session: Session) -> None:
        await session.begun.wait()
        if session.source is None or session.source.hub.ended:
            return
        self._session = session
        self._tell(self._waiting())
        try:
            await self._relay(session, session.source.hub)
        finally:
            self._session = self._subscription = None
            self._news.clear()
        self.ring.close(keep=any(viewer.busy for viewer in self.viewers))
        away = session.state is StreamState.INTERRUPTED
        cause = session.cause or ("the publisher did not come back" if away else "the publisher ended it")
        self._tell({"type": "ended", "cause": cause, "recording": None}, ends=True)
        self._check_open()
        self._tell(self._waiting())

    async def _relay(self, session: Session, hub: Hub) -> None:
        segmenter = Segmenter(session.id, session.started, hub, count=self._count)
        told_at = -math.inf
        with hub.subscribe("skip") as subscription:
            self._subscription = subscription
            if session.state is StreamState.INTERRUPTED:
                self._tell_in_order({"type": "interrupted"})
            while True:
                if not subscription.is_behind:
                    self._tell_news()
                try:
                    batch = await subscription.receive()
                except trio.EndOfChannel:
                    return
                for message in segmenter.messages(batch):
                    self.publish(message)
                self._count = segmenter.count
                if (now := trio.current_time()) - told_at >= CLOCK:
                    told_at = now
                    wall = time.time() - (now - batch.arrival)
                    self._tell({"type": "clock", "time": segmenter.newest, "wall": round(wall * 1000)})

    def publish(self, message: Message) -> None:
        """Add *message* to the ring, and write it to all who are up to it."""
        self.ring.append(message)
        for viewer in tuple(self.viewers):
            if not viewer.busy:
                viewer.offer(message)

    # What viewers are told

    def _tell(self, told: dict[str, object], *, ends: bool = False) -> None:
        """Tell all viewers, each behind what it has still to get."""
        frame = text_frame(json.dumps(told))
        self.publish(Message(frame, 0, trio.current_time(), ends=ends))

    def _tell_in_order(self, told: dict[str, object]) -> None:
        """Tell all viewers, behind the frames that came before."""
        if self._subscription is None:
            return
        self._news.append(told)
        if not self._subscription.is_behind:
            self._tell_news()

    def _tell_news(self) -> None:
        news, self._news = self._news, []
        for told in news:
            self._tell(told)

    def _waiting(self) -> dict[str, object]:
        session = self.streams.sessions.get(self.stream)
        state = StreamState.IDLE if session is None else session.state
        if session is not None and session.source is not None and session.source.hub.ended:
            # Its sinks may still have to write; for viewers it is over.
            state = StreamState.FAILED if session.failed else StreamState.ENDED
        return {"type": "waiting", "state": state.value}

    def _check_open(self) -> None:
        """End those viewers who may not watch the stream any more."""
        stream = self.streams.directory.get(self.stream)
        for viewer in tuple(self.viewers):
            # Another stream may have its name by now, and is none of theirs.
            if stream is None or stream.life != viewer.life:
                viewer.end(NO_SUCH_STREAM, "the stream was deleted")
            elif not stream.enabled:
                viewer.end(DISABLED, "this stream is disabled")
