"""One endpoint: a task that sends what waits for it, and holds up no other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
import trio
from attrs import define, evolve, field

from ingestd.config import Notify, Webhook
from ingestd.credentials import CredentialError, read_signing_secrets
from ingestd.notify.errors import EndpointBusy, Undelivered
from ingestd.notify.message import stream_of
from ingestd.notify.queue import Item, Queue
from ingestd.notify.schedule import Schedule
from ingestd.notify.signature import signed_headers
from ingestd.registry.model import Delivery

if TYPE_CHECKING:
    from ingestd.notify.post import Post

log = structlog.get_logger(__name__)

GONE = 410
#: Seconds after which a wait looks at the clock again, which somebody may have set.
_LONGEST_WAIT = 60.0


@define(eq=False)
class Endpoint:
    """Tells *webhook* what is put here, until it has been told or `retry_for` is over.

    *changed* is told how far each delivery is, after each attempt. *now* is the time in seconds since 1970.
    """

    webhook: Webhook
    config: Notify
    post: Post
    changed: Callable[[Delivery], None]
    now: Callable[[], float] = time.time
    schedule: Schedule = field(init=False)
    queue: Queue = field(factory=Queue)
    attempts: int = 0
    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    failing_since: float | None = None
    last_error: str | None = None
    _unwritten: int = 0
    _full: bool = False
    _wake: trio.Event = field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.schedule = Schedule(self.config)

    @property
    def name(self) -> str:
        return self.webhook.name

    @property
    def origin(self) -> str:
        """Where it is, without what may be a secret: the path and the query."""
        parts = urlsplit(self.webhook.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def pending(self) -> int:
        """How many deliveries wait or are under way, those not written yet included."""
        return self._unwritten + len(self.queue)

    @property
    def waiting_since(self) -> float | None:
        """Since when the one has waited here that has waited longest; one that is sent again begins anew."""
        until = self.queue.first_until
        return None if until is None else until - self.config.retry_for

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, or could be at once."""
        due = self.queue.due()
        return not (self._unwritten or self.queue.under_way) and (due is None or due > self.now())

    def reserve(self) -> bool:
        """Make room for one more, which `put` brings once it is written; else it is dropped: False."""
        if self.pending < self.config.max_pending:
            self._full = False
            self._unwritten += 1
            return True
        self.dropped += 1
        if not self._full:
            self._full = True
            log.error("webhook_full", endpoint=self.name, pending=self.pending, cause=self.last_error)
        return False

    def put(self, delivery: Delivery) -> None:
        """Send *delivery*, which is in the outbox now, and for which there is room."""
        self._unwritten -= 1
        self.take_up(delivery)

    def take_up(self, delivery: Delivery) -> None:
        """Send *delivery*, which an earlier daemon left in the outbox."""
        self.queue.put(delivery, stream_of(delivery.body), delivery.created + self.config.retry_for)
        self._wake.set()

    def again(self, delivery: Delivery) -> None:
        """Send *delivery* once more, which was over; or at once, if it waits."""
        if delivery.id in self.queue:
            self.queue.hurry(delivery.id, self.now())
        else:
            self.queue.put(delivery, "", self.now() + self.config.retry_for, in_line=False)
        self._wake.set()

    def require_room(self) -> None:
        """Raise `EndpointBusy` when as much waits as may."""
        if self.pending >= self.config.max_pending:
            raise EndpointBusy(f'{self.pending} events wait for webhook "{self.name}"; try again later')

    async def run(self) -> None:
        """Send, without end; at most `concurrency` at a time."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                while self.queue.under_way < self.config.concurrency:
                    item = self.queue.take(self.now())
                    if item is None:
                        break
                    nursery.start_soon(self._attempt, item)
                wait = _LONGEST_WAIT
                due = self.queue.due()
                if due is not None and self.queue.under_way < self.config.concurrency:
                    wait = min(max(0.0, due - self.now()), wait)
                with trio.move_on_after(wait):
                    await self._wake.wait()

    async def _attempt(self, item: Item) -> None:
        """One attempt, and what follows from it. Cancelled, it counts as not made."""
        delivery = item.delivery
        status, asked, error = None, None, None
        try:
            secrets = read_signing_secrets(self.webhook.secret_file)
            headers = signed_headers(delivery.event_id, self.now(), delivery.body, secrets)
            answer = await self.post(headers, delivery.body)
        except CredentialError as failure:
            error = f"secret_file: {failure}"
        except Undelivered as failure:
            error = str(failure)
        else:
            status, asked = answer.status, answer.retry_after
            error = None if 200 <= status < 300 else _refusal(status)
        self.attempts += 1
        delivery = evolve(
            delivery, attempts=delivery.attempts + 1, last_status=status, last_error=error and error[:500]
        )
        if error is None:
            self._succeeded(item, delivery)
        else:
            self._failed(item, delivery, error, asked)
        self._wake.set()

    def _succeeded(self, item: Item, delivery: Delivery) -> None:
        self.delivered += 1
        self._finish(item, evolve(delivery, state="delivered", delivered_at=self.now()))
        log.debug("webhook_delivered", endpoint=self.name, delivery=delivery.id, type=delivery.type)
        if self.failing_since is not None:
            seconds = round(self.now() - self.failing_since, 1)
            self.failing_since = self.last_error = None
            log.info("webhook_recovered", endpoint=self.name, seconds=seconds)

    def _failed(self, item: Item, delivery: Delivery, error: str, asked: float | None) -> None:
        now = self.now()
        self.last_error = error
        due = self.schedule.next(delivery.attempts, now, item.until, asked)
        if delivery.last_status == GONE:
            due = None
        if self.failing_since is None:
            self.failing_since = now
            log.warning("webhook_failing", endpoint=self.name, delivery=delivery.id, type=delivery.type,
                        cause=error)  # fmt: skip
        if due is None:
            self.failed += 1
            self._finish(item, evolve(delivery, state="failed"))
            log.error("webhook_given_up", endpoint=self.name, delivery=delivery.id, type=delivery.type,
                      attempts=delivery.attempts, cause=error)  # fmt: skip
            return
        delivery = evolve(delivery, next_attempt=due)
        self.queue.again(item, delivery)
        self.changed(delivery)
        log.debug("webhook_retrying", endpoint=self.name, delivery=delivery.id, attempt=delivery.attempts,
                  delay_s=round(due - now, 1), cause=error)  # fmt: skip

    def _finish(self, item: Item, delivery: Delivery) -> None:
        self.queue.done(item)
        self.changed(delivery)


def _refusal(status: int) -> str:
    if status == GONE:
        return "answered 410: it does not want this event any more"
    if 300 <= status < 400:
        return f"answered {status}: redirects are not followed; expected 2xx, so give the final URL"
    return f"answered {status}; expected 2xx"
