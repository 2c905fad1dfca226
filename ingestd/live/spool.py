"""A spool: bytes in, journaled, and out as frames of a hub. Sources and encoders have one each."""

from __future__ import annotations

from typing import Literal

import structlog
import trio
from attrs import define, evolve, field

from ingestd.config import HubConfig, JournalConfig
from ingestd.errors import MediaError
from ingestd.live.batch import Mark, Position
from ingestd.live.hub import Hub
from ingestd.live.intake import Intake, Joins, Life, Piece
from ingestd.live.journal import Journal, JournalFull
from ingestd.live.notes import Notes
from ingestd.live.replay import JournalReplay
from ingestd.live.restore import Released, SpoolNotes, joins
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
    splicer: Splicer = field(kw_only=True)
    video_frames: int = 0
    #: When the first frame of all is shown (ns on the timeline).
    origin: int | None = None
    notes: SpoolNotes = field(factory=SpoolNotes)
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
        notes: Notes | None = None,
    ) -> Spool:
        """A spool with a hub of its own. A program's frames are in place on the timeline already."""
        splicer = Splicer("recorder" if name == "source" else "timeline")
        intake = Intake(splicer, max_frame)
        if name == "source":
            intake.max_lives = config.max_recorders
        made = Hub(hub)
        made.replay = JournalReplay(journal, intake, made)
        # The source's journal is the acknowledgement; the program's can be made again from it.
        on_full = config.on_full if name == "source" else "continue"
        return cls(
            stream,
            name,
            journal,
            intake,
            made,
            on_full,
            config.max_age,
            keep,
            splicer=splicer,
            notes=SpoolNotes(notes),
        )

    async def take(self, chunk: bytes, *, begins: bool | None = None) -> None:
        """Accept *chunk* and publish its frames. *begins* tells if a container begins with it (None: look).

        On return it is acknowledged, unless the journal was given up. Raises `MediaError` (the
        chunk is in the journal all the same) and, under the policy ``end``, `JournalFull`.
        """
        if self.name == "source" and (begins_container(chunk) if begins is None else begins):
            # A new recorder, even where the last one was cut off in the middle of an element.
            await self.begin()
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
            if self.origin is None and piece.marks:
                self.origin = piece.marks[0].timestamp
            video = piece.configuration.video
            if video is not None:
                self.video_frames += sum(frame.track == video.number for frame in piece.frames)
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

    async def begin(self, joins: Joins = "follows") -> None:
        """The bytes to come are a new container's; see `Intake.begin`."""
        self._publish(self.intake.close(), journaled=self.journal is not None and not self.lost.is_set())
        self.intake.begin(joins)
        if joins != "follows":
            await self._note(Life(len(self.intake.lives), 0, joins=joins))

    async def rejoin(self) -> None:
        """After a loss: the same recorder's media segments follow, in a container of their own.

        Raises `MediaError` if that recorder has not begun, and what `take` raises.
        """
        life = self.intake.lives[-1] if self.intake.lives else None
        if life is None or self.journal is None:
            raise MediaError(0, "a recorder that goes on after a loss must have begun before it")
        if not life.header_size:
            return  # The end of its init segment shows with the segment that comes now.
        header = await self.journal.read(life.recorder, 0, life.header_size)
        await self.begin("rejoins")
        await self.take(header, begins=False)

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
        # Before the bytes go: nobody may start to read them meanwhile, nor look for them later.
        self.hub.forget_before(mark.seq)
        self.notes.released = Released(
            mark.seq,
            position.recorder,
            position.offset,
            position.skip,
            self.origin,
            self.splicer.unstructure(),
        )
        if not await self._note():
            return
        await self.journal.release(position.recorder, position.offset, keep=life.header_size)

    async def _note(self, *coming: Life) -> bool:
        """Note what a later process cannot find in the journal itself; False if that fails."""
        try:
            await self.notes.save([*self.intake.lives, *coming])
        except OSError as error:
            log.warning("notes_not_saved", stream=self.stream, spool=self.name, cause=error.strerror)
            return False
        return True

    async def restore(self) -> None:
        """Publish again what an earlier process left in the journal.

        Afterwards all is as it was when that process had taken the last chunk, in the middle of an
        element if need be; sequence numbers are the same. Raises OSError if the journal cannot be read.
        """
        journal, intake = self.journal, self.intake
        assert journal is not None  # noqa: S101  it is what there is to restore from
        known = intake.known = await self.notes.load(journal)
        first, released = 0, self.notes.released
        if released is not None:
            first, self.origin = released.recorder, released.origin
            self.splicer.structure(released.timeline)
            lives = [known[number] for number in range(first)]
            intake.resume(lives, sum(file.size for file in journal.recorders[:first]), released.seq)
            self.hub.next_seq = released.seq
            await journal.release(first, released.offset, keep=known[first].header_size)
        for number in range(first, len(journal.recorders)):
            self._publish(intake.close(), journaled=True)
            intake.begin(joins(known, number))
            offset = 0
            if released is not None and number == first:
                intake.feed(await journal.read(number, 0, known[first].header_size))
                offset, intake.skip = released.offset, released.skip
                intake.jump(offset)
            while data := await journal.read(number, offset, _SLICE):
                self._publish(intake.feed(data), journaled=True)
                offset += len(data)

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
