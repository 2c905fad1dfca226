"""``/internal/videoExpose``: a live stream as a body without end, for FFmpeg, OpenCV and scripts."""

from __future__ import annotations

import msgspec
import trio
from quart import Blueprint, Response

from ingestd.control.bodies import endless
from ingestd.control.contract import Answer, Routes
from ingestd.control.desk import Desk
from ingestd.control.errors import Refusal
from ingestd.control.shapes import Name
from ingestd.live.exposed import Exposed
from ingestd.live.session import Session
from ingestd.live.state import StreamState

#: Seconds that a reader waits for the first keyframe.
PATIENCE = 10.0
#: Live before what only waits for its publisher.
_RANK = {StreamState.LIVE: 2, StreamState.INTERRUPTED: 1, StreamState.CONNECTING: 0}


class ExposeQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which stream: by default the one that went on air last."""

    stream: Name | None = None


def blueprint(desk: Desk) -> Blueprint:
    routes = Routes("expose", "What front ends call")
    places = trio.Semaphore(desk.streams.config.control.max_pulls)

    @routes.get(
        "/internal/videoExpose", "A live stream as one body", scope="read", query=ExposeQuery,
        problems=(404, 503),
        answers=[
            Answer(
                status=200, about="The media, from a keyframe on, without end.",
                media="video/webm, video/x-matroska",
            )
        ],
    )  # fmt: skip
    async def expose(query: ExposeQuery) -> Response:
        """What the publisher sends, as WebM (or Matroska, for H.264 and others that WebM does not have), from
        its newest keyframe on, at time 0: `ffmpeg -i URL`, OpenCV and a script read it from the first
        frame. Ends with the session. A reader that is too slow misses frames up to a keyframe.
        """
        session = _on_air(desk, query.stream)
        try:
            places.acquire_nowait()
        except trio.WouldBlock:
            text = "too many programs read live streams already (control.max_pulls)"
            raise Refusal(503, text, retry_after=5) from None
        assert session.source is not None  # noqa: S101  _on_air looked
        exposed = Exposed(session.source.hub)

        def done() -> None:
            exposed.close()
            places.release()

        begun = False
        try:
            begun = await exposed.begin(PATIENCE)
        finally:
            if not begun:
                done()
        if not begun:
            text = f'no keyframe of "{session.stream}" came within {PATIENCE:g} s'
            raise Refusal(503, text, retry_after=2)
        response = endless(exposed.parts(), done, exposed.media_type)
        response.headers["X-Stream"] = session.stream
        return response

    return routes.blueprint


def _on_air(desk: Desk, name: str | None) -> Session:
    """The running session of the stream *name*, or of the one that went on air last."""
    streams = desk.streams
    if name is not None:
        desk.get(name)
        session = streams.running(name)
        if session is not None and session.source is not None:
            return session
        raise Refusal(404, f'"{name}" is not live', streams=_standing(desk))
    running = [session for each in streams.names if (session := streams.running(each)) is not None]
    found = [session for session in running if session.source is not None and session.state in _RANK]
    if not found:
        raise Refusal(404, "nothing is live", streams=_standing(desk))
    return max(found, key=lambda session: (_RANK[session.state], session.started))


def _standing(desk: Desk) -> list[dict[str, str]]:
    """How the streams stand, for who looked for one that is live; the first hundred."""
    sessions = desk.streams.sessions
    return [
        {"name": name, "state": sessions[name].state.value if name in sessions else StreamState.IDLE.value}
        for name in desk.registry.directory.names[:100]
    ]
