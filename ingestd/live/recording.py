"""A recording of the program: Matroska written by the daemon, made seekable or turned into MP4 at its end.

Rotation: a file ends before a random access point, and the next begins with it, at time 0. Making
the ended one seekable (and an MP4 of it) is done beside the recording of the next. What fails there
is tried again when the next file has ended, and at the session's end as any sink's attempt is.

A later daemon that takes the session up goes on in the same file, behind its last frame: see
`ingestd.live.resume`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import structlog
import trio
from attrs import define, evolve, field

from ingestd.config import SupervisorConfig
from ingestd.errors import AttemptFailed, FatalFailure, IngestdError
from ingestd.events import Tell, silent
from ingestd.live.batch import Batch, Configuration, weight
from ingestd.live.catalog import Catalog
from ingestd.live.hub import Hub, Subscription
from ingestd.live.notes import Notes
from ingestd.live.part import Left, Part, is_taken, part_of, publish
from ingestd.live.resume import Overlap, PartNote, RecordingNote
from ingestd.live.retention import retain
from ingestd.live.supervisor import Health, Supervisor
from ingestd.media.frames import NS_PER_MS, NS_PER_S, Frame
from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink

log = structlog.get_logger(__name__)

#: Files that may wait to be finished; with more, the recording waits for them.
_MAX_ENDED = 64
#: How far one track may lag behind the others and still be heard at the beginning of a file.
_MAX_LAG = 2 * NS_PER_S


@define(eq=False)
class Recording:
    """Writes *program* to the file that *sink* names; rotation or another configuration begins the next.

    While it is written the file is Matroska and ends in ``.part``: it plays as it stands. After a crash
    another recording with the same *notes* goes on with it, whatever of the program it is given again; or
    `ingestd.live.recovery` finishes it. A disk that fails is tried again as any sink is, from the frame
    that it failed at.
    """

    stream: str
    ffmpeg: str
    sink: FileSink
    place: Place
    config: SupervisorConfig
    program: Hub
    health: Health
    notes: Notes | None = None
    sent_frames: int = 0
    sent_bytes: int = 0
    file: Path | None = None
    finished: int = 0
    clock: Callable[[], float] = time.time
    tell: Tell = silent
    _subscription: Subscription | None = None
    _batch: Batch | None = None
    _part: Part | None = None
    _files: int = 0
    _late_frames: int = 0
    _latest: dict[int, int] = field(factory=dict)
    _ended: list[Part | Left] = field(factory=list)
    _finishing: trio.Lock = field(factory=trio.Lock)
    _nursery: trio.Nursery | None = None
    _taken_up: bool = False
    #: Until all that comes is new.
    _overlap: Overlap | None = None
    #: The part of an earlier daemon of which nothing is whole.
    _torn: PartNote | None = None
    _note: PartNote | None = None
    _reach: dict[int, int] = field(factory=dict)
    _saving: trio.Lock = field(factory=trio.Lock)

    @property
    def name(self) -> str | None:
        """The path, below the stream's recordings, of the file that is being written, or was last."""
        return self.file.relative_to(self.place.recordings).as_posix() if self.file else None

    @property
    def behind_frames(self) -> int:
        """Frames of the program that are not yet in the file."""
        return self.program.next_seq - self._subscription.cursor if self._subscription else 0

    @property
    def dropped_frames(self) -> int:
        late = self._late_frames + (self._part.dropped if self._part else 0)
        lost = self._overlap.dropped if self._overlap else 0
        return late + lost + (self._subscription.dropped if self._subscription else 0)

    async def run(self) -> None:
        """Record until the program ends. Raises `FatalFailure` when the disk has failed for good."""
        failure = None
        self._subscription = self.program.subscribe("journal", self.program.oldest_mark())
        try:
            async with trio.open_nursery() as self._nursery:
                try:
                    await Supervisor(self.config, self.health).run(self._attempt)
                except FatalFailure as caught:
                    failure = caught
        finally:
            self._subscription.close()
            for part in (*self._ended, self._part):
                if part is not None:
                    part.close()
        if failure is not None:
            raise failure

    async def _attempt(self, progress: Callable[[], None]) -> None:
        try:
            if not self._taken_up:
                await self._take_up()
            assert self._subscription is not None  # noqa: S101  run made it
            while True:
                if self._batch is None:
                    try:
                        self._batch = self._new(await self._subscription.receive())
                    except trio.EndOfChannel:
                        break
                if self._batch is not None:
                    self._batch = await self._write(self._batch)
                progress()
            await self._end_part()
            await self._finish()
        except OSError as error:
            raise AttemptFailed(f"the recording cannot be written: {error.strerror or error}") from error

    async def _take_up(self) -> None:
        """Go on where an earlier daemon's recording of this session stopped, if there was one."""
        assert self._subscription is not None  # noqa: S101  run made it
        # The subscription keeps all there is of the program while the file is read.
        wanted = await trio.to_thread.run_sync(self._load)
        mark = self.program.mark_before(wanted) if wanted is not None else None
        if mark is not None:
            self._subscription.close()
            self._subscription = self.program.subscribe("journal", mark)
        self._taken_up = True
        self._finish_soon()

    def _load(self) -> int | None:
        """Stand where the notes say; returns the time from which on the program is wanted. Blocks."""
        note = RecordingNote.load(self.notes) if self.notes is not None else None
        if note is None:
            return None
        root = self.place.recordings
        left = [Left(root / name) for name in note.ended]
        self._ended = [each for each in left if each.path.exists()]
        self.finished = note.finished + len(left) - len(self._ended)
        self._files, self.file = note.files, root / note.last if note.last else None
        self._reach = dict(note.reach)
        self._latest = dict(note.reach)
        if note.part is None:
            newest = max(note.reach.values(), default=0)
            self._overlap = Overlap(dict(note.reach), expected=newest + NS_PER_S)
            return min(note.reach.values(), default=0) - _MAX_LAG
        file = root / note.part.name
        try:
            part = Part.reopen(file, note.part)
        except (FileNotFoundError, ValueError, IngestdError) as error:
            log.warning("recording_begun_again", stream=self.stream, file=note.part.name, cause=str(error))
            self._torn, self._files = note.part, note.part.number - 1
            self._overlap = Overlap(dict(note.reach), expected=note.part.begins)
            return note.part.begins
        self._files, self.file, self._part, self._note = note.part.number, file, part, note.part
        self._overlap = Overlap.of_file(note.reach, part.ends, part.time)
        self._latest.update(part.latest)
        return max(part.begins, min(part.latest.values()) - _MAX_LAG)

    def _new(self, batch: Batch) -> Batch | None:
        """What of *batch* is in no file yet; None for nothing."""
        overlap = self._overlap
        if overlap is None:
            return batch
        gaps, configuration = overlap.gaps, batch.configuration
        frames: list[Frame] = []
        for frame in batch.frames:
            if overlap.has(frame, configuration):
                self._pass((frame,))
            elif self._part is None and not frames and not configuration.starts_at(frame):
                overlap.dropped += 1
            else:
                frames.append(frame)
        if overlap.gaps > gaps:
            log.warning(
                "recording_gap", stream=self.stream, sink=self.sink.name, file=self.name,
                dropped_frames=overlap.dropped,
            )  # fmt: skip
        if not frames:
            return None
        if overlap.is_over:
            self._late_frames += overlap.dropped
            self._overlap = None
        return evolve(batch, frames=tuple(frames), size=weight(frames))

    def _pass(self, frames: Iterable[Frame]) -> None:
        """No file will want *frames* again."""
        latest = self._latest
        for frame in frames:
            latest[frame.track] = max(frame.timestamp, latest.get(frame.track, 0))

    async def _write(self, batch: Batch) -> Batch | None:
        """Write what of *batch* goes into one file; returns the rest."""
        count = self._fits(batch)
        if count == 0 and self._part is not None:
            await self._end_part()
            self._finish_soon()
            if len(self._ended) > _MAX_ENDED:
                await self._finish()
        if self._part is None:
            self.sink.output(self.place, batch.configuration.tracks)
            # What comes out of the window arrived a known time ago; out of the journal, it is not known.
            behind = trio.current_time() - batch.arrival if batch.arrival else 0.0
            began = self.clock() - behind
            self._part = await self._begin(batch, began)
            count = self._fits(batch)
        frames = batch.frames[:count]
        piece = evolve(batch, frames=frames, size=weight(frames)) if count < len(batch.frames) else batch
        written = await trio.to_thread.run_sync(self._part.write, piece)
        self._pass(frames)
        self.sent_frames += count
        self.sent_bytes += written
        return batch.since(piece.end) if piece is not batch else None

    def _fits(self, batch: Batch) -> int:
        """How many of *batch*'s frames go into the file that is being written."""
        part, sink = self._part, self.sink
        if part is None or not part.takes(batch.configuration):
            return 0
        full = bool(sink.rotate_size) and part.size >= sink.rotate_size
        if full or sink.rotate_every:
            ends = part.begins + sink.rotate_every * NS_PER_S if sink.rotate_every else float("inf")
            for index, frame in enumerate(batch.frames):
                if (full or frame.timestamp >= ends) and batch.configuration.starts_at(frame):
                    return index
        return len(batch.frames)

    def _zero(self, batch: Batch) -> int:
        """The time that is 0 in the file that *batch* begins: no frame to come lies before it.

        The program's own beginning stays where it is. Later, a track may lag behind the keyframe; then
        it is what comes first, and where that is not known yet, what came last.
        """
        begins = batch.frames[0].timestamp
        if not self._files and begins < _MAX_LAG:
            return 0
        first = dict(self._latest)
        first.update((frame.track, frame.timestamp) for frame in reversed(batch.frames))
        numbers = {track.number for track in batch.configuration.tracks}
        near = [at for track, at in first.items() if track in numbers and begins - at < _MAX_LAG]
        return min(begins, *near) // NS_PER_MS * NS_PER_MS if near else begins

    async def _begin(self, batch: Batch, began: float) -> Part:
        """The next file, under the first name that nobody has taken."""
        begins, number, torn = batch.frames[0].timestamp, self._files, self._torn
        zero, date = self._zero(batch), round(began * 1000) * NS_PER_MS
        if torn is not None and torn.begins == begins:
            # All of it comes again.
            zero, date = torn.zero, torn.date
            path = part_of(self.place.recordings / torn.name)
            await trio.to_thread.run_sync(partial(path.unlink, missing_ok=True))
        while True:
            number += 1
            name = f"{self.sink.stem(self.place, number, date / NS_PER_S)}.{self.sink.format}"
            file = self.place.recordings / name
            if await trio.to_thread.run_sync(is_taken, file):
                continue
            # Noted first: a file that nobody goes on with would be in the way for ever.
            self._note = PartNote(name, number, zero, begins, date)
            await self._save()
            try:
                part = await trio.to_thread.run_sync(self._create, file, batch.configuration, self._note)
            except FileExistsError:
                continue
            self._files, self.file, self._torn = number, file, None
            return part

    def _create(self, file: Path, configuration: Configuration, note: PartNote) -> Part:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = Part.create(file, configuration, note)
        catalog = Catalog.of(self.sink, self.place)
        if catalog is not None:
            try:
                catalog.begin(note.name)
            except OSError:
                part.close()
                part.path.unlink()
                raise
        return part

    async def _end_part(self) -> None:
        """Nothing more goes into the file. Raises OSError when that cannot be noted: call again."""
        if self._part is not None:
            self._late_frames += self._part.dropped
            self._ended.append(self._part)
            self._part = self._note = None
            self._reach = dict(self._latest)
        await self._save()

    async def _save(self) -> None:
        """Note how the recording stands."""
        if self.notes is None:
            return
        async with self._saving:
            ended = tuple(self._name_of(part) for part in self._ended)
            note = RecordingNote(self._files, self.finished, self.name, self._note, ended, dict(self._reach))
            await trio.to_thread.run_sync(note.save, self.notes)

    def _name_of(self, part: Part | Left) -> str:
        return part.file.relative_to(self.place.recordings).as_posix()

    def _finish_soon(self) -> None:
        if self._ended:
            assert self._nursery is not None  # noqa: S101  run made it
            self._nursery.start_soon(self._finish_beside)

    async def _finish_beside(self) -> None:
        """Finish what has ended while the next file is written."""
        try:
            await self._finish()
        except OSError as error:
            cause = error.strerror or str(error)
            log.warning("recording_not_ready", stream=self.stream, sink=self.sink.name, cause=cause)

    async def _finish(self) -> None:
        """Finish all that has ended. Raises OSError when one of it cannot be, after trying the others."""
        catalog, failure = Catalog.of(self.sink, self.place), None
        async with self._finishing:
            for part in list(self._ended):
                name = self._name_of(part)
                note, made = partial(catalog.note, name) if catalog is not None else None, None
                try:
                    await trio.to_thread.run_sync(part.finish)
                    await publish(part.path, part.file, self.ffmpeg, note)
                except OSError as error:
                    failure = error
                    continue
                except (ValueError, IngestdError) as error:
                    # It was whole when it was ended; only a power cut does this.
                    log.error("recording_not_recovered", file=str(part.path), cause=str(error))  # noqa: TRY400
                else:
                    self.finished += 1
                    log.info("recording_ready", stream=self.stream, file=name)
                    made = part.file
                # Nobody may note the one without the other.
                self._ended.remove(part)
                if made is not None:
                    size = (await trio.Path(made).stat()).st_size
                    self.tell("recording.ready", name=self.sink.name, file=name, size=size)
                for path in await trio.to_thread.run_sync(retain, self.sink, self.place):
                    gone = path.relative_to(self.place.recordings).as_posix()
                    self.tell("recording.removed", name=self.sink.name, file=gone)
            await self._save()
        if failure is not None:
            raise failure
