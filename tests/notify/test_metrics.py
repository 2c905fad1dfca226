"""What Prometheus is told of webhooks: by endpoint, from what it is asked for to what became of it."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve
from prometheus_client import CollectorRegistry

from ingestd.notify.metrics import WebhooksCollector
from ingestd.notify.webhooks import Webhooks
from ingestd.registry.database import Database
from tests.notify.tools import QUICK, Receiver, Reply, away, eventually, receiving, telling, until, webhook


def told_of(webhooks: Webhooks, name: str, endpoint: str = "app", **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(WebhooksCollector(webhooks))
    return registry.get_sample_value(f"ingestd_webhook_{name}", {"endpoint": endpoint, **labels})


async def test_deliveries_are_counted_by_endpoint_and_result(tmp_path: Path, database: Database) -> None:
    """One endpoint takes the second attempt, the other wants nothing (410)."""
    answers = iter([Reply(500), Reply(200)])
    async with (
        receiving(Receiver(lambda _request: next(answers))) as good,
        receiving(Receiver(lambda _request: Reply(410))) as gone,
        telling(database, webhook(tmp_path, good), webhook(tmp_path, gone, name="gone")) as (told, events),
    ):
        assert told_of(told, "deliveries_total", result="delivered") == 0
        events.tell("stream.live", "cam")
        await until(told, "delivered")
        await until(told, "failed")
        assert told_of(told, "deliveries_total", result="delivered") == 1
        assert told_of(told, "attempts_total") == 2
        assert told_of(told, "failing") == 0
        assert told_of(told, "deliveries_total", "gone", result="failed") == 1
        assert told_of(told, "failing", "gone") == 1
        for endpoint in ("app", "gone"):
            assert told_of(told, "pending", endpoint) == 0
            assert told_of(told, "oldest_pending_age_seconds", endpoint) == 0


async def test_the_oldest_that_waits_has_its_age(tmp_path: Path, database: Database) -> None:
    """Also while the database is away; what finds no room is dropped; one sent again begins anew."""
    clock = [1_000.0]
    notify = evolve(QUICK, max_pending=10, backoff=(3600.0,))
    async with (
        receiving(Receiver(lambda _request: Reply(500))) as url,
        telling(database, webhook(tmp_path, url), notify=notify) as (told, events),
    ):
        told.now = lambda: clock[0]
        for endpoint in told.endpoints.values():
            endpoint.now = told.now
        async with away(database):
            first = told.test("app")
            clock[0] += 30
            for _ in range(9):
                told.test("app")
            assert told_of(told, "oldest_pending_age_seconds") == 30
            assert told_of(told, "pending") == 10
            events.tell("stream.live", "cam")
            assert told_of(told, "dropped_total") == 1
        await eventually(lambda: told.endpoints["app"].attempts == 10)
        clock[0] += 70
        assert told_of(told, "oldest_pending_age_seconds") == 100
        clock[0] += notify.retry_for
        await told.redeliver(first.id)  # which has the others looked at, too
        await until(told, "failed", 10)
        assert told_of(told, "deliveries_total", result="failed") == 10
        await told.redeliver(first.id)
        await eventually(lambda: told.endpoints["app"].attempts == 21)
        clock[0] += 5
        assert told_of(told, "pending") == 1
        assert told_of(told, "oldest_pending_age_seconds") == 5
