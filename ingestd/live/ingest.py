"""A session's ingest: one publisher at a time, its chunks into the source, and the wait for the next one.

A publisher that says that it is done ends the session. One that was only lost has the reconnect window
to come back; so has any other owner of the key. Who holds the session's token takes the seat of a
publisher that still seems to be there.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import structlog
import trio
from attrs import asdict, define, field, frozen

from ingestd.errors import MediaError
from ingestd.live.journal import Journal
from ingestd.live.publication import TAKEN_OVER, Accepted, Chunk, Item, Publication, Skip
from ingestd.live.spool import Spool
from ingestd.media.frames import NS_PER_S

log = structlog.get_logger(__name__)

#: Close codes that a session asks for; see ``docs/publishing.md``.
PROTOCOL_VIOLATION = 4400
MEDIA_REFUSED = 4415

_MAX_GAPS = 100


@frozen(slots=True)
class Gap:
    """Media that the publisher made and the source lacks, *at* (s) on its timeline.

    *began* is in seconds since 1970. It lasted for *seconds*: as the publisher said, or until it was back.
    *chunks* is how many numbers were left out, where the publisher said that.
    """

    at: float
    began: float
    seconds: float
    reason: str
    chunks: int | None = None


@define(eq=False)
class Seat:
    """A publisher that publishes, or waits to; *resumes* tells that it holds the session's token."""

    publication: Publication
    items: trio.MemoryReceiveChannel[Item]
    numbered: bool
    resumes: bool

    def refuse(self, code: int, reason: str) -> None:
        self.publication.close(code, reason)
        self.items.close()


@define(eq=False)
class Ingest:
    """Takes publishers for *session* of *stream*, one after the other, as long as they come.

    *window* is how long (s) it waits for the next. *present* is told when one comes or goes; *save* is
    awaited when something has changed that a later daemon must know (`unstructure`).
    """

    stream: str
    session: str
    window: float
    present: Callable[[bool], None]
    save: Callable[[], Awaitable[None]]
    ack: Literal["written", "synced"] = "written"
    chunks: int = 0
    size: int = 0
    over: bool = False
    cuts: int = 0
    resumes: int = 0
    takeovers: int = 0
    gap_count: int = 0
    gap_seconds: float = 0.0
    gaps: deque[Gap] = field(factory=lambda: deque(maxlen=_MAX_GAPS))
    error: MediaError | None = None
    empty_in_a_row: int = 0
    largest: int = 0
    _arrived: float = field(factory=trio.current_time)
    _seat: Seat | None = None
    _waiting: Seat | None = None
    _token: bytes | None = None
    _recorder: int | None = None
    _lost_at: float | None = None
    _lost_why: str = ""
    _skipped: bool = False
    _arrival: trio.Event = field(factory=trio.Event)

    # Who may

    @property
    def publication(self) -> Publication | None:
        """The publisher's, while there is one."""
        return self._seat.publication if self._seat else None

    @property
    def idle(self) -> float:
        """Seconds since the last chunk."""
        return trio.current_time() - self._arrived

    @property
    def taken(self) -> bool:
        """True while a publisher is there, or about to be."""
        return self._seat is not None or self._waiting is not None

    def authorises(self, token: str) -> bool:
        """True if *token* resumes this session; in constant time."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        return hmac.compare_digest(digest, self._token or bytes(32))

    def attach(self, seat: Seat) -> None:
        """The publisher to come next; whoever has the seat is told to go."""
        if self.over:
            seat.refuse(1000, "the session has ended")
            return
        if self._waiting is not None:
            self._waiting.refuse(TAKEN_OVER, "another publisher took over")
        self._waiting = seat
        if self._seat is not None:
            self.takeovers += 1
            log.warning("publisher_taken_over", stream=self.stream, by=seat.publication.remote)
            self._seat.publication.close(TAKEN_OVER, "another publisher took over")
        self._arrival.set()

    def close(self, code: int, reason: str) -> None:
        """The session ends: nobody is waited for, who is there is told why."""
        self.over = True
        if self._waiting is not None:
            self._waiting.refuse(code, reason)
        if self._seat is not None:
            self._seat.publication.close(code, reason)
        self._arrival.set()

    # What comes

    async def run(self, source: Spool) -> None:
        """Until no publisher comes any more: one was done, the window has passed, or `close`.

        Raises `JournalFull`; and `MediaError` if the last publisher's media could not be parsed.
        """
        try:
            while (seat := await self._next()) is not None:
                self._seat = seat
                self.present(True)
                done = await self._publish(seat, source)
                self._seat = None
                # Who said that it is done may still listen.
                seat.publication.close(1000, "the session has ended")
                # A plain publisher that never sent anything has nothing to come back to.
                nothing = not self.chunks and not seat.numbered
                if not self._waiting and (done or self.over or nothing):
                    break
                self.cuts += 1
                self.present(False)
        finally:
            self.over = True
            if self._waiting is not None:
                self._waiting.refuse(1000, "the session has ended")
        if self.error is not None:
            raise self.error

    async def _next(self) -> Seat | None:
        with trio.move_on_after(self.window):
            while self._waiting is None and not self.over:
                self._arrival = trio.Event()
                await self._arrival.wait()
        seat, self._waiting = self._waiting, None
        return None if self.over else seat

    async def _publish(self, seat: Seat, source: Spool) -> bool:
        """All that one publisher sends; True if it was done, False if it may come back."""
        await self._accept(seat)
        first, self.largest, self.empty_in_a_row = True, 0, 0
        self._arrived = trio.current_time()
        try:
            with seat.items:
                async for item in seat.items:
                    match item:
                        case Skip():
                            await self._skip(item, source)
                        case Chunk() if item.number not in (None, self.chunks):
                            reason = f"chunk {item.number} came instead of {self.chunks}"
                            seat.publication.close(PROTOCOL_VIOLATION, reason)
                            break
                        case Chunk():
                            await self._take(item, source, first=first, resumes=seat.resumes)
                            first = first and not item.data
        except MediaError as error:
            self.error = error
            seat.publication.close(MEDIA_REFUSED, f"the media cannot be parsed: {error}")
        self._lost_at = time.time()
        self._lost_why = "the publisher was away"
        return seat.publication.done or (self.error is not None and not source.hub.next_seq)

    async def _accept(self, seat: Seat) -> None:
        # Who resumes keeps its token: one that was made anew could be lost with the connection.
        resumed, token = self.chunks > 0, None
        if seat.numbered and not seat.resumes:
            token = secrets.token_urlsafe(32)
            self._token = hashlib.sha256(token.encode()).digest()
        if seat.numbered:
            await self.save()
        accepted = Accepted(
            self.session, self.chunks, resumed, self.window, token, recorder=self._recorder, ack=self.ack
        )
        seat.publication.accept(accepted)
        if resumed:
            self.resumes += seat.resumes
            away = round(time.time() - self._lost_at, 1) if self._lost_at else None
            log.info(
                "publisher_back", stream=self.stream, session=self.session, away_s=away, next=self.chunks
            )

    async def _skip(self, item: Skip, source: Spool) -> None:
        if item.to <= self.chunks:
            return
        self._gap(source, item.reason, item.to - self.chunks, item.seconds)
        self.chunks = item.to
        self._skipped = True
        await self.save()
        self._acknowledge(source)

    async def _take(self, chunk: Chunk, source: Spool, *, first: bool, resumes: bool) -> None:
        begins: bool | None = True if first else None
        data, journal = chunk.data, source.journal
        self._arrived = trio.current_time()
        self.largest = max(self.largest, len(data))
        self.empty_in_a_row = 0 if data else self.empty_in_a_row + 1
        if not data:
            self.chunks += 1
            await self.save()
            self._acknowledge(source)
            return
        if chunk.number is not None:
            # One that does not resume counts its recorders anew.
            begins = chunk.recorder != self._recorder or (first and not resumes)
        if begins:
            self.error = None
            self._recorder = chunk.recorder
            if self._lost_at is not None and not (self._skipped or chunk.follows) and self.chunks:
                self._gap(source, self._lost_why)
            if journal is not None:
                journal.partial = 0
            await self.save()
        elif self._skipped:
            if journal is not None:
                journal.chunks = self.chunks - 1  # The init segment again, in the last lost one's place.
            await source.rejoin()
        elif journal is not None and journal.chunks == self.chunks and journal.partial:
            # A daemon died in the middle of this one: some of it is there.
            if len(data) <= journal.partial:
                await self._had(len(data), source, journal)
                return
            data = data[journal.partial :]
        if journal is not None and journal.chunks != self.chunks:
            journal.chunks, journal.partial = self.chunks, 0
        self._skipped, self._lost_at = False, None
        try:
            await source.take(data, begins=begins)
        except MediaError:
            self._count(data)
            raise
        self._count(data)
        self._acknowledge(source)

    async def _had(self, size: int, source: Spool, journal: Journal) -> None:
        """All of a chunk is there, because the publisher has cut it anew, and shorter."""
        journal.partial -= size
        journal.chunks += 1
        self.chunks += 1
        if not journal.partial:
            await self.save()
            self._acknowledge(source)

    def _acknowledge(self, source: Spool) -> None:
        # What a journal that was given up does not have is not acknowledged.
        if self._seat is not None and not source.lost.is_set():
            self._seat.publication.acknowledge(self.chunks)

    def _count(self, data: bytes) -> None:
        self.chunks += 1
        self.size += len(data)

    def _gap(
        self, source: Spool, reason: str, chunks: int | None = None, seconds: float | None = None
    ) -> None:
        now = time.time()
        at = max(source.hub.last_timestamp.values(), default=0) / NS_PER_S
        began = (self._lost_at or now) if seconds is None else now - seconds
        gap = Gap(round(at, 3), began, round(now - began, 3), reason, chunks)
        self.gaps.append(gap)
        self.gap_count += 1
        self.gap_seconds += gap.seconds
        log.warning(
            "source_gap", stream=self.stream, session=self.session, at=gap.at, seconds=gap.seconds,
            chunks=chunks, reason=reason,
        )  # fmt: skip

    # What a later daemon must know

    def unstructure(self) -> dict[str, Any]:
        """As JSON, for `structure`."""
        return {
            "next": self.chunks,
            "token": self._token.hex() if self._token else None,
            "recorder": self._recorder,
            "cuts": self.cuts,
            "resumes": self.resumes,
            "takeovers": self.takeovers,
            "gap_count": self.gap_count,
            "gap_seconds": self.gap_seconds,
            "gaps": [asdict(gap) for gap in self.gaps],
        }

    def structure(self, saved: dict[str, Any]) -> None:
        """Go on from what was saved."""
        self._token = bytes.fromhex(saved["token"]) if saved["token"] else None
        self._recorder = saved["recorder"]
        self.chunks = saved["next"]
        self.cuts, self.resumes, self.takeovers = saved["cuts"], saved["resumes"], saved["takeovers"]
        self.gap_count, self.gap_seconds = saved["gap_count"], saved.get("gap_seconds", 0.0)
        self.gaps.extend(Gap(**gap) for gap in saved["gaps"])

    def interrupted(self, source: Spool, since: float) -> None:
        """An earlier daemon's session: its publisher has been gone *since* (s since 1970)."""
        assert source.journal is not None  # noqa: S101  it was restored from it
        # Chunks that were empty, or never came, are only noted.
        self.chunks, self.size = max(self.chunks, source.journal.chunks), source.journal.size
        self._lost_at, self._lost_why = since, "the daemon was away"
        self.cuts += 1
