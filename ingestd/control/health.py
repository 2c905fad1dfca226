"""``/healthz``: the process is alive. ``/readyz``: it may be given work."""

from __future__ import annotations

from quart import Blueprint, Response, jsonify

from ingestd import __version__
from ingestd.control.access import scope
from ingestd.live.streams import Streams


def blueprint(running: Streams) -> Blueprint:
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    @scope(None)
    async def healthz() -> Response:
        return jsonify(status="ok", version=__version__, live=running.live)

    @blueprint.get("/readyz")
    @scope(None)
    async def readyz() -> tuple[Response, int]:
        if running.draining:
            return jsonify(status="draining"), 503
        return jsonify(status="ready"), 200

    return blueprint
