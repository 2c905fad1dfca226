"""What Prometheus is told of the registry, read at the moment of the scrape; ``docs/metrics.md`` has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestd.registry.registry import Registry


@define(eq=False)
class RegistryCollector(Collector):
    """Looks at *registry* when it is asked."""

    registry: Registry

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are all ours."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family, one sample each."""
        registry = self.registry
        told = registry.ledger.statistics()
        up = registry.database.opened and registry.database.trouble is None
        yield GaugeMetricFamily("ingestd_database_up", "Whether the database answered the last call.", up)
        yield GaugeMetricFamily(
            "ingestd_registered_streams", "Streams, declared ones included.", len(registry.directory)
        )
        yield GaugeMetricFamily("ingestd_ledger_pending_rows", "Rows that wait for the database.", told.depth)
        yield CounterMetricFamily("ingestd_ledger_written_rows", "Rows that it has taken.", told.written)
        yield CounterMetricFamily("ingestd_ledger_dropped_rows", "Rows that were given up.", told.dropped)
