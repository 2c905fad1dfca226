"""What Prometheus is told of webhooks, read at the moment of the scrape; ``docs/metrics.md`` has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestd.notify.webhooks import Webhooks

_LABELS = ("endpoint",)


@define(eq=False)
class WebhooksCollector(Collector):
    """Looks at *webhooks* when it is asked."""

    webhooks: Webhooks

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are all ours."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family, with a sample for each endpoint."""
        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        settled = counter("ingestd_webhook_deliveries", "Those that are over.", labels=(*_LABELS, "result"))
        attempts = counter("ingestd_webhook_attempts", "Requests that were made.", labels=_LABELS)
        dropped = counter("ingestd_webhook_dropped", "Events for which there was no room.", labels=_LABELS)
        pending = gauge("ingestd_webhook_pending", "Deliveries that wait, or are under way.", labels=_LABELS)
        oldest = gauge(
            "ingestd_webhook_oldest_pending_age_seconds", "Of the one that waits longest.", labels=_LABELS
        )
        failing = gauge("ingestd_webhook_failing", "1 if the last attempt failed.", labels=_LABELS)
        now = self.webhooks.now()
        for name, endpoint in self.webhooks.endpoints.items():
            settled.add_metric((name, "delivered"), endpoint.delivered)
            settled.add_metric((name, "failed"), endpoint.failed)
            attempts.add_metric((name,), endpoint.attempts)
            dropped.add_metric((name,), endpoint.dropped)
            pending.add_metric((name,), endpoint.pending)
            since = self.webhooks.waiting_since(endpoint)
            oldest.add_metric((name,), 0.0 if since is None else max(0.0, now - since))
            failing.add_metric((name,), endpoint.failing_since is not None)
        yield from (settled, attempts, dropped, pending, oldest, failing)
