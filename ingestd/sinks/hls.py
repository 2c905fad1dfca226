"""``type = "hls"``: segments and a media playlist (RFC 8216) on local disk, written by FFmpeg.

What FFmpeg does with these options was tried with 5.1 and 9.0; ``tests/sinks`` holds it to that:

- After a SIGKILL, `append_list` reads the playlist back, goes on with its numbers after an
  EXT-X-DISCONTINUITY, and later deletes the segments that were listed; of a playlist that lists none
  it takes MEDIA-SEQUENCE. Up to *window* + 1 segments that had just left the list stay behind at each
  such restart.
- Without a playlist of this session `append_list` could only do harm (a DISCONTINUITY at the top, or
  an older session's segments); without it the first complete segment replaces what was there.
- At any end of input FFmpeg lists what it has as the last segment. Left to it, ENDLIST would tell
  players to stop when the daemon dies, or when the codec configuration changes: `omit_endlist`.
- TS comes out 1.4 s late unless told not to.
- In fMP4 the init segment would hold the start of *this* attempt in an edit list. With
  ``frag_discont`` each fragment carries its own time, and with a fixed time scale every attempt
  writes the same init segment, byte for byte: one EXT-X-MAP serves them all. It does so under
  another name, because FFmpeg empties the file at once and fills it with the first segment.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import field, frozen

from ingestd.config import Seconds
from ingestd.media.frames import Track
from ingestd.ranges import duration_between, number_between
from ingestd.sinks.base import Output, Place, Playlist, Sink
from ingestd.sinks.codecs import require_codecs

PLAYLIST = "index.m3u8"
_TS_VIDEO, _TS_AUDIO = frozenset({"h264", "hevc"}), frozenset({"aac", "mp3"})
_FMP4_VIDEO, _FMP4_AUDIO = frozenset({"av1", "h264", "hevc", "vp9"}), frozenset({"aac", "mp3", "opus"})


@frozen(slots=True, kw_only=True)
class HlsSink(Sink):
    """``hls/<stream>/index.m3u8``: a live window, or with ``window = 0`` the whole session (EVENT).

    *segment* is a target: segments end at the first keyframe after it, so the pipeline's
    ``keyframe_interval`` should divide it. *window* counts segments.
    """

    type: ClassVar[str] = "hls"

    segment: Seconds = field(default=2.0, validator=duration_between("500ms", "1m"))
    window: int = field(default=6, validator=number_between(3, 10_000, zero="all are kept"))
    container: Literal["ts", "fmp4"] = "ts"

    @property
    def video_codecs(self) -> frozenset[str]:  # type: ignore[override]  # the container decides
        """What the chosen container holds."""
        return _TS_VIDEO if self.container == "ts" else _FMP4_VIDEO

    @property
    def audio_codecs(self) -> frozenset[str]:  # type: ignore[override]  # the container decides
        """What the chosen container holds."""
        return _TS_AUDIO if self.container == "ts" else _FMP4_AUDIO

    @property
    def claim(self) -> str:
        """What only one sink of a pipeline can write to."""
        return PLAYLIST

    def output(self, place: Place, tracks: tuple[Track, ...]) -> Output:
        """Segments ``<stem>-000000.ts`` (or ``.m4s``) and the playlist in ``place.hls``, which must exist.

        After a cut its number stands behind the stem: ``<stem>-1-000007.ts``. Raises `UnsupportedMedia`
        for codecs that the container does not take.
        """
        require_codecs(self, tracks)
        flags = ["independent_segments", "temp_file", "omit_endlist"]
        if self.window:
            flags.append("delete_segments")
        if place.resumed:
            flags.append("append_list")
            numbered: list[str] = []
        else:
            numbered = ["-start_number", str(place.first)]
        stem = f"{place.stem}-{place.cuts}" if place.cuts else place.stem
        suffix = "ts" if self.container == "ts" else "m4s"
        # FFmpeg takes the whole path of a segment as a template.
        template = str(place.hls / stem).replace("%", "%%") + f"-%06d.{suffix}"
        args = ["-f", "hls", "-hls_time", f"{self.segment:g}", *numbered, *self._listing()]
        args += [
            "-hls_flags",
            "+".join(flags),
            "-hls_segment_filename",
            template,
            *self._container(f"{stem}-{place.first:06}" if place.resumed else stem),
        ]
        return Output(args=(*args, str(place.hls / PLAYLIST)), protocols=("file",))

    def playlist(self, place: Place) -> Playlist:
        """A segment ends at the first keyframe after its time: under ``copy`` some seconds later."""
        keep = self.window + 1 if self.window else None
        return Playlist(place.hls / PLAYLIST, 3 * self.segment + 10.0, keep, checked=True)

    def _listing(self) -> list[str]:
        if not self.window:
            return ["-hls_list_size", "0", "-hls_playlist_type", "event"]
        # RFC 8216, 6.2.2: a segment stays as long as the longest playlist that listed it, and itself.
        return ["-hls_list_size", str(self.window), "-hls_delete_threshold", str(self.window + 1)]

    def _container(self, init: str) -> list[str]:
        if self.container == "ts":
            return ["-hls_segment_type", "mpegts", "-muxdelay", "0", "-muxpreload", "0"]
        return [
            "-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", f"{init}-init.mp4",
            "-hls_segment_options", "movflags=+frag_discont:video_track_timescale=90000",
        ]  # fmt: skip
