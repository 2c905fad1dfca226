"""From a webhook's header and raw body to the loop: the signature first, then the event."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from ingestd.config import MuxConfig
from ingestd.credentials import CredentialError, read_secrets
from ingestd.mux.errors import MuxUnauthorised
from ingestd.mux.events import MuxEvent, parse_event
from ingestd.mux.inbox import Outcome
from ingestd.mux.signature import verify

log = structlog.get_logger(__name__)

#: Seconds that the file's content is used before it is read again: nobody makes us read it at will.
_READ_EVERY = 5.0


class Receiver:
    """*receive* is `ingestd.mux.loop.MuxLoop.receive`. *now* gives seconds since 1970."""

    def __init__(
        self,
        config: MuxConfig,
        receive: Callable[[MuxEvent], Outcome],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._receive = receive
        self._now = now
        self._secrets: tuple[str, ...] = ()
        self._read = -_READ_EVERY

    @property
    def expected(self) -> bool:
        """Whether webhooks are set up at all."""
        return bool(self._config.webhook_secret_file)

    @property
    def largest(self) -> int:
        """The longest body, in bytes."""
        return self._config.max_webhook

    def accept(self, header: str | None, body: bytes) -> Outcome:
        """Take the event in *body* if *header* signs it.

        Raises `SignatureMalformed`, `SignatureWrong`, `EventMalformed`, and `MuxUnauthorised` when
        ``mux.webhook_secret_file`` cannot be read.
        """
        verify(header, body, self._current(), self._now())
        return self._receive(parse_event(body))

    def _current(self) -> tuple[str, ...]:
        """The secrets in the file: a new one is put in while the daemon runs."""
        if time.monotonic() >= self._read + _READ_EVERY:
            try:
                self._secrets = read_secrets(self._config.webhook_secret_file)
            except CredentialError as error:
                log.error("mux_secret_unreadable", cause=str(error))  # noqa: TRY400
                if not self._secrets:
                    raise MuxUnauthorised("mux.webhook_secret_file cannot be read") from None
            self._read = time.monotonic()
        return self._secrets
