"""The outbox: events that endpoints have to be told, and how far that is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import asdict
from sqlalchemy import Connection, delete, select, update

from ingestd.registry import tables
from ingestd.registry.model import Delivery
from ingestd.registry.paging import Page, newest_first
from ingestd.registry.upsert import insert_new

_table = tables.deliveries


def add_deliveries(connection: Connection, deliveries: Iterable[Delivery]) -> int:
    """Store *deliveries*; how many were new: an event is kept once for each endpoint."""
    return sum(insert_new(connection, _table, asdict(delivery)) for delivery in deliveries)


def pending_deliveries(connection: Connection, endpoint: str, limit: int) -> list[Delivery]:
    """At most *limit* that wait for *endpoint*, the oldest first, whether they are due or not."""
    rows = (
        select(_table)
        .where(_table.c.state == "pending", _table.c.endpoint == endpoint)
        .order_by(_table.c.created, _table.c.id)
        .limit(limit)
    )
    return [_delivery(row) for row in connection.execute(rows)]


def abandon_deliveries(connection: Connection, endpoints: Iterable[str], error: str) -> int:
    """Give up what waits for others than *endpoints*, with *error* as the reason; how many that were."""
    gone = _table.c.endpoint.not_in(list(endpoints))
    values = {"state": "failed", "last_error": error}
    return connection.execute(update(_table).where(_table.c.state == "pending", gone).values(values)).rowcount


def change_delivery(connection: Connection, delivery: Delivery) -> bool:
    """Store how far *delivery* is; whether it is still there."""
    row = asdict(delivery)
    del row["id"]
    return connection.execute(update(_table).where(_table.c.id == delivery.id).values(row)).rowcount > 0


def find_delivery(connection: Connection, delivery: str) -> Delivery | None:
    """The delivery with the id *delivery*."""
    row = connection.execute(select(_table).where(_table.c.id == delivery)).one_or_none()
    return _delivery(row) if row else None


def list_deliveries(
    connection: Connection,
    *,
    endpoint: str | None = None,
    state: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Delivery]:
    """Deliveries, the newest first. Raises `BadCursor`."""
    rows = select(_table)
    if endpoint is not None:
        rows = rows.where(_table.c.endpoint == endpoint)
    if state is not None:
        rows = rows.where(_table.c.state == state)
    return newest_first(connection, rows, (_table.c.created, _table.c.id), _delivery, limit, cursor)


def drop_deliveries(connection: Connection, before: float, *, keep: int | None = None) -> int:
    """Remove those that are done and were created before *before*, or are not the newest *keep* done ones.

    How many that were. What is pending stays.
    """
    done = _table.c.state != "pending"
    count = connection.execute(delete(_table).where(done, _table.c.created < before)).rowcount
    if keep is not None:
        newest = select(_table.c.id).where(done).order_by(_table.c.created.desc(), _table.c.id.desc())
        newest = newest.limit(keep)
        count += connection.execute(delete(_table).where(done, _table.c.id.not_in(newest))).rowcount
    return count


def _delivery(row: Any) -> Delivery:
    values = dict(row._mapping)
    values["body"] = bytes(values["body"])
    return Delivery(**values)
