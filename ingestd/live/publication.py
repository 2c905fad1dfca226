"""One publisher's place in a session: where a source puts chunks, and what the session tells it."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal, Protocol, TypeAlias

import trio
from attrs import define, field, frozen

#: Close codes of more than one part; see ``docs/publishing.md``.
GOING_AWAY = 1001
INTERNAL_ERROR = 1011
SESSION_FAILED = 4500
#: Of a refused or ended resumable publication.
RESUME_REFUSED = 4403
SESSION_OVER = 4404
TAKEN_OVER = 4412
#: Notices that wait for a publisher who does not read; of more, the oldest are forgotten.
_MAX_NOTICES = 64


@frozen(slots=True)
class Chunk:
    """One message of a publisher.

    *number* counts the session's chunks from 0; it is None where the protocol has none. *recorder* is the
    publisher's number of the recorder that it comes from: where it changes, a new container begins. It
    *follows*, if the publisher knows that nothing is missing between that and the one before.
    """

    data: bytes
    number: int | None = None
    recorder: int | None = None
    follows: bool = False


@frozen(slots=True)
class Skip:
    """The chunks up to number *to* (exclusive) will never come, for *reason*.

    The publisher had to drop them, or recorded nothing meanwhile: so many *seconds* of it, if it knows that.
    What follows is a new recorder's, or begins at a media segment with a random access point.
    """

    to: int
    reason: str
    seconds: float | None = None


Item: TypeAlias = Chunk | Skip


@frozen(slots=True)
class Resume:
    """A publisher wants to go on with *session*, and proves by *token* that it may."""

    session: str
    token: str = field(repr=False)


@frozen(slots=True)
class Closing:
    """Why a publisher's connection closes: a close *code* (see ``docs/publishing.md``) and a reason."""

    code: int
    reason: str


@frozen(slots=True)
class Accepted:
    """The session takes this publisher's chunks from number *next* on.

    *token* resumes the session later; None unless it was asked for. *resumed* tells that the session
    was there before this publication. *window* is how long it waits for a publisher, in seconds.
    *recorder* is the highest recorder number that the session has seen, None before the first. *ack*
    is what an acknowledgement means, as ``journal.ack`` does.
    """

    session: str
    next: int
    resumed: bool
    window: float
    token: str | None = field(default=None, repr=False)
    recorder: int | None = None
    ack: Literal["written", "synced"] = "written"


@frozen(slots=True)
class Notice:
    """Something that the publisher may want to know: *kind* is the message's type, *fields* are its own."""

    kind: str
    fields: dict[str, Any]


@frozen(slots=True)
class News:
    """What has happened since the last time: the number of the first chunk *not* acknowledged, notices."""

    acknowledged: int
    notices: tuple[Notice, ...]


@frozen(slots=True)
class Stats:
    """What a publisher counts itself: bytes that wait to be sent, bits per second, chunks dropped."""

    buffered_bytes: int | None = None
    bitrate: int | None = None
    dropped_chunks: int | None = None


@define
class Claims:
    """What a publisher says of itself: its name, its last recorder's type. For display: nobody vouches."""

    client: str = ""
    mime: str = ""
    stats: Stats = Stats()


@define(eq=False)
class Publication:
    """A publisher that was admitted to *stream*.

    The source waits for `wait_accepted` where its protocol numbers chunks (a plain publisher may send
    at once), puts each message as it came into *chunks* (a bounded channel: a full one is to be
    felt by the sender), and at the end says by `leave` how the publisher went, then closes *chunks*.
    The session asks for the publisher's end by `close`; the source waits for it in `wait_closing`.
    None of the session's methods blocks.
    """

    stream: str
    remote: str
    chunks: trio.MemorySendChannel[Item]
    claims: Claims = field(factory=Claims)
    #: The publisher said that it is done; if not, it may come back.
    done: bool = False
    accepted: Accepted | None = None
    acknowledged: int = 0
    _notices: deque[Notice] = field(factory=lambda: deque(maxlen=_MAX_NOTICES))
    _told: int = 0
    _closing: Closing | None = None
    _changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    # The source's side

    async def wait_accepted(self) -> Accepted:
        """Wait until the session takes chunks; a session that closes instead never does."""
        while self.accepted is None:
            await self._changed.park()
        return self.accepted

    async def news(self) -> News:
        """Wait until something was acknowledged or told since the last call. Nothing is told twice."""
        while self.acknowledged == self._told and not self._notices:
            await self._changed.park()
        return self.news_nowait()

    def news_nowait(self) -> News:
        """As `news`, with what there is by now."""
        self._told = self.acknowledged
        notices = tuple(self._notices)
        self._notices.clear()
        return News(self._told, notices)

    async def wait_acknowledged(self, following: int) -> None:
        """Wait until all chunks before number *following* are in the journal."""
        while self.acknowledged < following:
            await self._changed.park()

    def leave(self, *, done: bool) -> None:
        """The publisher has gone: for good, or it was only lost. To be called before *chunks* closes."""
        self.done = done

    async def wait_closing(self) -> Closing:
        """Wait until the session asks for the end of this publication."""
        while self._closing is None:
            await self._changed.park()
        return self._closing

    # The session's side

    def accept(self, accepted: Accepted) -> None:
        """Let the publisher begin."""
        self.accepted = accepted
        self.acknowledged = self._told = accepted.next
        self._changed.unpark_all()

    def acknowledge(self, following: int) -> None:
        """All chunks before number *following* are in the journal."""
        self.acknowledged = following
        self._changed.unpark_all()

    def tell(self, notice: Notice) -> None:
        """Tell the publisher; one that does not listen misses the oldest."""
        self._notices.append(notice)
        self._changed.unpark_all()

    def close(self, code: int, reason: str) -> None:
        """Ask the source to close the connection; the first cause wins."""
        if self._closing is None:
            self._closing = Closing(code, reason)
            self._changed.unpark_all()

    @property
    def closing(self) -> Closing | None:
        return self._closing


class Admission(Protocol):
    """What a source needs of the rest of the daemon."""

    def stream_of(self, key: str) -> str | None:
        """The name of the stream of *key*, or None; takes as long for one as for the other."""
        ...

    def admit(
        self,
        key: str,
        remote: str,
        *,
        stream: str | None = None,
        numbered: bool = False,
        resume: Resume | None = None,
    ) -> Publication:
        """Admit the owner of *key*, or raise `ingestd.errors.PublishRefused` with a close code.

        *stream* is whose key it is, where somebody else than the registry has said so.

        A *numbered* publisher wants acknowledgements and a token; with *resume* it goes on with a
        session that it began before, taking the place of whoever publishes there.
        """
        ...
