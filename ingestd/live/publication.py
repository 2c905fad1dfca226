"""One publisher's place in a session: where a source puts chunks, and how the session ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio
from attrs import define, field, frozen


@frozen(slots=True)
class Closing:
    """Why a publisher's connection closes: a close *code* (see ``docs/publishing.md``) and a reason."""

    code: int
    reason: str


@define(eq=False)
class Publication:
    """A publisher that was admitted to *stream*.

    The source sends each message as it came into *chunks* (a bounded channel: a full one is to be
    felt by the sender) and closes it when the publisher is gone.
    The session asks for the publisher's end by `close`; the source waits for it in `wait_closing`.
    """

    stream: str
    remote: str
    chunks: trio.MemorySendChannel[bytes]
    _closing: Closing | None = None
    _event: trio.Event = field(factory=trio.Event)

    def close(self, code: int, reason: str) -> None:
        """Ask the source to close the connection; the first cause wins. Never blocks."""
        if self._closing is None:
            self._closing = Closing(code, reason)
            self._event.set()

    @property
    def closing(self) -> Closing | None:
        return self._closing

    async def wait_closing(self) -> Closing:
        """Wait until the session asks for the end of this publication."""
        await self._event.wait()
        assert self._closing is not None  # noqa: S101  set before the event
        return self._closing


class Admission(Protocol):
    """What a source needs of the rest of the daemon."""

    def admit(self, key: str, remote: str) -> Publication:
        """Admit the owner of *key*, or raise `ingestd.errors.PublishRefused` with a close code."""
        ...


Admit = Callable[[str, str], Publication]
