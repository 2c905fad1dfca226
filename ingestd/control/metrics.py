"""``/metrics``: what the daemon does, for Prometheus. ``docs/metrics.md`` lists all of it."""

from __future__ import annotations

import trio
from attrs import frozen
from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.registry import Collector
from quart import Blueprint, Response

from ingestd.control.access import scope
from ingestd.live.lag import LoopLag
from ingestd.live.metrics import StreamsCollector
from ingestd.live.streams import Streams

#: https://prometheus.io/docs/instrumenting/exposition_formats/
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@frozen
class _Found(Collector):
    """Families that were collected already."""

    families: list[Metric]

    def collect(self) -> list[Metric]:
        return self.families


def blueprint(running: Streams, lag: LoopLag) -> Blueprint:
    blueprint = Blueprint("metrics", __name__)
    registry = CollectorRegistry()
    registry.register(StreamsCollector(running))
    registry.register(lag)
    ProcessCollector(registry=registry)

    @blueprint.get("/metrics")
    @scope("read")
    async def metrics() -> Response:
        # Read in one go, while nothing else runs; with many streams, writing it down takes longer.
        found = _Found(list(registry.collect()))
        text = await trio.to_thread.run_sync(generate_latest, found)
        response = Response(text, content_type=_CONTENT_TYPE)
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint
