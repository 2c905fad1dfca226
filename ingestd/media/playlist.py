"""Reads an HLS media playlist (RFC 8216, section 4.3): what is listed, and where the list ends."""

from __future__ import annotations

import math

from attrs import frozen


@frozen(slots=True)
class Segment:
    """A listed media segment: its *sequence* number, *duration* in seconds and *uri*."""

    sequence: int
    duration: float
    uri: str


@frozen(slots=True)
class MediaPlaylist:
    segments: tuple[Segment, ...] = ()
    ended: bool = False

    @property
    def last(self) -> Segment | None:
        return self.segments[-1] if self.segments else None


def parse_media_playlist(text: str) -> MediaPlaylist:
    """The segments of *text*. What it does not know it passes over, as section 6.3.1 asks."""
    sequence, duration, ended = 0, 0.0, False
    segments: list[Segment] = []
    for raw in text.splitlines():
        line = raw.strip()
        tag, _, value = line.partition(":")
        if tag == "#EXT-X-MEDIA-SEQUENCE" and value.isdecimal():
            sequence = int(value)
        elif tag == "#EXTINF":
            duration = _seconds(value.partition(",")[0])
        elif tag == "#EXT-X-ENDLIST":
            ended = True
        elif line and not line.startswith("#"):
            segments.append(Segment(sequence, duration, line))
            sequence, duration = sequence + 1, 0.0
    return MediaPlaylist(tuple(segments), ended)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0
