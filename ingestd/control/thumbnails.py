"""``/v1/streams/{name}/thumbnail.jpg``: what a stream shows now."""

from __future__ import annotations

from quart import Blueprint, Response

from ingestd.control.contract import Answer, Routes
from ingestd.control.desk import Desk
from ingestd.control.errors import Refusal
from ingestd.live.thumbnail import MAX_AGE, NoPicture, PictureFailed, Thumbnails


def blueprint(desk: Desk) -> Blueprint:
    routes = Routes("thumbnails", "Streams")
    thumbnails = Thumbnails(desk.streams.ffmpeg)

    @routes.get(
        "/v1/streams/<name>/thumbnail.jpg", "What it shows now", scope="read",
        answers=[Answer(status=200, about="The newest keyframe.", media="image/jpeg")], problems=(404, 503),
    )  # fmt: skip
    async def thumbnail(name: str) -> Response:
        """At most 640 pixels wide, and up to 5 s old. 404 while the stream is not live."""
        desk.get(name)
        session = desk.streams.running(name)
        if session is None or session.source is None:
            raise Refusal(404, "this stream is not live")
        hub = session.program if session.program is not None else session.source.hub
        try:
            try:
                jpeg = await thumbnails.of(f"{name} {session.id}", hub)
            except NoPicture:
                # The encoder has yet to come to its first keyframe.
                jpeg = await thumbnails.of(f"{name} {session.id}", session.source.hub)
        except NoPicture as error:
            raise Refusal(404, str(error)) from None
        except PictureFailed as error:
            raise Refusal(503, str(error), retry_after=MAX_AGE) from None
        response = Response(jpeg, content_type="image/jpeg")
        response.headers["Cache-Control"] = f"private, max-age={MAX_AGE:.0f}"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return routes.blueprint
