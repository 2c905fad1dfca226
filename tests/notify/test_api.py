"""``/v1/webhooks``, over the application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from quart_trio import QuartTrio

from ingestd.control.failures import handle_failures
from ingestd.control.webhooks import blueprint
from ingestd.events import Events
from ingestd.names import NAME_EXPECTED
from ingestd.notify.webhooks import Webhooks
from ingestd.registry.database import Database
from ingestd.registry.paging import BadCursor
from tests.notify.tools import Receiver, Reply, away, receiving, telling, until, webhook

UNKNOWN = "no delivery has this id; those that are over are kept for notify.keep_for"


@asynccontextmanager
async def serving(
    database: Database, directory: Path, url: str
) -> AsyncIterator[tuple[Any, Webhooks, Events]]:
    async with telling(database, webhook(directory, url)) as (told, events):
        app = QuartTrio("test")
        handle_failures(app)
        app.register_blueprint(blueprint(told))
        yield app.test_client(), told, events


async def test_endpoints(tmp_path: Path, database: Database) -> None:
    """Who they are and how they stand; neither secrets nor what of the URL may be one."""
    async with receiving(Receiver(lambda _request: Reply(500))) as base:
        url = f"{base}/t0ken?key=k"
        async with serving(database, tmp_path, url) as (client, told, events):
            events.tell("stream.live", "cam")
            await until(told, "pending")
            response = await client.get("/v1/webhooks")
            [endpoint] = (await response.get_json())["webhooks"]
            assert (endpoint["name"], endpoint["origin"]) == ("app", base.removesuffix("/hook"))
            assert endpoint["pending"] == 1
            text = await response.get_data(as_text=True)
            assert "t0ken" not in text
            assert str(tmp_path) not in text
            assert response.headers["cache-control"] == "no-store"


async def test_the_life_of_a_delivery(tmp_path: Path, database: Database) -> None:
    """A test is sent, found in the log, looked at, and sent once more."""
    receiver = Receiver()
    async with receiving(receiver) as url, serving(database, tmp_path, url) as (client, told, _):
        response = await client.post("/v1/webhooks/app/test")
        assert response.status_code == 202
        sent = await response.get_json()
        assert (sent["state"], sent["type"], sent["attempts"]) == ("pending", "webhook.test", 0)
        await until(told, "delivered")
        listing = await (await client.get("/v1/webhooks/deliveries?state=delivered&endpoint=app")).get_json()
        [listed] = listing["deliveries"]
        assert listed["id"] == sent["id"]
        assert (listed["last_status"], listed["next_attempt"], "next" in listing) == (204, None, False)
        path = f"/v1/webhooks/deliveries/{sent['id']}"
        assert await (await client.get(path)).get_json() == listed
        assert (await client.post(f"{path}/redeliver")).status_code == 202
        await receiver.wait_for(2)
        assert receiver.ids == [sent["event_id"]] * 2


async def test_who_may(tmp_path: Path, database: Database) -> None:
    """Looking needs ``read``, sending ``admin``."""
    async with serving(database, tmp_path, "https://app.example.org") as (client, _, _events):
        views = client.app.view_functions
        needed = {
            name.partition(".")[2]: view.__scope__ for name, view in views.items() if "webhooks." in name
        }
    assert needed == {
        "endpoints": "read", "deliveries": "read", "show": "read", "redeliver": "admin", "test": "admin",
    }  # fmt: skip


async def test_pages(tmp_path: Path, database: Database) -> None:
    async with receiving(Receiver()) as url, serving(database, tmp_path, url) as (client, told, events):
        for _ in range(3):
            events.tell("stream.live", "cam")
        await until(told, "delivered", 3)
        first = await (await client.get("/v1/webhooks/deliveries?limit=2")).get_json()
        second = await (
            await client.get(f"/v1/webhooks/deliveries?limit=2&cursor={first['next']}")
        ).get_json()
        assert [len(page["deliveries"]) for page in (first, second)] == [2, 1]
        assert "next" not in second


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/deliveries?limit=0", 400, "limit: expected a whole number from 1 to 1000"),
        ("GET", "/deliveries?limit=x", 400, "limit: expected a whole number from 1 to 1000"),
        ("GET", "/deliveries?limit=1001", 400, "limit: expected a whole number from 1 to 1000"),
        ("GET", "/deliveries?state=lost", 400, "state: expected one of pending, delivered, failed"),
        ("GET", "/deliveries?cursor=x", 400, f"cursor: {BadCursor()}"),
        ("GET", "/deliveries?endpoint=%00", 400, f"endpoint: {NAME_EXPECTED}"),
        ("GET", "/deliveries/a%00", 404, "no delivery has such an id"),
        ("GET", "/deliveries/none", 404, UNKNOWN),
        ("POST", "/deliveries/none/redeliver", 404,
         UNKNOWN),
        ("POST", "/nobody/test", 404, 'no webhook is called "nobody" in ingestd.toml'),
    ],
)  # fmt: skip
async def test_what_is_answered_to_mistakes(
    tmp_path: Path, database: Database, method: str, path: str, status: int, detail: str
) -> None:
    async with receiving(Receiver()) as url, serving(database, tmp_path, url) as (client, _, _events):
        response = await client.open(f"/v1/webhooks{path}", method=method)
        body = await response.get_json(force=True)
        assert (response.status_code, body["detail"]) == (status, detail)
        assert response.content_type == "application/problem+json"


async def test_the_database_is_away(tmp_path: Path, database: Database) -> None:
    """503, and when to come again."""
    async with receiving(Receiver()) as url, serving(database, tmp_path, url) as (client, told, events):
        events.tell("stream.live", "cam")
        [done] = await until(told, "delivered")
        async with away(database):
            response = await client.post(f"/v1/webhooks/deliveries/{done.id}/redeliver")
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
