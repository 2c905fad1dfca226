"""``/metrics``: what the daemon does, for Prometheus. ``docs/metrics.md`` lists all of it."""

from __future__ import annotations

import trio
from attrs import frozen
from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.registry import Collector
from quart import Blueprint, Response

from ingestd.control.contract import Answer, Routes
from ingestd.live.audience import Audience
from ingestd.live.lag import LoopLag
from ingestd.live.metrics import StreamsCollector
from ingestd.mux.metrics import MuxCollector
from ingestd.mux.service import Mux
from ingestd.notify.metrics import WebhooksCollector
from ingestd.notify.webhooks import Webhooks
from ingestd.registry.metrics import RegistryCollector
from ingestd.registry.registry import Registry

#: https://prometheus.io/docs/instrumenting/exposition_formats/
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_TEXT = Answer(status=200, about="Prometheus' text format.", media="text/plain")


@frozen
class _Found(Collector):
    """Families that were collected already."""

    families: list[Metric]

    def collect(self) -> list[Metric]:
        return self.families


def blueprint(
    audience: Audience, kept: Registry, lag: LoopLag, told: Webhooks, at_mux: Mux | None
) -> Blueprint:
    routes = Routes("metrics", "Health")
    registry = CollectorRegistry()
    registry.register(StreamsCollector(audience))
    registry.register(RegistryCollector(kept))
    registry.register(WebhooksCollector(told))
    registry.register(MuxCollector(at_mux))
    registry.register(lag)
    ProcessCollector(registry=registry)

    @routes.get("/metrics", "For Prometheus", scope="read", answers=[_TEXT])
    async def metrics() -> Response:
        # Read in one go, while nothing else runs; with many streams, writing it down takes longer.
        found = _Found(list(registry.collect()))
        text = await trio.to_thread.run_sync(generate_latest, found)
        response = Response(text, content_type=_CONTENT_TYPE)
        response.headers["Cache-Control"] = "no-store"
        return response

    return routes.blueprint
