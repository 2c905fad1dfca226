"""What Mux's API can answer with, by what the caller does next. No text has a token or a stream key."""

from __future__ import annotations

from ingestd.errors import IngestdError


class MuxError(IngestdError):
    """Mux did not do what it was asked."""


class MuxUnavailable(MuxError):
    """Mux cannot be reached, is overloaded, or answers nothing that can be understood: try again later.

    *retry_after* is how many seconds it asked for, if it did.
    """

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class MuxUnclear(MuxUnavailable):
    """Whether a live stream was made is not known: look for *passthrough* later, and delete what has it."""

    def __init__(self, text: str, passthrough: str) -> None:
        super().__init__(text)
        self.passthrough = passthrough


class MuxUnauthorised(MuxError):
    """The token is missing, wrong, or may not do this: an operator has to mend ``[mux]``."""


class MuxNotFound(MuxError):
    """There is no such thing at Mux (any more): forget it."""


class MuxRefused(MuxError):
    """Mux understood, and will not: the request has to change, or the live stream's state."""
