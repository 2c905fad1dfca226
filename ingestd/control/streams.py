"""``/v1/streams``: what is declared, what is live, and how each sink stands."""

from __future__ import annotations

from quart import Blueprint, Response, jsonify

from ingestd.live.status import stream_status
from ingestd.live.streams import Streams


def blueprint(running: Streams) -> Blueprint:
    blueprint = Blueprint("streams", __name__, url_prefix="/v1/streams")
    config = running.config

    @blueprint.get("")
    async def listing() -> Response:
        return jsonify(
            streams=[
                stream_status(config.streams[name], running.sessions.get(name)) for name in running.names
            ]
        )

    @blueprint.get("/<name>")
    async def show(name: str) -> tuple[Response, int]:
        stream = config.streams.get(name)
        if stream is None:
            body = jsonify(
                type="about:blank", title="Not Found", status=404, detail=f'no stream is called "{name}"'
            )
            body.content_type = "application/problem+json"  # RFC 9457
            return body, 404
        return jsonify(stream_status(stream, running.sessions.get(name))), 200

    return blueprint
