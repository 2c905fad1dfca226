"""HLS media playlists (RFC 8216, section 4.3): what is listed, where the list ends, and cutting it back."""

from __future__ import annotations

import math
import re

from attrs import frozen

_MAP_URI = re.compile(r'(?:^|,)URI="([^"]*)"')
_ENDLIST = "#EXT-X-ENDLIST"
#: Tags of a segment (section 4.3.2), and those of rfc8216bis: they go where their segment goes.
_SEGMENT_TAGS = frozenset(
    {
        "#EXTINF",
        "#EXT-X-BITRATE",
        "#EXT-X-BYTERANGE",
        "#EXT-X-DATERANGE",
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-GAP",
        "#EXT-X-KEY",
        "#EXT-X-PART",
        "#EXT-X-PROGRAM-DATE-TIME",
    }
)


@frozen(slots=True)
class Segment:
    """A listed media segment: its *sequence* number, *duration* in seconds and *uri*."""

    sequence: int
    duration: float
    uri: str


@frozen(slots=True)
class MediaPlaylist:
    """*init* is the URI of the media initialization section, where there is one.

    *following* is the sequence number that one more segment would have.
    """

    segments: tuple[Segment, ...] = ()
    ended: bool = False
    init: str | None = None
    following: int = 0

    @property
    def last(self) -> Segment | None:
        return self.segments[-1] if self.segments else None


def parse_media_playlist(text: str) -> MediaPlaylist:
    """The segments of *text*. What it does not know it passes over, as section 6.3.1 asks."""
    sequence, duration, ended = 0, 0.0, False
    init: str | None = None
    segments: list[Segment] = []
    for raw in text.splitlines():
        line = raw.strip()
        tag, _, value = line.partition(":")
        if tag == "#EXT-X-MEDIA-SEQUENCE" and value.isdecimal():
            sequence = int(value)
        elif tag == "#EXTINF":
            duration = _seconds(value.partition(",")[0])
        elif tag == "#EXT-X-MAP":
            found = _MAP_URI.search(value)
            init = found[1] if found else init
        elif tag == _ENDLIST:
            ended = True
        elif line and not line.startswith("#"):
            segments.append(Segment(sequence, duration, line))
            sequence, duration = sequence + 1, 0.0
    return MediaPlaylist(tuple(segments), ended, init, sequence)


def is_whole(text: str) -> bool:
    """False for a playlist that was emptied, or cut short inside a line."""
    return text.startswith("#EXTM3U") and text.endswith("\n")


def cut_back(text: str, last: int) -> str:
    """The playlist *text* without the segments after number *last* and without its end, to be gone on with.

    What applies to the whole playlist stays, also where no segment does: MEDIA-SEQUENCE goes on counting.
    """
    kept: list[str] = []
    own: list[str] = []  # tags of the segment that comes
    sequence = 0
    for raw in text.splitlines():
        line = raw.strip()
        tag, _, value = line.partition(":")
        if tag == "#EXT-X-MEDIA-SEQUENCE" and value.isdecimal():
            sequence = int(value)
        if tag in _SEGMENT_TAGS:
            own.append(line)
        elif line.startswith("#"):
            kept += [line] if tag != _ENDLIST else []
        elif line:
            kept += [*own, line] if sequence <= last else []
            own = []
            sequence += 1
    return "".join(f"{line}\n" for line in kept)


def end_list(text: str) -> str:
    """The playlist *text*, as `cut_back` returns it, with its end: nothing will be added."""
    return f"{text}{_ENDLIST}\n"


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0
