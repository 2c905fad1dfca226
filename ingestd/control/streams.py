"""``/v1/streams``: what is declared, what is live, and how each sink stands."""

from __future__ import annotations

from quart import Blueprint, Response, jsonify

from ingestd.control.access import scope
from ingestd.control.errors import not_found
from ingestd.live.status import stream_status
from ingestd.live.streams import Streams


def blueprint(running: Streams) -> Blueprint:
    blueprint = Blueprint("streams", __name__, url_prefix="/v1/streams")

    @blueprint.get("")
    @scope("read")
    async def listing() -> Response:
        return jsonify(
            streams=[stream_status(stream, running.sessions.get(stream.name)) for stream in running.directory]
        )

    @blueprint.get("/<name>")
    @scope("read")
    async def show(name: str) -> Response:
        stream = running.directory.get(name)
        if stream is None:
            return not_found(f'no stream is called "{name}"')
        return jsonify(stream_status(stream, running.sessions.get(name)))

    @blueprint.after_request
    async def fresh(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint
