"""The one check that every sink makes before it names an output."""

from __future__ import annotations

from ingestd.errors import UnsupportedMedia
from ingestd.media.frames import Kind, Track
from ingestd.sinks.base import Sink


def require_codecs(sink: Sink, tracks: tuple[Track, ...]) -> None:
    """Raises `UnsupportedMedia`, with the fix, unless *sink* takes each of *tracks* as it is."""
    for track in tracks:
        taken = sink.video_codecs if track.kind is Kind.VIDEO else sink.audio_codecs
        if track.codec not in taken:
            raise UnsupportedMedia(
                f'sink "{sink.name or sink.type}" takes {track.kind} as {", ".join(sorted(taken))}, '
                f'not {track.codec}; set video.codec = "h264" in the pipeline to have it encoded'
            )
