"""What the media tests share: events in comparable form, hand-made containers, other people's readers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import (
    DOC_TYPE,
    EBML,
    encode,
    encode_id,
    encode_string,
    encode_uint,
    unknown_size,
    vint,
)
from ingestd.media.frames import NS_PER_MS, Event, Frame, Header
from ingestd.media.webm_demux import Demuxer
from tests.support.packages import program


def demux(pieces: Iterable[bytes]) -> list[Event]:
    """All events of *pieces*."""
    demuxer = Demuxer()
    events = [event for piece in pieces for event in demuxer.feed(piece)]
    return events + demuxer.close()


def plain(events: Iterable[Event]) -> list[Event]:
    """The same events with payloads as bytes, which compare by content."""
    return [
        Frame(event.track, event.timestamp, event.keyframe, bytes(event.payload), event.duration)
        if isinstance(event, Frame)
        else event
        for event in events
    ]


def frames_of(events: Iterable[Event]) -> list[Frame]:
    """Only the frames."""
    return [event for event in events if isinstance(event, Frame)]


def header_of(events: Iterable[Event]) -> Header:
    """The first Header."""
    return next(event for event in events if isinstance(event, Header))


Packet = tuple[int, int, bool, int]


def packets_of(events: Sequence[Event]) -> list[Packet]:
    """The frames as (stream index, ms, keyframe, size), which is how ffprobe lists them."""
    index = {track.number: position for position, track in enumerate(header_of(events).tracks)}
    return [
        (index[frame.track], round(frame.timestamp / NS_PER_MS), frame.keyframe, len(frame.payload))
        for frame in frames_of(events)
    ]


def ffprobe_packets(path: Path) -> list[Packet]:
    """What ffprobe lists of *path*."""
    entries = "packet=stream_index,pts,size,flags"
    command = [
        program("ffprobe"),
        "-v",
        "error",
        "-f",
        "matroska",
        "-show_entries",
        entries,
        "-of",
        "json",
        str(path),
    ]
    result = subprocess.run(command, capture_output=True, check=True)
    return [
        (int(packet["stream_index"]), int(packet["pts"]), "K" in packet["flags"], int(packet["size"]))
        for packet in json.loads(result.stdout)["packets"]
    ]


def ffmpeg_complaints(path: Path, *, decode: bool = False) -> str:
    """What FFmpeg warns of when it reads, or decodes, the whole of *path*: nothing, for a good file."""
    copy = [] if decode else ["-c", "copy"]
    command = [program("ffmpeg"), "-nostdin", "-v", "warning", "-i", str(path), *copy, "-f", "null", "-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def mkvmerge_complaints(path: Path, output: Path) -> list[str]:
    """What mkvmerge warns of when it identifies *path* and remuxes it to *output*."""
    identify = subprocess.run([program("mkvmerge"), "-J", str(path)], capture_output=True, check=True)
    report = json.loads(identify.stdout)
    assert report["container"]["recognized"]
    assert report["container"]["supported"]
    remux = subprocess.run(
        [program("mkvmerge"), "-o", str(output), str(path)], capture_output=True, text=True
    )
    lines = [line for line in remux.stdout.splitlines() if line.startswith(("Warning", "Error"))]
    assert (remux.returncode != 0) == bool(lines)
    return [*report["warnings"], *report["errors"], *lines]


def ebml_head(doc_type: str = "webm", extra: bytes = b"") -> bytes:
    """An EBML head."""
    return encode(EBML, encode_string(DOC_TYPE, doc_type) + extra)


def track_entry(number: int = 1, kind: int = 1, codec_id: str = "V_VP8", extra: bytes = b"") -> bytes:
    """A TrackEntry."""
    body = encode_uint(ids.TRACK_NUMBER, number) + encode_uint(ids.TRACK_TYPE, kind)
    return encode(ids.TRACK_ENTRY, body + encode_string(ids.CODEC_ID, codec_id) + extra)


def init(*entries: bytes, info: bytes = b"", doc_type: str = "webm") -> bytes:
    """An init segment with a Segment of unknown size."""
    body = encode(ids.INFO, info) + encode(ids.TRACKS, b"".join(entries or (track_entry(),)))
    return ebml_head(doc_type) + encode_id(ids.SEGMENT) + unknown_size() + body


def block(payload: bytes = b"frame", *, track: int = 1, relative: int = 0, flags: int = 0x80) -> bytes:
    """A block's body."""
    return vint(track) + (relative & 0xFFFF).to_bytes(2, "big") + bytes((flags,)) + payload


def simple(payload: bytes = b"frame", *, track: int = 1, relative: int = 0, flags: int = 0x80) -> bytes:
    """A SimpleBlock."""
    return encode(ids.SIMPLE_BLOCK, block(payload, track=track, relative=relative, flags=flags))


def cluster(*children: bytes, time: int = 0, known: bool = False) -> bytes:
    """A Cluster with its Timestamp."""
    body = encode_uint(ids.TIMESTAMP, time) + b"".join(children)
    return encode_id(ids.CLUSTER) + (vint(len(body)) if known else unknown_size()) + body
