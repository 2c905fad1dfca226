"""``type = "file"``: recordings on local disk, written by the daemon itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar, Literal

from attrs import field, frozen

from ingestd.config import Bytes, Seconds
from ingestd.media.frames import Track
from ingestd.ranges import duration_between, size_between
from ingestd.sinks.base import Output, Place, Sink
from ingestd.sinks.codecs import require_codecs
from ingestd.sinks.file_path import fill, path_problem

_ANY_VIDEO = frozenset({"av1", "h264", "hevc", "vp8", "vp9"})
_ANY_AUDIO = frozenset({"aac", "mp3", "opus", "vorbis"})
_MP4_VIDEO = frozenset({"av1", "h264", "hevc", "vp9"})
_MP4_AUDIO = frozenset({"aac", "mp3", "opus"})


@frozen(slots=True, kw_only=True)
class FileSink(Sink):
    """Recordings of a session in ``recordings/<stream>/``, named as *path* says.

    ``raw`` keeps the journal: the publisher's bytes as they came. ``mkv`` and ``mp4`` record the
    program: what the encoder made, or the source under ``copy``, in
    one file or, with *rotate_every* or *rotate_size*, in several, each from a keyframe on. With
    *keep_for* or *keep_size* the oldest finished ones are removed again.
    """

    type: ClassVar[str] = "file"

    format: Literal["raw", "mkv", "mp4"] = "mkv"
    path: str = "{session}"
    rotate_every: Seconds = field(default=0.0, validator=duration_between("1s", "7d", zero="never"))
    rotate_size: Bytes = field(default=0, validator=size_between("64KiB", "16TiB", zero="never"))
    keep_for: Seconds = field(default=0.0, validator=duration_between("1m", "3650d", zero="for ever"))
    keep_size: Bytes = field(default=0, validator=size_between("1MiB", "1024TiB", zero="no limit"))

    @property
    def video_codecs(self) -> frozenset[str]:  # type: ignore[override]  # the format decides
        """What the chosen format holds."""
        return _MP4_VIDEO if self.format == "mp4" else _ANY_VIDEO

    @property
    def audio_codecs(self) -> frozenset[str]:  # type: ignore[override]  # the format decides
        """What the chosen format holds."""
        return _MP4_AUDIO if self.format == "mp4" else _ANY_AUDIO

    @property
    def claim(self) -> str:
        """What only one sink of a pipeline can write to."""
        return f"recording.{self.format} {self.path}"

    @property
    def retains(self) -> bool:
        """Whether finished recordings are ever removed."""
        return bool(self.keep_for or self.keep_size)

    def problems(self) -> list[tuple[str, str]]:
        """A path that cannot be, and what ``raw`` cannot do."""
        found = [("path", problem)] if (problem := path_problem(self.path)) else []
        if self.format == "raw":
            text = 'expected nothing: with format = "raw" each recorder is one file, as it came; remove it'
            found += [(key, text) for key in ("rotate_every", "rotate_size") if getattr(self, key)]
        return found

    def stem(self, place: Place, number: int, began: float) -> str:
        """The path below ``place.recordings``, without a suffix, of the session's file *number* (from 1).

        *began* is when that file begins, in seconds since 1970. Where the template does not number
        its files, all but the first get their number at the end.
        """
        moment = datetime.fromtimestamp(began, UTC)
        values = {
            "stream": place.stream,
            "pipeline": place.pipeline,
            "sink": self.name or self.type,
            "session": place.stem,
            "date": f"{moment:%Y-%m-%d}",
            "time": f"{moment:%H%M%S}",
            "part": f"{number:03}",
        }
        numbered = number == 1 or "{part}" in self.path or self.format == "raw"
        return fill(self.path, values) + ("" if numbered else f"-{number}")

    def output(self, place: Place, tracks: tuple[Track, ...]) -> Output | None:  # noqa: ARG002
        """None, because the daemon writes files. Raises `UnsupportedMedia` as the contract says."""
        require_codecs(self, tracks)
        return None
