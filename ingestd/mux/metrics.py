"""What Prometheus is told of our requests to Mux; ``docs/metrics.md`` has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestd.mux.service import Mux


@define(eq=False)
class MuxCollector(Collector):
    """Looks at *mux* when it is asked; without one the family has no samples."""

    mux: Mux | None

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are all ours."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One sample for each outcome."""
        text = "Requests to Mux's API, each attempt."
        family = CounterMetricFamily("ingestd_mux_requests", text, labels=("outcome",))
        for outcome, count in self.mux.client.outcomes.items() if self.mux is not None else ():
            family.add_metric((outcome,), count)
        yield family
