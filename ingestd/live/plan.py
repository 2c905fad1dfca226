"""What a session does with its source: copy or encode each kind of track, and why."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

from ingestd.config import Pipeline
from ingestd.live.batch import Configuration
from ingestd.media.frames import Kind, Track
from ingestd.media.h264 import parse_avcc, parse_sps
from ingestd.sinks.base import Sink

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
    sinks = [sink for sink in pipeline.sinks if takes_program(sink)]
    if wanted == "h264" and sinks:
        return Plan("encode", "encode")
    video = audio = "copy"
    for track in configuration.tracks:
        taken = all(takes(sink, track) for sink in sinks)
        if track.kind is Kind.VIDEO:
            video = "copy" if taken else "encode"
        else:
            audio = "copy" if taken else "encode"
    # A picture that is encoded leaves its encoder later than sound that is not: encode both or none.
    if video == "encode" and configuration.audio is not None:
        audio = "encode"
    return Plan(_treatment(video), _treatment(audio))


def _treatment(value: str) -> Treatment:
    return "encode" if value == "encode" else "copy"


def takes_program(sink: Sink) -> bool:
    """False for a raw recording, which is the journal and takes the source whatever it is."""
    return getattr(sink, "format", None) != "raw"


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
