"""The outbox: each event is in the database before it is sent, and so is how far it is after each attempt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
import trio
from attrs import define, field
from sqlalchemy import Connection

from ingestd.registry.database import Database, DatabaseUnavailable
from ingestd.registry.deliveries import add_deliveries, change_delivery
from ingestd.registry.model import Delivery

log = structlog.get_logger(__name__)

#: Seconds before the attempts that follow a failure; then the last one again and again.
BACKOFF = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
_BATCH = 200


@define(eq=False)
class Outbox:
    """On the way to *database*: new deliveries, in their order, and the newest state of those that changed.

    Both are bounded by what may wait for the endpoints. *written* is told of each new one that is stored.
    """

    database: Database
    written: Callable[[Delivery], None]
    _new: dict[str, Delivery] = field(factory=dict)
    _changed: dict[str, Delivery] = field(factory=dict)
    _turn: trio.Lock = field(factory=trio.Lock)
    _wake: trio.Event = field(factory=trio.Event)

    def __len__(self) -> int:
        return len(self._new) + len(self._changed)

    def add(self, delivery: Delivery) -> None:
        """Store a new one soon."""
        self._new[delivery.id] = delivery
        self._wake.set()

    def change(self, delivery: Delivery) -> None:
        """Store soon how far one is."""
        self._changed[delivery.id] = delivery
        self._wake.set()

    def is_new(self, delivery: str) -> bool:
        """Whether it is not stored yet."""
        return delivery in self._new

    def new_since(self, endpoint: str) -> float | None:
        """When the oldest for *endpoint* was made that is not stored yet."""
        return next((each.created for each in self._new.values() if each.endpoint == endpoint), None)

    def unwritten(self, delivery: str) -> Delivery | None:
        """The one with that id as it is to be stored; None if the database has its newest state."""
        return self._changed.get(delivery) or self._new.get(delivery)

    async def run(self) -> None:
        """Write what comes, without end; where the database is away, try until it is back."""
        failures = 0
        while True:
            self._wake = trio.Event()
            try:
                await self.flush()
                failures = 0
            except DatabaseUnavailable as error:
                if not failures:
                    log.warning("outbox_waiting", waiting=len(self), cause=str(error))
                await trio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
                failures += 1
                continue
            await self._wake.wait()

    async def flush(self) -> None:
        """Write all that waits. Raises `DatabaseUnavailable`: what is left then still waits."""
        async with self._turn:
            while self._new or self._changed:
                new = list(self._new.values())[:_BATCH]
                changed = list(self._changed.values())[:_BATCH]
                await self.database.run(_store, new, changed)
                for delivery in changed:
                    if self._changed.get(delivery.id) is delivery:
                        del self._changed[delivery.id]
                for delivery in new:
                    del self._new[delivery.id]
                    self.written(delivery)


def _store(connection: Connection, new: Sequence[Delivery], changed: Sequence[Delivery]) -> None:
    add_deliveries(connection, new)
    for delivery in changed:
        change_delivery(connection, delivery)
