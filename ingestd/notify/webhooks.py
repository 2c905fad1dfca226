"""All outgoing webhooks: from an event of the daemon to a delivery for each endpoint that wants it.

webhooks
 ├ outbox            new deliveries and their progress → database
 ├ retention         deliveries that are over go
 └ one task an endpoint
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import structlog
import trio
from attrs import define, evolve, field
from sqlalchemy import Connection

from ingestd.config import Config, Notify, Webhook
from ingestd.events import Event, Events
from ingestd.notify.endpoint import Endpoint
from ingestd.notify.errors import NoDelivery, NoEndpoint
from ingestd.notify.message import Message, wanted
from ingestd.notify.outbox import BACKOFF, Outbox
from ingestd.registry.database import Database, DatabaseUnavailable
from ingestd.registry.deliveries import (
    abandon_deliveries,
    drop_deliveries,
    find_delivery,
    list_deliveries,
    pending_deliveries,
)
from ingestd.registry.model import Delivery
from ingestd.registry.paging import Page

if TYPE_CHECKING:
    from ingestd.notify.post import Post

log = structlog.get_logger(__name__)

_RETENTION_EVERY = 600.0
_ID = re.compile(r"[A-Za-z0-9._-]{1,200}", re.ASCII)
_NOT_THERE = "ingestd.toml has no such webhook any more"


@define(eq=False)
class Webhooks:
    """Tells *webhooks* what happens in this life of the daemon, *run_id*. *post* makes what sends to one."""

    webhooks: tuple[Webhook, ...]
    config: Notify
    database: Database
    run_id: str
    post: Callable[[Webhook], Post]
    now: Callable[[], float] = time.time
    endpoints: Mapping[str, Endpoint] = field(init=False)
    outbox: Outbox = field(init=False)
    _left: set[str] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(self.database, self._written)
        self.endpoints = {
            webhook.name: Endpoint(webhook, self.config, self.post(webhook), self.outbox.change, self.now)
            for webhook in self.webhooks
        }

    @classmethod
    def of(cls, config: Config, database: Database, events: Events) -> Webhooks:
        """As *config* has them; they hear of *events* from now on, and are told once `run` runs."""

        def post(webhook: Webhook) -> Post:
            from ingestd.notify.guard import Resolver  # and httpcore with it, only where there is a webhook
            from ingestd.notify.post import Poster

            return Poster(webhook, Resolver(config.notify.concurrency))

        made = cls(config.webhooks, config.notify, database, events.run, post)
        events.listen(made.hear)
        return made

    def hear(self, event: Event) -> None:
        """Have each endpoint that wants *event* told of it. Never blocks."""
        message = Message.of(event, self.run_id) if self.endpoints else None
        if message is not None:
            for endpoint in self.endpoints.values():
                if wanted(endpoint.webhook, message):
                    self._offer(endpoint, message)

    async def run(self) -> None:
        """Deliver, without end. What an earlier daemon did not deliver comes first."""
        failures = 0
        while True:
            try:
                await self._take_up()
                break
            except DatabaseUnavailable:
                await trio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
                failures += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.outbox.run)
            nursery.start_soon(self._retain)
            for endpoint in self.endpoints.values():
                nursery.start_soon(endpoint.run)

    def waiting_since(self, endpoint: Endpoint) -> float | None:
        """Since when the one has waited that has waited longest for *endpoint*; None if none does."""
        return min(
            (at for at in (endpoint.waiting_since, self.outbox.new_since(endpoint.name)) if at is not None),
            default=None,
        )

    @property
    def idle(self) -> bool:
        """Whether all is written, and no attempt is under way or could be made now."""
        return not len(self.outbox) and all(endpoint.idle for endpoint in self.endpoints.values())

    async def drain(self, seconds: float) -> None:
        """Wait until it is `idle`, at most *seconds*: for the end, of which endpoints are to hear, too."""
        with trio.move_on_after(seconds):
            while not self.idle:  # noqa: ASYNC110  once, at the very end
                await trio.sleep(0.02)

    async def deliveries(
        self, *, endpoint: str | None = None, state: str | None = None, limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Delivery]:  # fmt: skip
        """The log of deliveries, the newest first. Raises `DatabaseUnavailable` and `BadCursor`."""
        return await self.database.read(
            lambda connection: list_deliveries(
                connection, endpoint=endpoint, state=state, limit=limit, cursor=cursor
            )
        )

    async def delivery(self, identity: str) -> Delivery:
        """The one with that id. Raises `NoDelivery` and `DatabaseUnavailable`."""
        if _ID.fullmatch(identity) is None:  # not all text can be asked for in every database
            raise NoDelivery("no delivery has such an id")
        found = self.outbox.unwritten(identity) or await self.database.read(find_delivery, identity)
        if found is None:
            raise NoDelivery("no delivery has this id; those that are over are kept for notify.keep_for")
        return found

    async def redeliver(self, identity: str) -> Delivery:
        """Send a delivery again, from now on as if it were new; or at once, if it waits for its next attempt.

        Raises `NoDelivery`, `NoEndpoint`, `EndpointBusy` and `DatabaseUnavailable`.
        """
        delivery = await self.delivery(identity)
        endpoint = self._endpoint(delivery.endpoint)
        if delivery.state == "pending":
            if not self.outbox.is_new(identity):
                endpoint.again(delivery)
            return delivery
        endpoint.require_room()
        again = evolve(delivery, state="pending", attempts=0, next_attempt=self.now(), delivered_at=None)
        self.outbox.change(again)
        try:
            await self.outbox.flush()
        except BaseException:  # cancelled, or the database is away: nothing was promised
            self.outbox.change(delivery)
            raise
        endpoint.again(again)
        return again

    def test(self, name: str) -> Delivery:
        """Send a ``webhook.test`` to the endpoint *name*. Raises `NoEndpoint` and `EndpointBusy`."""
        endpoint = self._endpoint(name)
        endpoint.require_room()
        message = Message.test(f"evt_test_{secrets.token_hex(8)}", name, self.now())
        delivery = self._offer(endpoint, message)
        assert delivery is not None  # noqa: S101  there was room
        return delivery

    def _offer(self, endpoint: Endpoint, message: Message) -> Delivery | None:
        if not endpoint.reserve():
            return None
        delivery = Delivery(
            id=f"{message.id}.{endpoint.name}", endpoint=endpoint.name, event_id=message.id,
            type=message.type, body=message.body, created=message.at, next_attempt=message.at,
        )  # fmt: skip
        self.outbox.add(delivery)
        return delivery

    def _written(self, delivery: Delivery) -> None:
        self.endpoints[delivery.endpoint].put(delivery)

    def _endpoint(self, name: str) -> Endpoint:
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            raise NoEndpoint(f'no webhook is called "{name}" in ingestd.toml')
        return endpoint

    async def _take_up(self) -> None:
        """What an earlier daemon left, before anything of this one is written."""
        abandoned = await self.database.run(abandon_deliveries, tuple(self.endpoints), _NOT_THERE)
        if abandoned:
            log.warning("webhooks_abandoned", deliveries=abandoned, cause=_NOT_THERE)
        for endpoint in self.endpoints.values():
            await self._load(endpoint)

    async def _load(self, endpoint: Endpoint) -> None:
        limit = self.config.max_pending
        found = await self.database.read(pending_deliveries, endpoint.name, limit)
        for delivery in found:
            endpoint.take_up(delivery)
        # A daemon with a larger `max_pending` may have left more: the rest comes after these.
        (self._left.add if len(found) == limit else self._left.discard)(endpoint.name)

    async def _retain(self) -> None:
        while True:
            try:
                await self.database.run(self._drop)
                for name in tuple(self._left):
                    if not (len(self.outbox) or self.endpoints[name].pending):
                        await self._load(self.endpoints[name])
            except DatabaseUnavailable as error:
                log.debug("deliveries_not_dropped", cause=str(error))
            await trio.sleep(_RETENTION_EVERY)

    def _drop(self, connection: Connection) -> int:
        return drop_deliveries(connection, self.now() - self.config.keep_for, keep=self.config.keep)
