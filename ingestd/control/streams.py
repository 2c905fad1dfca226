"""``/v1/streams``: make streams, list and show them, change and delete them, and steer their sessions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import msgspec
from quart import Blueprint, Response
from sqlalchemy import Connection

from ingestd.auth.authority import Authority
from ingestd.control import idempotency
from ingestd.control.access import who
from ingestd.control.contract import Answer, Routes, ok
from ingestd.control.desk import Desk
from ingestd.control.errors import Refusal
from ingestd.control.links import Links
from ingestd.control.shapes import (
    CreatedStream,
    NewSimulcast,
    NewStream,
    RateList,
    RateTold,
    SimulcastList,
    SimulcastTold,
    StreamChange,
    StreamList,
    StreamListing,
)
from ingestd.control.validation import wrong
from ingestd.live.rates import EVERY
from ingestd.live.shapes import StreamStatus
from ingestd.live.status import rfc3339, stream_status
from ingestd.mux.model import SimulcastTarget
from ingestd.registry.model import Policy, Stream
from ingestd.registry.paging import BadCursor, decode_cursor, encode_cursor
from ingestd.sinks.push import masked_url

SHOWN = ok(StreamStatus, "The stream as it is now.")


class Telling:
    """Tells what is known of streams, with the links that lead to them."""

    def __init__(self, desk: Desk, links: Links, authority: Authority) -> None:
        self.links = links
        self._desk = desk
        self._authority = authority

    def status(self, stream: Stream) -> StreamStatus:
        """The stream, its session, and where it plays."""
        session = self._desk.streams.sessions.get(stream.name)
        status = stream_status(stream, session, self._desk.audience.of(stream.name))
        if status["mux"] is not None:
            status["mux"].update(self._desk.at_mux.standing(stream))  # type: ignore[typeddict-item]
        if self._desk.has_hls(stream):
            url = self.links.playlist(stream.name)
            # Told as a playback of the daemon's own: it needs no id but the name.
            status["playback"].insert(
                0, {"id": stream.name, "provider": "ingestd", "policy": self.policy, "url": url}
            )
        return status

    @property
    def policy(self) -> Policy:
        """Whether who watches what the daemon serves needs more than a link."""
        return "public" if self._authority.config.playback == "open" else "signed"

    def created(self, stream: Stream, key: str) -> CreatedStream:
        """The stream with its key."""
        return {**self.status(stream), "key": key, "ingest_url": self.links.publish(key)}


def blueprint(desk: Desk, telling: Telling) -> Blueprint:
    routes = Routes("streams", "Streams")
    created = Answer(
        status=201,
        about="It is made. `key` is told here only.",
        body=CreatedStream,
        headers={"Location": "Where it is.", "Idempotency-Replayed": "That this was answered before."},
    )

    @routes.get("/v1/streams", "List streams", scope="read", query=StreamListing, answers=[ok(StreamList)])
    async def listing(query: StreamListing) -> StreamList:
        """By name: those that `ingestd.toml` declares, and those made here."""
        after = _after(query.cursor)
        found: list[StreamStatus] = []
        complete = desk.registry.directory.loaded
        for stream in desk.registry.directory:
            if stream.name > after and _is_wanted(stream, query):
                status = telling.status(stream)
                if query.state and status["state"] not in query.state:
                    continue
                if len(found) == query.limit:
                    return StreamList(found, encode_cursor([found[-1]["name"]]), complete)
                found.append(status)
        return StreamList(found, complete=complete)

    @routes.post(
        "/v1/streams", "Make a stream", scope="publish", body=NewStream, answers=[created],
        problems=(409, 502, 503), headers={idempotency.HEADER: idempotency.ABOUT}, creates=True,
    )  # fmt: skip
    async def create(body: NewStream) -> Response:
        """Its publish key is made up, told in this answer and kept as a hash. Send an `Idempotency-Key`, and
        a request whose answer was lost can be sent again.
        """

        async def work(keep: idempotency.Keep) -> tuple[int, bytes]:
            answer = b""

            def also(stream: Stream, key: str) -> Callable[[Connection], None]:
                nonlocal answer
                answer = encoded(telling.created(stream, key))
                return partial(keep, status=201, body=answer)

            await desk.create(body, who(), also)
            return 201, answer

        asked = msgspec.json.encode(body, order="sorted")
        status, told, again = await idempotency.once(desk.registry.database, who().name, asked, work)
        response = idempotency.as_told(status, told, again=again)
        response.headers["Location"] = f"/v1/streams/{msgspec.json.decode(told)['name']}"
        return response

    @routes.get("/v1/streams/<name>", "Show a stream", scope="read", answers=[SHOWN], problems=(404, 503))
    async def show(name: str) -> StreamStatus:
        """One that was not published since the daemon started is `idle`; then it shows its last session."""
        return telling.status(desk.get(name))

    @routes.get(
        "/v1/streams/<name>/rates", "How fast its media came in", scope="read", answers=[ok(RateList)],
        problems=(404, 503),
    )  # fmt: skip
    async def rates(name: str) -> RateList:
        """In the last five minutes: for graphs."""
        session = desk.streams.running(desk.get(name).name)
        found = desk.streams.rates.of(session) if session is not None else ()
        told = [RateTold(rfc3339(rate.at), round(rate.bitrate), round(rate.fps, 1)) for rate in found]
        return RateList(session.id if session is not None else None, EVERY, told)

    @routes.route(
        "patch", "/v1/streams/<name>", "Change a stream", scope="admin", body=StreamChange, answers=[SHOWN],
        problems=(404, 409, 503),
    )  # fmt: skip
    async def change(name: str, body: StreamChange) -> StreamStatus:
        """A session that runs goes on with the pipeline that it was begun with. Targets act at once: a sink
        that has another one begins anew.
        """
        return telling.status(await desk.change(name, body))

    gone = Answer(status=204, about="It is gone.", media=None)

    @routes.route(
        "delete", "/v1/streams/<name>", "Delete a stream", scope="admin", answers=[gone],
        problems=(404, 409, 502, 503),
    )  # fmt: skip
    async def delete(name: str) -> tuple[None, int]:
        """Its session ends; its past sessions, recordings and playlists stay."""
        await desk.delete(name)
        return None, 204

    @routes.post(
        "/v1/streams/<name>/enable", "Let it be published", scope="admin", answers=[SHOWN],
        problems=(404, 502, 503),
    )  # fmt: skip
    async def enable(name: str) -> StreamStatus:
        """Undoes `disable`."""
        return telling.status(await desk.enable(name, enabled=True))

    @routes.post(
        "/v1/streams/<name>/disable", "Let nobody publish it", scope="admin", answers=[SHOWN],
        problems=(404, 502, 503),
    )  # fmt: skip
    async def disable(name: str) -> StreamStatus:
        """Its session ends with close code 4423, and publishers are refused with that."""
        return telling.status(await desk.enable(name, enabled=False))

    @routes.post(
        "/v1/streams/<name>/reset-key", "Give it another publish key", scope="admin",
        answers=[ok(CreatedStream, "The new key is told here only.")], problems=(404, 409, 502, 503),
    )  # fmt: skip
    async def reset_key(name: str) -> CreatedStream:
        """The old key is refused from now on, and whoever publishes with it is thrown out (4401)."""
        return telling.created(*await desk.reset_key(name))

    @routes.post(
        "/v1/streams/<name>/stop", "End its session", scope="publish", answers=[SHOWN],
        problems=(404, 409, 503),
    )  # fmt: skip
    async def stop(name: str) -> StreamStatus:
        """In order: what was sent is finished. The publisher is told 1000, and may begin another session."""
        return telling.status(desk.stop(name))

    @routes.post(
        "/v1/streams/<name>/sinks/<sink>/restart", "Begin a sink anew", scope="admin", answers=[SHOWN],
        problems=(404, 409, 503),
    )  # fmt: skip
    async def restart(name: str, sink: str) -> StreamStatus:
        """Its FFmpeg is ended and begun again at once, as if it had not failed before."""
        return telling.status(desk.restart(name, sink))

    @routes.get(
        "/v1/streams/<name>/simulcast", "Where Mux pushes it on", scope="read", answers=[ok(SimulcastList)],
        problems=(404, 409, 502, 503),
    )  # fmt: skip
    async def simulcast(name: str) -> SimulcastList:
        """As Mux says now; 409 for a stream without a live stream there."""
        return SimulcastList([_target_told(each) for each in await desk.at_mux.simulcast(desk.get(name))])

    @routes.post(
        "/v1/streams/<name>/simulcast", "Have Mux push it on", scope="admin", body=NewSimulcast,
        answers=[Answer(status=201, about="It is a target at Mux.", body=SimulcastTold)],
        problems=(404, 409, 502, 503),
    )  # fmt: skip
    async def add_simulcast(name: str, body: NewSimulcast) -> tuple[SimulcastTold, int]:
        """Only a stream with a live stream at Mux, and only while nothing is being pushed there."""
        if _shown(body.url) is None:
            raise wrong("url", 'expected a URL like "rtmps://live.example.org/app"')
        made = await desk.at_mux.add_simulcast(desk.get(name), body.url, body.key)
        return _target_told(made), 201

    @routes.route(
        "delete", "/v1/streams/<name>/simulcast/<target>", "Have Mux push it on no more", scope="admin",
        answers=[gone], problems=(404, 409, 502, 503),
    )  # fmt: skip
    async def remove_simulcast(name: str, target: str) -> tuple[None, int]:
        """Only while nothing is being pushed."""
        await desk.at_mux.remove_simulcast(desk.get(name), target)
        return None, 204

    return routes.blueprint


def _target_told(target: SimulcastTarget) -> SimulcastTold:
    return SimulcastTold(target.id, target.status, _shown(target.url))


def _shown(url: str) -> str | None:
    try:
        return masked_url(url) if urlsplit(url).hostname else None
    except ValueError:  # like rtmp://[x
        return None


def encoded(told: object) -> bytes:
    """As the API writes JSON."""
    return msgspec.json.encode(told) + b"\n"


def _after(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        return str(decode_cursor(cursor, str)[0])
    except BadCursor as error:
        raise Refusal(400, f"cursor: {error}") from None


def _is_wanted(stream: Stream, query: StreamListing) -> bool:
    if query.pipeline is not None and stream.pipeline != query.pipeline:
        return False
    wanted = query.q.casefold()
    if wanted and wanted not in stream.name and wanted not in stream.title.casefold():
        return False
    for label in query.label:
        key, equals, value = label.partition("=")
        if key not in stream.labels or (equals and stream.labels[key] != value):
            return False
    return True
