"""``/v1/logs``: the daemon's last log events; ``docs/troubleshooting.md`` explains the parameters."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from ingestd.control.contract import JSON, Routes, ok
from ingestd.control.desk import Desk
from ingestd.control.shapes import Name
from ingestd.log_ring import LEVELS, LogRing

MAX_LIMIT = 10_000

Level = Annotated[str, Meta(pattern=f"^({'|'.join(LEVELS)})$", description="The least important wanted.")]


class LogQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which events of the log."""

    stream: Name | None = None
    level: Level = LEVELS[0]
    limit: Annotated[int, Meta(ge=0, le=MAX_LIMIT)] = 100
    after: Annotated[int, Meta(ge=0, le=2**53, description="Only events after this number.")] | None = None


class LogPage(msgspec.Struct):
    """Oldest first. Go on with `after` = `next`; `lost` were gone before they were asked for."""

    run: str
    next: int
    lost: int
    events: list[dict[str, Any]]


def blueprint(desk: Desk, ring: LogRing) -> Blueprint:
    routes = Routes("logs", "Events and log")

    @routes.get(
        "/v1/logs", "The log's last events", scope="read", query=LogQuery, answers=[ok(LogPage)],
        problems=(404, 503),
    )  # fmt: skip
    async def events(query: LogQuery) -> Response:
        """As many as `log.keep` says are there."""
        if query.stream is not None:
            desk.get(query.stream)
        page = ring.page(after=query.after, limit=query.limit, level=query.level, stream=query.stream)
        head = msgspec.json.encode({"run": ring.run, "next": page.next, "lost": page.lost}).decode()
        # The events are JSON already.
        body = f'{head[:-1]},"events":[{",".join(entry.text for entry in page.entries)}]}}\n'
        response = Response(body, content_type=JSON)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return routes.blueprint
