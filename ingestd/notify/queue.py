"""What waits for one endpoint, and in which order it goes. Sans-I/O.

The events of a stream go one after the other. One that has failed `PATIENCE` times lets the next pass: what
a receiver cannot digest must not hold up what comes after it.
"""

from __future__ import annotations

import heapq
from collections import deque

from attrs import define, evolve, field

from ingestd.registry.model import Delivery

#: Attempts for which the next event of the stream waits; with the shipped backoff, two and a half minutes.
PATIENCE = 4


@define(eq=False)
class Item:
    """A *delivery* that waits, or is under way; it is tried *until* then."""

    delivery: Delivery
    stream: str
    until: float
    in_line: bool = True
    under_way: bool = False


@define(eq=False)
class Queue:
    """By id, by stream, and by the time of the next attempt of those that nothing else holds up."""

    _items: dict[str, Item] = field(factory=dict)
    _lines: dict[str, deque[Item]] = field(factory=dict)
    _ready: list[tuple[float, float, str]] = field(factory=list)
    #: How many attempts there are now.
    under_way: int = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, delivery: str) -> bool:
        return delivery in self._items

    @property
    def first_until(self) -> float | None:
        """The earliest *until* of all; None where nothing waits."""
        return min((item.until for item in self._items.values()), default=None)

    def put(self, delivery: Delivery, stream: str, until: float, *, in_line: bool = True) -> None:
        """Have *delivery* wait, *in_line* behind those of its *stream*. One that waits already is not put."""
        if delivery.id in self._items:
            return
        item = Item(delivery, stream, until, in_line and bool(stream) and delivery.attempts < PATIENCE)
        self._items[delivery.id] = item
        if not item.in_line:
            self._arm(item)
            return
        line = self._lines.setdefault(stream, deque())
        line.append(item)
        if len(line) == 1:
            self._arm(item)

    def due(self) -> float | None:
        """When the next attempt is to be made; None where nothing waits for its time."""
        while self._ready and self._stale(self._ready[0]):
            heapq.heappop(self._ready)
        return self._ready[0][0] if self._ready else None

    def take(self, now: float) -> Item | None:
        """The next one whose time has come: it is under way until `again` or `done`."""
        due = self.due()
        if due is None or due > now:
            return None
        item = self._items[heapq.heappop(self._ready)[2]]
        item.under_way = True
        self.under_way += 1
        return item

    def again(self, item: Item, delivery: Delivery) -> None:
        """The attempt failed: *delivery* says when the next is."""
        item.delivery, item.under_way = delivery, False
        self.under_way -= 1
        if item.in_line and delivery.attempts >= PATIENCE:
            self._pass(item)
        self._arm(item)

    def done(self, item: Item) -> None:
        """Nothing more is tried."""
        del self._items[item.delivery.id]
        self.under_way -= 1
        if item.in_line:
            self._pass(item)

    def hurry(self, delivery: str, now: float) -> None:
        """Try it *now*, and hold it up for no other, unless it is under way or not here."""
        item = self._items.get(delivery)
        if item is not None and not item.under_way:
            item.delivery = evolve(item.delivery, next_attempt=now)
            if item.in_line and self._lines[item.stream][0] is not item:
                self._lines[item.stream].remove(item)
                item.in_line = False
            self._arm(item)

    def _arm(self, item: Item) -> None:
        heapq.heappush(self._ready, (item.delivery.next_attempt, item.delivery.created, item.delivery.id))

    def _stale(self, entry: tuple[float, float, str]) -> bool:
        item = self._items.get(entry[2])
        return item is None or item.under_way or item.delivery.next_attempt != entry[0]

    def _pass(self, item: Item) -> None:
        """The first of its line steps out of it."""
        line = self._lines[item.stream]
        line.popleft()
        item.in_line = False
        if line:
            self._arm(line[0])
        else:
            del self._lines[item.stream]
