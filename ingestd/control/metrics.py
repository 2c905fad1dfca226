"""``/metrics``: what the daemon does, for Prometheus. ``docs/metrics.md`` lists all of it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from quart import Blueprint, Response

from ingestd.live.lag import LoopLag
from ingestd.live.metrics import StreamsCollector
from ingestd.live.streams import Streams

#: https://prometheus.io/docs/instrumenting/exposition_formats/
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def blueprint(running: Streams, lag: LoopLag) -> Blueprint:
    blueprint = Blueprint("metrics", __name__)
    registry = CollectorRegistry()
    registry.register(StreamsCollector(running))
    registry.register(lag)
    ProcessCollector(registry=registry)

    @blueprint.get("/metrics")
    async def metrics() -> Response:
        response = Response(generate_latest(registry), content_type=_CONTENT_TYPE)
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint
