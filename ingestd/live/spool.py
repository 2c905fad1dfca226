"""A spool: bytes in, journaled, and out as frames of a hub. Sources and encoders have one each."""

from __future__ import annotations

from typing import Literal

import structlog
import trio
from attrs import define, evolve, field

from ingestd.config import HubConfig, JournalConfig
from ingestd.live.batch import Mark, Position
from ingestd.live.hub import Hub
from ingestd.live.intake import Intake, Piece
from ingestd.live.journal import Journal, JournalFull
from ingestd.live.replay import JournalReplay
from ingestd.live.splice import Splicer
from ingestd.media.demux import begins_container
from ingestd.media.frames import NS_PER_S

log = structlog.get_logger(__name__)

_SLICE = 128 * 2**10


@define(eq=False)
class Spool:
    """*keep* is for a journal that is a recording: nothing of it is given back while the session lives."""

    stream: str
    name: str
    journal: Journal | None
    intake: Intake
    hub: Hub
    on_full: Literal["end", "continue"]
    max_age: float
    keep: bool = False
    journal_error: str | None = None
    #: Set when the journal was given up (``on_full = "continue"``): it ends there.
    lost: trio.Event = field(factory=trio.Event)

    @classmethod
    def create(
        cls,
        stream: str,
        name: Literal["source", "program"],
        journal: Journal,
        hub: HubConfig,
        config: JournalConfig,
        *,
        max_frame: int,
        keep: bool = False,
    ) -> Spool:
        """A spool with a hub of its own. A program's frames are in place on the timeline already."""
        intake = Intake(Splicer("recorder" if name == "source" else "timeline"), max_frame)
        if name == "source":
            intake.max_lives = config.max_recorders
        made = Hub(hub)
        made.replay = JournalReplay(journal, intake, made)
        # The source's journal is the acknowledgement; the program's can be made again from it.
        on_full = config.on_full if name == "source" else "continue"
        return cls(stream, name, journal, intake, made, on_full, config.max_age, keep)

    async def take(self, chunk: bytes) -> None:
        """Accept *chunk* and publish its frames.

        On return it is acknowledged, unless the journal was given up. Raises `MediaError` (the
        chunk is in the journal all the same) and, under the policy ``end``, `JournalFull`.
        """
        if self.name == "source" and begins_container(chunk):
            # A new recorder, even where the last one was cut off in the middle of an element.
            self.begin()
        # In slices: a long chunk, made of however tiny frames, must not hold up the other streams.
        for begin in range(0, len(chunk), _SLICE):
            await self._take(chunk[begin : begin + _SLICE], last=begin + _SLICE >= len(chunk))
        if self.intake.error is not None:
            raise self.intake.error

    async def _take(self, data: bytes, *, last: bool) -> None:
        pieces = self.intake.feed(data)
        journaled = await self._journal(data, last=last)
        self._publish(pieces, journaled=journaled)

    def _publish(self, pieces: list[Piece], *, journaled: bool) -> None:
        for piece in pieces:
            # What is not in the journal cannot be replayed from there.
            marks = piece.marks if journaled else [evolve(mark, position=None) for mark in piece.marks]
            self.hub.publish(piece.configuration, tuple(piece.frames), tuple(marks))

    async def _journal(self, data: bytes, *, last: bool) -> bool:
        """Write *data*; False if the journal was given up, which is for good: it has no gaps."""
        if self.journal is None or self.lost.is_set():
            return False
        await self._make_room(len(data))
        try:
            await self.journal.append(data, self.intake.starts, last=last)
        except JournalFull as full:
            self.journal_error = str(full)
            log.error(  # noqa: TRY400  the cause is all there is to know
                "journal_full", stream=self.stream, spool=self.name, cause=str(full), policy=self.on_full
            )
            if self.on_full == "end":
                raise
            # What is there stays readable for those who lag; nothing is added, nothing acknowledged.
            self.lost.set()
            return False
        return True

    def begin(self, *, continues: bool = False) -> None:
        """The bytes to come are a new container's; see `Intake.begin`."""
        self._publish(self.intake.close(), journaled=self.journal is not None and not self.lost.is_set())
        self.intake.begin(continues=continues)

    def end(self) -> None:
        """No more bytes will come: the hub ends with the last whole frame."""
        self._publish(self.intake.close(), journaled=self.journal is not None and not self.lost.is_set())
        self.hub.end()

    async def trim(self) -> None:
        """Give back what no reader of the hub needs any more, or is too old; nothing of a journal to keep."""
        if self.keep or self.journal is None:
            return
        hub = self.hub
        mark = hub.replayable_mark(min(hub.slowest_cursor(), hub.window_start))
        newest = max(hub.last_timestamp.values(), default=0)
        oldest = hub.mark_before(newest - round(self.max_age * NS_PER_S))
        if oldest is not None and (mark is None or oldest.seq > mark.seq):
            # The slowest reader is cut off, and counts what it misses.
            mark = hub.replayable_mark(min(oldest.seq, hub.window_start))
        if mark is None or mark.position is None:
            return
        await self._give_back(mark, mark.position)

    async def _make_room(self, size: int) -> None:
        """Of a journal at its bound the oldest tenth goes, unless it is kept; who needs it counts a loss."""
        journal, hub = self.journal, self.hub
        if journal is None or self.keep or journal.kept_bytes + size <= journal.max_size:
            return
        wanted = journal.kept_bytes + size - journal.max_size * 9 // 10
        for mark in hub.marks():
            position = mark.position
            if position is None or mark.seq > hub.window_start:
                break
            if journal.kept_before(position.recorder, position.offset) >= wanted:
                log.warning("journal_cut", stream=self.stream, spool=self.name, bytes=wanted)
                await self._give_back(mark, position)
                break

    async def _give_back(self, mark: Mark, position: Position) -> None:
        assert self.journal is not None  # noqa: S101  its marks have positions
        life = self.intake.lives[position.recorder]
        # Before the bytes go: nobody may start to read them meanwhile.
        self.hub.forget_before(mark.seq)
        await self.journal.release(position.recorder, position.offset, keep=life.header_size)

    async def trim_forever(self, every: float = 5.0) -> None:
        """`trim` from time to time, until cancelled."""
        while True:
            await trio.sleep(every)
            await self.trim()

    def statistics(self) -> dict[str, object]:
        journal = self.journal.statistics() if self.journal else None
        return {
            **self.hub.statistics(),
            "discarded_frames": self.intake.discarded,
            "journal_bytes": journal.kept_bytes if journal else 0,
            "journal_error": self.journal_error,
        }
