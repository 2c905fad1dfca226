"""From a container's bytes to frames on the session's timeline: demux, normalise, splice.

Sans-I/O. The same object serves a publisher's bytes, an encoder's output, and the replay of either
from the journal.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from attrs import define, evolve, field

from ingestd.errors import MediaError
from ingestd.live.batch import Configuration, Mark, Position
from ingestd.live.splice import Splice, Splicing
from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import Event, Frame, Header, RecorderStart, SegmentStart, Track
from ingestd.media.normalise import Normaliser, normalise

Joins: TypeAlias = Literal["follows", "continues", "rejoins"]


@define(eq=False)
class Life:
    """One recorder's or encoder's container, *begins* bytes into the stream; *splice* places it in time.

    How it *joins* the life before: it ``follows`` with a clock of its own; or it ``continues`` and has the
    very frames that the other would have had, so that after those that overlap any next one fits; or it
    ``rejoins``, the same recorder with the same clock, after something of it was lost.
    """

    recorder: int
    begins: int
    header_size: int = 0
    doc_type: str = ""
    tracks: tuple[Track, ...] = ()
    splice: Splice | None = None
    joins: Joins = "follows"

    def unstructure(self) -> dict[str, Any]:
        """As JSON, for `structure`; the tracks stand in the container itself."""
        splice = self.splice
        return {
            "recorder": self.recorder,
            "begins": self.begins,
            "header_size": self.header_size,
            "doc_type": self.doc_type,
            "joins": self.joins,
            "splice": splice and [splice.offset, {str(track): at for track, at in splice.floor.items()}],
        }

    @classmethod
    def structure(cls, saved: dict[str, Any]) -> Life:
        """The life that was noted."""
        splice = saved["splice"]
        made = splice and Splice(splice[0], {int(track): at for track, at in splice[1].items()})
        return cls(**(saved | {"splice": made}))


@define(eq=False)
class Piece:
    """Frames of one configuration, with the random access points among them."""

    configuration: Configuration
    frames: list[Frame] = field(factory=list)
    marks: list[Mark] = field(factory=list)


@define(eq=False)
class Intake:
    """`feed` bytes, get pieces; *starts* of the last feed says where in it a recorder began.

    A configuration is left only at a random access point of the next one, and a life's pictures begin
    with a keyframe: what comes before is *discarded*, and counted. *count* is the sequence number of the
    next frame; the next *skip* frames are passed over (a replay begins at a segment, and its random
    access point may lie inside). *known* are lives, by number, of which an earlier process has found
    out how they are placed.
    """

    splicer: Splicing
    max_frame: int
    count: int = 0
    skip: int = 0
    lives: list[Life] = field(factory=list)
    known: dict[int, Life] = field(factory=dict)
    starts: list[int] = field(factory=list)
    discarded: int = 0
    error: MediaError | None = None
    max_lives: int | None = None
    _demuxer: SniffingDemuxer | None = None
    _fed: int = 0
    _base: int = 0
    _normalisers: dict[int, Normaliser] = field(factory=dict)
    _tracks: dict[int, Track] = field(factory=dict)
    _configuration: Configuration | None = None
    _ready: bool = False
    _awaits_keyframe: bool = False
    _joins: Joins = "follows"
    _segment: Position | None = None

    def begin(self, joins: Joins = "follows") -> None:
        """What comes next is a new container, whatever the last one left unfinished; see `Life.joins`."""
        self._joins = joins
        self._demuxer = SniffingDemuxer(max_frame=self.max_frame)
        self._base = self._fed
        self.error = None

    def jump(self, offset: int) -> None:
        """After an init segment: what comes next lies *offset* bytes into the life, at a media segment."""
        distance = self.lives[-1].begins + offset - self._fed
        self._fed += distance
        self._base += distance

    def resume(self, lives: list[Life], begins: int, count: int) -> None:
        """*lives* were before, in *begins* bytes with *count* frames; `begin` is next."""
        self.lives, self._fed, self.count = lives, begins, count

    def feed(self, data: bytes) -> list[Piece]:
        """Frames in *data*, in order.

        Malformed bytes set *error*, which is final for this container; the frames before them are
        returned all the same, and what follows is passed over.
        """
        if self._demuxer is None:
            self.begin()
        assert self._demuxer is not None  # noqa: S101  begin made it
        self.starts = []
        pieces: list[Piece] = []
        begins = self._fed == self._base
        self._fed += len(data)
        if self.error is not None or not data:
            return pieces
        # Not left to the demuxer: bytes that are no container must not end up in the last life's file.
        if begins and not self._add_life(self._base, len(data)):
            return pieces
        try:
            events = self._demuxer.feed(data)
        except MediaError as error:
            self.error, events = error, self._demuxer.salvaged
        self._handle(events, len(data), pieces)
        return pieces

    def close(self) -> list[Piece]:
        """Whole frames that waited for others to come before them: the container ends here."""
        pieces: list[Piece] = []
        if self._demuxer is not None and self.error is None:
            self._handle(self._demuxer.close(), 0, pieces)
        self._demuxer = None
        return pieces

    def _handle(self, events: list[Event], fed: int, pieces: list[Piece]) -> None:
        for event in events:
            match event:
                case Frame():
                    self._take(event, pieces)
                case SegmentStart(offset):
                    life = self.lives[-1]
                    self._segment = Position(life.recorder, self._base + offset - life.begins, 0)
                case RecorderStart(offset):
                    if not offset:
                        continue
                    if not self._add_life(self._base + offset, fed):
                        break
                case Header():
                    self._begin_life(event)

    def _add_life(self, begins: int, fed: int) -> bool:
        if len(self.lives) == self.max_lives:
            reason = f"more than {self.max_lives} recorders (journal.max_recorders)"
            self.error = MediaError(begins, reason)
            return False
        if begins < self._fed - fed:
            # The journal has those bytes in the last one's file already.
            self.error = MediaError(begins, "a new recorder must begin with a message of its own")
            return False
        number = len(self.lives)
        life = self.known.get(number) or Life(number, begins, joins=self._joins)
        life.begins = begins
        self.lives.append(life)
        self.starts.append(begins - (self._fed - fed))
        return True

    def _begin_life(self, header: Header) -> None:
        life = self.lives[-1]
        self._awaits_keyframe = life.joins != "continues"
        life.header_size = header.size
        life.doc_type = header.doc_type
        life.tracks = header.tracks
        self._normalisers = {track.number: normalise(track) for track in header.tracks}
        if header.tracks != next((e.tracks for e in reversed(self.lives[:-1]) if e.tracks), None):
            self._configure(
                {track.number: self._normalisers[track.number].track or track for track in header.tracks}
            )
        elif self.splicer.fresh_starts:
            self._ready = False

    def _configure(self, tracks: dict[int, Track]) -> None:
        self._tracks = tracks
        self._configuration = Configuration(tuple(tracks.values()))
        self._ready = False

    def _take(self, frame: Frame, pieces: list[Piece]) -> None:
        segment = self._segment
        if segment is not None:
            self._segment = evolve(segment, skip=segment.skip + 1)
        if self.skip:
            self.skip -= 1
            return
        normal = self._normalised(frame)
        configuration = self._configuration
        if normal is None or configuration is None:
            self.discarded += 1
            return
        starts = configuration.starts_at(normal)
        fresh = not self._ready
        if fresh and not starts:
            self.discarded += 1
            return
        life = self.lives[-1]
        if life.splice is None:
            life.splice = self.splicer.begin(normal, self._offset(life))
        placed = life.splice.apply(normal)
        if placed is None:
            self.discarded += 1
            return
        video = configuration.video
        if video is not None and placed.track == video.number and self._awaits_keyframe:
            if not placed.keyframe:
                # The life's first keyframe overlapped the life before, and was dropped.
                self.discarded += 1
                return
            self._awaits_keyframe = False
        if not pieces or pieces[-1].configuration is not configuration:
            pieces.append(Piece(configuration))
        # Without video every frame would be a start; the first of each segment is enough.
        if starts and (configuration.video or fresh or (segment and segment.skip == 0)):
            pieces[-1].marks.append(Mark(self.count, placed.timestamp, configuration, segment))
        pieces[-1].frames.append(placed)
        self._ready = True
        self.splicer.passed(placed)
        self.count += 1

    def _offset(self, life: Life) -> int | None:
        """A recorder that rejoins has the clock that it had."""
        before = self.lives[-2].splice if life.joins == "rejoins" and len(self.lives) > 1 else None
        return before.offset if before else None

    def _normalised(self, frame: Frame) -> Frame | None:
        """*frame* in its codec's usual shape; None if its track has no configuration (yet)."""
        normaliser = self._normalisers.get(frame.track)
        if normaliser is None:
            return None
        changed, normal = normaliser.push(frame)
        if changed is not None and changed != self._tracks[changed.number]:
            self._configure({**self._tracks, changed.number: changed})
        return normal
