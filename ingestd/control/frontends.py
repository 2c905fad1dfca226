"""What front ends of the field call already, in the shapes that they expect. All else is under ``/v1``."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec
from msgspec import field
from quart import Blueprint, Response
from sqlalchemy import Connection

from ingestd import __version__
from ingestd.control import idempotency
from ingestd.control.access import who
from ingestd.control.contract import Routes, ok
from ingestd.control.desk import Desk
from ingestd.control.errors import Refusal
from ingestd.control.shapes import NewStream
from ingestd.control.streams import Telling, encoded
from ingestd.live.shapes import Time
from ingestd.live.state import StreamState
from ingestd.live.status import rfc3339
from ingestd.registry.model import Stream

OnAir = Literal["ON_AIR", "CONNECTING", "RECONNECTING", "OFF_AIR", "FAILED", "DISABLED"]
_ON_AIR: dict[StreamState, OnAir] = {
    StreamState.LIVE: "ON_AIR",
    StreamState.CONNECTING: "CONNECTING",
    StreamState.INTERRUPTED: "RECONNECTING",
    StreamState.FAILED: "FAILED",
    StreamState.ENDED: "OFF_AIR",
    StreamState.IDLE: "OFF_AIR",
}


class LegacyStream(msgspec.Struct, rename="camel"):
    """A stream that was made. `streamKey` is told here only."""

    stream_key: str
    playback_id: str
    ingest_url: str
    status: Literal["idle", "disabled"]
    name: str
    playback_url: str | None


class ServiceHealth(msgspec.Struct):
    """The daemon answers. `database` is whether it does, too: without it nothing new can be made."""

    status: Literal["ok"]
    version: str
    uptime: float
    live: int
    database: Literal["ok", "away"]
    timestamp: Time


class Producer(msgspec.Struct):
    """One track that is being sent."""

    kind: Literal["video", "audio"]
    codec: str


class OnAirStatus(msgspec.Struct, rename="camel"):
    """How a stream stands, for who only asks whether it is on air."""

    stream_id: str
    status: OnAir
    stream_type: Literal["video+audio", "video", "audio", "none"] = field(name="streamType")
    producers: list[Producer]
    viewers: int
    since: Time | None


class MediasoupStatus(msgspec.Struct, rename="camel"):
    """There is no WebRTC in this version: publish over WebSocket."""

    available: bool
    workers: int
    routers: int
    transports: int
    reason: str


def blueprint(desk: Desk, telling: Telling) -> Blueprint:
    routes = Routes("frontends", "What front ends call")
    began = time.monotonic()

    def health() -> ServiceHealth:
        return ServiceHealth(
            status="ok",
            version=__version__,
            uptime=round(time.monotonic() - began, 1),
            live=desk.streams.live,
            database="ok" if desk.registry.database.trouble is None else "away",
            timestamp=rfc3339(time.time()),
        )

    @routes.post(
        "/stream/create", "Make a stream (as front ends do)", scope="publish", body=NewStream, creates=True,
        answers=[ok(LegacyStream, "It is made.")], problems=(409, 502, 503),
        headers={idempotency.HEADER: idempotency.ABOUT},
    )  # fmt: skip
    async def create(body: NewStream) -> Response:
        """The same as `POST /v1/streams`, in another shape. The body may be left out."""

        async def work(keep: idempotency.Keep) -> tuple[int, bytes]:
            answer = b""

            def also(stream: Stream, key: str) -> Callable[[Connection], None]:
                nonlocal answer
                answer = encoded(_legacy(telling, stream, key))
                return partial(keep, status=200, body=answer)

            await desk.create(body, who(), also)
            return 200, answer

        asked = msgspec.json.encode(body, order="sorted")
        status, told, again = await idempotency.once(desk.registry.database, who().name, asked, work)
        return idempotency.as_told(status, told, again=again)

    healthy = ok(ServiceHealth, "It answers.")

    @routes.get("/internal/health", "Is it well?", scope=None, answers=[healthy])
    async def internal_health() -> ServiceHealth:
        """For scripts; a watchdog takes `/healthz`."""
        return health()

    @routes.get("/api/health", "Is it well?", scope=None, answers=[healthy])
    async def api_health() -> ServiceHealth:
        """As `/internal/health`."""
        return health()

    @routes.get(
        "/internal/stream-status/<id>", "Is it on air?", scope="read", answers=[ok(OnAirStatus)],
        problems=(404, 503),
    )  # fmt: skip
    async def stream_status(id: str) -> OnAirStatus:  # noqa: A002  as the path has it
        """By the stream's name or one of its playback ids."""
        return _on_air(desk, _find(desk, id))

    @routes.get(
        "/api/mediasoup-status", "What WebRTC there is", scope=None, answers=[ok(MediasoupStatus, "None.")]
    )
    async def mediasoup_status() -> MediasoupStatus:
        """Front ends that ask before they publish by WebRTC learn that they have to take the WebSocket."""
        reason = "this version has no WebRTC: publish over WebSocket, to the ingestUrl of the stream"
        return MediasoupStatus(available=False, workers=0, routers=0, transports=0, reason=reason)

    return routes.blueprint


def _legacy(telling: Telling, stream: Stream, key: str) -> LegacyStream:
    playback = telling.status(stream)["playback"]
    # Mux's is what its players want; else the daemon's own.
    first = next((each for each in playback if each["provider"] == "mux"), next(iter(playback), None))
    return LegacyStream(
        stream_key=key,
        playback_id=first["id"] if first else stream.name,
        ingest_url=telling.links.publish(key),
        status="idle" if stream.enabled else "disabled",
        name=stream.name,
        playback_url=first["url"] if first else None,
    )


def _find(desk: Desk, wanted: str) -> Stream:
    directory = desk.registry.directory
    found = directory.get(wanted) or next(
        (stream for stream in directory if any(each.id == wanted for each in stream.playback)), None
    )
    if found is None:
        raise Refusal(404, "no stream has this name or playback id")
    return found


def _on_air(desk: Desk, stream: Stream) -> OnAirStatus:
    session = desk.streams.sessions.get(stream.name)
    state = session.state if session is not None else StreamState.IDLE
    running = desk.streams.running(stream.name)
    hub = running.source.hub if running is not None and running.source is not None else None
    tracks = hub.configuration.tracks if hub is not None and hub.configuration is not None else ()
    producers = [Producer(track.kind.value, track.codec) for track in tracks]
    kinds = {each.kind for each in producers}
    return OnAirStatus(
        stream_id=stream.name,
        status=_ON_AIR[state] if stream.enabled or running is not None else "DISABLED",
        stream_type="video+audio" if len(kinds) == 2 else next(iter(kinds), "none"),
        producers=producers,
        viewers=desk.audience.of(stream.name),
        since=rfc3339(session.since) if session is not None else None,
    )
