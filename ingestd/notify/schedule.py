"""When a delivery that failed is tried again. Sans-I/O."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from attrs import field, frozen

from ingestd.config import Notify

#: Of each wait: so that what failed together does not come back together.
JITTER = 0.2
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


@frozen(slots=True)
class Schedule:
    """As ``[notify]`` has it: its waits, with up to `JITTER` more, for `retry_for` seconds."""

    config: Notify
    random: Callable[[], float] = field(default=random.random)

    def next(self, attempts: int, now: float, until: float, asked: float | None) -> float | None:
        """When to try again after the *attempts*-th attempt (from 1) failed *now*; None: never.

        The last attempt is made when *until* is reached. *asked* is how many seconds the endpoint wants to be
        left alone (``Retry-After``), which it is, up to `retry_for`.
        """
        if now >= until:
            return None
        waits = self.config.backoff
        wait = waits[min(attempts, len(waits)) - 1] * (1 + JITTER * self.random())
        due = min(now + wait, until)
        return due if asked is None else max(due, now + min(asked, self.config.retry_for))


def retry_after(value: str | None, now: float) -> float | None:
    """The seconds in ``Retry-After`` (RFC 9110, 10.2.3), a number or a date; None for neither."""
    if value is None or len(value) > 64:
        return None
    if _SECONDS.fullmatch(value.strip()):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
