"""``type = "file"``: recordings on local disk, written by the daemon itself."""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import frozen

from ingestd.media.frames import Track
from ingestd.sinks.base import Output, Place, Sink
from ingestd.sinks.codecs import require_codecs

_ANY_VIDEO = frozenset({"av1", "h264", "hevc", "vp8", "vp9"})
_ANY_AUDIO = frozenset({"aac", "mp3", "opus", "vorbis"})
_MP4_VIDEO = frozenset({"av1", "h264", "hevc", "vp9"})
_MP4_AUDIO = frozenset({"aac", "mp3", "opus"})


@frozen(slots=True, kw_only=True)
class FileSink(Sink):
    """A recording per session in ``recordings/<stream>/``.

    ``raw`` keeps the journal: the publisher's bytes as they came. ``mkv`` and ``mp4`` record the
    program: what the encoder made, or the source under ``copy``.
    """

    type: ClassVar[str] = "file"

    format: Literal["raw", "mkv", "mp4"] = "mkv"

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
        return f"recording.{self.format}"

    def output(self, place: Place, tracks: tuple[Track, ...]) -> Output | None:  # noqa: ARG002
        """None, because the daemon writes files. Raises `UnsupportedMedia` as the contract says."""
        require_codecs(self, tracks)
        return None
