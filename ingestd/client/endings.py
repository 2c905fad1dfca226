"""What a client does when its connection has ended, and when; ``docs/protocol.md`` has the table."""

from __future__ import annotations

import random
from enum import Enum

from attrs import define

from ingestd.client.connection import ABNORMAL, ConnectionFailed, NotSpoken

SESSION_OVER = 4404


class Then(Enum):
    """What comes after a connection.

    `RESUME` with the session, or begin `ANEW` without it; the same `LATER`, or `ANEW_LATER`, after a pause.
    """

    STOP = "stop"
    RESUME = "resume"
    ANEW = "anew"
    ANEW_LATER = "anew later"
    LATER = "later"


_TABLE = {
    1000: Then.STOP,
    1001: Then.RESUME,
    1002: Then.STOP,
    ABNORMAL: Then.RESUME,
    1007: Then.STOP,
    1009: Then.STOP,
    1011: Then.RESUME,
    1012: Then.RESUME,
    1013: Then.LATER,
    4400: Then.STOP,
    4401: Then.STOP,
    4403: Then.ANEW,
    SESSION_OVER: Then.ANEW,
    4408: Then.RESUME,
    4409: Then.LATER,
    4410: Then.RESUME,
    4412: Then.STOP,
    4415: Then.STOP,
    4423: Then.STOP,
    4429: Then.LATER,
    4500: Then.ANEW_LATER,
}
_TRY_AGAIN = (408, 429)


def after_code(code: int) -> Then:
    """What to do after a close with *code*."""
    return _TABLE.get(code, Then.RESUME if code < 4000 else Then.STOP)


def after_failure(failure: ConnectionFailed) -> Then:
    """What to do when a connection that had been there before could not be made again."""
    refused = failure.status is not None and failure.status < 500 and failure.status not in _TRY_AGAIN
    return Then.STOP if refused or isinstance(failure, NotSpoken) else Then.RESUME


@define
class Backoff:
    """How long to wait before each attempt: at once, then 0.2 s doubling up to *longest*, with jitter."""

    longest: float = 5.0
    _attempts: int = 0

    def next(self) -> float:
        """Seconds before the next attempt."""
        self._attempts += 1
        if self._attempts == 1:
            return 0.0
        pause = min(self.longest, 0.2 * 2.0 ** min(self._attempts - 2, 30))
        return pause * random.uniform(0.75, 1.0)  # noqa: S311  not a secret

    def reset(self, *, worked: bool) -> None:
        """The server has answered; if the connection also *worked*, the next one may be made at once."""
        self._attempts = 0 if worked else 1
