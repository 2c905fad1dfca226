"""What a session does with its source: copy or encode each kind of track, and why."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypeGuard

from attrs import frozen

from ingestd.config import Pipeline
from ingestd.live.batch import Configuration
from ingestd.media.frames import Kind, Track
from ingestd.media.h264 import parse_avcc, parse_sps
from ingestd.sinks.base import Sink
from ingestd.sinks.file import FileSink

Treatment: TypeAlias = Literal["copy", "encode"]

#: profile_idc of constrained baseline, main and high (ITU-T H.264, A.2), and level_idc 4.2 (table A-1):
#: what Mux, and the players of HLS and MP4, take.
_PROFILES = frozenset({66, 77, 100})
_MAX_LEVEL = 42


@frozen(slots=True)
class Plan:
    """How the program is made. Without an encoder the program *is* the source."""

    video: Treatment
    audio: Treatment

    @property
    def encodes(self) -> bool:
        return "encode" in (self.video, self.audio)


def plan(pipeline: Pipeline, configuration: Configuration) -> Plan:
    """The plan for a source of *configuration*.

    ``auto`` copies what every sink takes as it is, and encodes the rest; ``h264`` encodes always;
    ``copy`` never, and a sink that cannot take the source then fails with the reason.
    """
    wanted = pipeline.video.codec
    if wanted == "copy":
        return Plan("copy", "copy")
    sinks = [sink for sink in pipeline.sinks if not is_raw(sink)]
    # A slate is made as the encoder makes its frames.
    if (wanted == "h264" or pipeline.slate.show != "hold") and sinks:
        return Plan("encode", "encode")
    video: Treatment = "copy"
    audio: Treatment = "copy"
    for track in configuration.tracks:
        if all(takes(sink, track) for sink in sinks):
            continue
        if track.kind is Kind.VIDEO:
            video = "encode"
        else:
            audio = "encode"
    # A picture that is encoded leaves its encoder later than sound that is not: encode both or none.
    if video == "encode" and configuration.audio is not None:
        audio = "encode"
    return Plan(video, audio)


def is_raw(sink: Sink) -> TypeGuard[FileSink]:
    """True for a raw recording, which is the journal and takes the source whatever it is."""
    return isinstance(sink, FileSink) and sink.format == "raw"


def takes(sink: Sink, track: Track) -> bool:
    """True if *sink* takes *track* without encoding."""
    if track.kind is Kind.AUDIO:
        return track.codec in sink.audio_codecs
    return track.codec in sink.video_codecs and (track.codec != "h264" or _fits(track))


def _fits(track: Track) -> bool:
    """True if an H.264 track's profile and level are ones that every player takes."""
    try:
        _, sps, _ = parse_avcc(track.private)
        info = parse_sps(sps[0])
    except (ValueError, IndexError):
        return False
    return info.profile in _PROFILES and info.level <= _MAX_LEVEL
