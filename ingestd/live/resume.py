"""What a recording notes for a daemon that takes its session up, and what its files have of the program.

The program that comes again has the same frames at the same times, numbered anyhow, and begins at any
random access point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cattrs
from attrs import define, field, frozen

from ingestd.live.batch import Configuration
from ingestd.live.notes import Notes
from ingestd.media.frames import Frame
from ingestd.sinks.file import FileSink

_PREFIX, _SUFFIX = "recording-", ".json"
#: How far one track's last frame may lie behind another's when both go on.
_ABREAST_MS = 2000
_converter = cattrs.Converter()


@frozen(slots=True)
class PartNote:
    """A file that is being written: *name* lies below the stream's recordings, *number* counts the session's.

    All times are in ns: *zero* of the program is 0 in the file and *date* since 1970; *begins* is the
    time of the first frame.
    """

    name: str
    number: int
    zero: int
    begins: int
    date: int


@frozen(slots=True)
class RecordingNote:
    """How a recording stands: *part* is being written, those named *ended* wait to be finished.

    *files* were begun and *finished* have their name; *last* is the newest one's. Those that are ended
    reach to *reach* (ns of the program, by track).
    """

    files: int = 0
    finished: int = 0
    last: str | None = None
    part: PartNote | None = None
    ended: tuple[str, ...] = ()
    reach: Mapping[int, int] = field(factory=dict)

    @property
    def unfinished(self) -> list[str]:
        """The names of all files that are not yet finished."""
        return [*self.ended, *([self.part.name] if self.part else [])]

    @classmethod
    def load(cls, notes: Notes) -> RecordingNote | None:
        """What *notes* have; None if that is nothing, or cannot be read."""
        value = notes.load()
        try:
            return None if value is None else _converter.structure(value, cls)
        except cattrs.BaseValidationError:
            return None

    def save(self, notes: Notes) -> None:
        """Raises OSError, and then the old note stays."""
        notes.save(_converter.unstructure(self))


def notes_of(directory: Path, sink: FileSink) -> Notes:
    """Where the recording of *sink* has its note, in the journal *directory* of its session."""
    return Notes(directory / f"{_PREFIX}{sink.name or sink.type}{_SUFFIX}")


def all_notes(directory: Path) -> list[RecordingNote]:
    """What the recordings of the session with the journal *directory* have noted."""
    found = (RecordingNote.load(Notes(path)) for path in sorted(directory.glob(f"{_PREFIX}*{_SUFFIX}")))
    return [note for note in found if note is not None]


@define(eq=False)
class End:
    """Where a track ends in a file, in ms: its *newest* frame and, in decode order, the *last* one."""

    first: int
    newest: int
    last: tuple[int, bytes] = (0, b"")
    frames: int = 0
    skipped: int = 0

    @property
    def step(self) -> float:
        """From one frame to the next, on average; 0 if that cannot be said."""
        return (self.newest - self.first) / (self.frames - 1) if self.frames > 1 else 0.0

    def missing(self, time: int) -> int:
        """How many frames there were before *time*, as far as their distance tells."""
        return max(0, round((time - self.newest) / self.step) - 1) if self.step else 0


@define(eq=False)
class Overlap:
    """Knows those frames of a program that comes again which files have.

    Finished files have each track up to *reach* (ns), the one that is gone on with up to its *ends*. There
    a track goes on behind its last frame or, where that does not come, with the first one (of pictures:
    the first keyframe) beyond the newest. If the program begins later than *expected* there is a gap:
    *gaps* counts them, *dropped* the frames of which it is known that they are lost in them.
    """

    reach: dict[int, int]
    expected: float
    ends: dict[int, End] = field(factory=dict)
    time: Callable[[Frame], int] = lambda frame: frame.timestamp
    gaps: int = 0
    dropped: int = 0
    _began: bool = False

    @classmethod
    def of_file(
        cls, reach: Mapping[int, int], ends: Mapping[int, End], time: Callable[[Frame], int]
    ) -> Overlap:
        """With a file whose blocks have their *time* in ms."""
        expected = max(end.newest + 1.5 * (end.step or 1000) for end in ends.values())
        return cls(dict(reach), expected, dict(ends), time)

    @property
    def is_over(self) -> bool:
        """Whether all that is still to come is new."""
        return not self.reach and not self.ends

    def has(self, frame: Frame, configuration: Configuration) -> bool:
        """Whether *frame* is in a file already, or no use any more. To be asked once of each, in order."""
        if not self._began:
            self._began = True
            self._measure(self.time(frame))
        track = frame.track
        if track in self.reach:
            if frame.timestamp <= self.reach[track]:
                return True
            del self.reach[track]
        end = self.ends.get(track)
        if end is None:
            return False
        time, video = self.time(frame), configuration.video
        if time > end.newest:
            if video is not None and track == video.number and not frame.keyframe:
                end.skipped += 1
                return True
            self.gaps += bool(end.skipped)
            self.dropped += end.skipped
            del self.ends[track]
            return False
        if (time, frame.payload) == end.last:
            del self.ends[track]
        return True

    def _measure(self, first: int) -> None:
        """Count what is missing before *first*, the time of the first frame that can still be had."""
        if first <= self.expected:
            return
        self.gaps += 1
        newest = max((end.newest for end in self.ends.values()), default=0)
        for end in self.ends.values():
            if newest - end.newest < _ABREAST_MS:
                self.dropped += end.missing(first)
