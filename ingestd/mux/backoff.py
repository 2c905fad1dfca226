"""How long to wait before a request is sent again: exponential with full jitter, or what the server says.

The jitter is that of "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015): anything from 0 to
the bound, so that many clients that failed together do not come back together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from attrs import frozen

#: Seconds: the bound after the first failure, the largest bound, and the longest wait a server may ask for.
FIRST, LARGEST, LONGEST = 0.5, 8.0, 60.0

_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


@frozen(slots=True, kw_only=True)
class Backoff:
    """*random* gives a number from 0 up to, without, 1."""

    random: Callable[[], float]
    first: float = FIRST
    largest: float = LARGEST
    longest: float = LONGEST

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """Seconds to wait after *failures* in a row (from 1); never less than *retry_after* asks for.

        What was asked for is capped at *longest*. The jitter comes on top of it: it was said to all.
        """
        bound = min(self.largest, self.first * 2.0 ** min(failures - 1, 30))
        jitter = self.random() * bound
        return jitter if retry_after is None else min(retry_after, self.longest) + jitter


def retry_after(value: str | None, now: float) -> float | None:
    """The seconds that ``Retry-After`` asks for (RFC 9110, 10.2.3): a number, or a date against *now*.

    *now* is in seconds since 1970. None for no header, or one that is neither.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    date = http_date(text)
    return None if date is None else max(0.0, date - now)


def http_date(value: str | None) -> float | None:
    """An HTTP date in seconds since 1970, or None."""
    if not value or len(value) > 64:
        return None
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
