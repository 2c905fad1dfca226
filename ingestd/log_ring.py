"""The last log events of the process, numbered, for those who ask over HTTP (``docs/troubleshooting.md``)."""

from __future__ import annotations

import itertools
import json
import secrets
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog
from attrs import define, field, frozen

if TYPE_CHECKING:
    from structlog.typing import EventDict

#: The levels of events, the least important first.
LEVELS: Final = ("debug", "info", "warning", "error", "critical")

MAX_EVENT = 16 * 2**10
"""The longest event that is kept whole, in characters of JSON; of longer ones the short values are."""
_SHORT = 256
_MANY = 24


@frozen(slots=True)
class LogEntry:
    """One event: its *number* (from 1, without gaps), and *text*, the whole of it as a JSON object."""

    number: int
    level: int
    stream: str | None
    text: str


@frozen(slots=True)
class LogPage:
    """What `LogRing.page` found. *next* is the number to go on after; *lost* events before it are gone.

    *lost* counts events of every stream and level: what they were is not known any more.
    """

    entries: tuple[LogEntry, ...]
    next: int
    lost: int


@define(eq=False)
class LogRing:
    """Keeps the last *keep* events. A structlog processor that changes nothing; any thread may log.

    *run* tells one process from the next, in which the numbers begin anew.
    """

    keep: int
    run: str = field(factory=lambda: secrets.token_hex(8))
    _entries: deque[LogEntry] = field(init=False)
    _last: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        self._entries = deque(maxlen=self.keep)

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        """Keep a copy of *event*, with a traceback as data and without local variables."""
        plain = _plain_exception(None, "", dict(event))
        level = str(plain.get("level", "info"))
        stream = plain.get("stream")
        with self._lock:
            number = self._last + 1
            entry = LogEntry(
                number,
                LEVELS.index(level) if level in LEVELS else len(LEVELS) - 1,
                stream if isinstance(stream, str) else None,
                _as_json({"number": number, **plain} | {"number": number}),
            )
            self._entries.append(entry)
            self._last = number
        return event

    @property
    def last(self) -> int:
        """The number of the newest event, or 0 before the first."""
        return self._last

    def page(
        self, *, after: int | None = None, limit: int, level: str = LEVELS[0], stream: str | None = None
    ) -> LogPage:
        """Up to *limit* events of *level* or more (of *stream* only), oldest first.

        The newest ones without *after*; with it those that follow that number, so that asking again
        with the `LogPage.next` of the answer misses none and repeats none. A number that is still to
        come is waited for.
        """
        with self._lock:
            entries, last = tuple(self._entries), self._last
        least = LEVELS.index(level)
        found = (e for e in entries if e.level >= least and (stream is None or e.stream == stream))
        if after is None:
            return LogPage(tuple(deque(found, maxlen=limit)), last, 0)
        oldest = entries[0].number if entries else last + 1
        page = tuple(itertools.islice((e for e in found if e.number > after), limit))
        # A page that is not full has seen all there is, whatever it left out.
        following = page[-1].number if page and len(page) == limit else max(after, last)
        return LogPage(page, following if limit else after, max(0, oldest - 1 - after))


def _as_json(event: EventDict) -> str:
    text = json.dumps(event, default=str)
    if len(text) <= MAX_EVENT:
        return text
    short = [item for item in event.items() if len(json.dumps(item, default=str)) <= _SHORT][:_MANY]
    kept = dict(short)
    cut = [key[:_SHORT] for key in event if key not in kept][:_MANY]
    return json.dumps({**kept, "cut": cut}, default=str)


_plain_exception = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
