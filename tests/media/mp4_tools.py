"""What the MP4 tests share: demuxing, ffprobe's view, and boxes made by hand."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from ingestd.media.frames import Event, Frame
from ingestd.media.mp4_boxes import encode, encode_full, to_ns
from ingestd.media.mp4_demux import Mp4Demuxer
from tests.media.tools import Packet, frames_of, header_of
from tests.support.captures import Capture, captures
from tests.support.packages import program

MP4_CAPTURES = tuple(found for found in captures(webm_only=False) if found.name.endswith(".mp4"))


def mp4_capture(name: str) -> Capture:
    """The MP4 capture in file *name*."""
    return next(found for found in MP4_CAPTURES if found.name == name)


def demux_mp4(pieces: Iterable[bytes]) -> list[Event]:
    """All events of *pieces*."""
    demuxer = Mp4Demuxer()
    events = [event for piece in pieces for event in demuxer.feed(piece)]
    return events + demuxer.close()


def packets_ns(events: Sequence[Event]) -> list[Packet]:
    """The frames as (stream index, ns, keyframe, size)."""
    index = {track.number: position for position, track in enumerate(header_of(events).tracks)}
    return [
        (index[frame.track], frame.timestamp, frame.keyframe, len(frame.payload))
        for frame in frames_of(events)
    ]


def ffprobe_ns(path: Path) -> list[Packet]:
    """What ffprobe lists of *path*, its times as the nearest nanosecond."""
    entries = "packet=stream_index,pts,size,flags:stream=index,time_base"
    command = [program("ffprobe"), "-v", "error", "-show_entries", entries, "-of", "json", str(path)]
    report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    bases = {stream["index"]: int(stream["time_base"].removeprefix("1/")) for stream in report["streams"]}
    return [
        (
            packet["stream_index"],
            to_ns(packet["pts"], bases[packet["stream_index"]]),
            "K" in packet["flags"],
            int(packet["size"]),
        )
        for packet in report["packets"]
    ]


def plain_frames(events: Iterable[Event], track: int) -> list[Frame]:
    """The frames of one track with payloads as bytes."""
    return [
        Frame(frame.track, frame.timestamp, frame.keyframe, bytes(frame.payload), frame.duration)
        for frame in frames_of(events)
        if frame.track == track
    ]


VISUAL = struct.pack(">6xH16xHH50x", 1, 64, 48)
AUDIO = struct.pack(">6xH8xHH4xI", 1, 2, 16, 48_000 << 16)
FTYP = encode(b"ftyp", b"isom\0\0\2\0isom")
MVHD = encode_full(b"mvhd", 0, 0, struct.pack(">8xI", 1000), bytes(84))


def trak(
    number: int = 1,
    entry: bytes | None = None,
    *,
    handler: bytes = b"vide",
    timescale: int = 1000,
    edits: Sequence[tuple[int, int]] = (),
    stbl: bytes = b"",
) -> bytes:
    """A track, video of VP8 unless *entry* says otherwise."""
    if entry is None:
        entry = encode(b"vp08", VISUAL)
    stsd = encode_full(b"stsd", 0, 0, struct.pack(">I", 1), entry)
    elst = encode_full(
        b"elst", 0, 0, struct.pack(">I", len(edits)), *(struct.pack(">IiI", *edit, 1 << 16) for edit in edits)
    )
    return encode(
        b"trak",
        encode_full(b"tkhd", 0, 3, struct.pack(">8xI", number), bytes(68)),
        encode(b"edts", elst) if edits else b"",
        encode(
            b"mdia",
            encode_full(b"mdhd", 0, 0, struct.pack(">8xI", timescale), bytes(8)),
            encode_full(b"hdlr", 0, 0, struct.pack(">4x4s12x", handler), b"\0"),
            encode(b"minf", encode(b"stbl", stsd, stbl)),
        ),
    )


def trex(number: int = 1, duration: int = 0, size: int = 0, flags: int = 0) -> bytes:
    """The defaults of a track."""
    return encode_full(b"trex", 0, 0, struct.pack(">5I", number, 1, duration, size, flags))


def mp4_init(*traks: bytes, numbers: Sequence[int] = (1,), mvex: bytes | None = None) -> bytes:
    """An init segment."""
    if mvex is None:
        mvex = encode(b"mvex", *(trex(number) for number in numbers))
    return FTYP + encode(b"moov", MVHD, *(traks or (trak(),)), mvex)


def trun(
    sizes: Sequence[int], *, offset: int | None = None, duration: int = 40, first: int | None = None
) -> bytes:
    """A run of samples that each say duration and size."""
    flags = 0x300 | (offset is not None) | 4 * (first is not None)
    body = struct.pack(">I", len(sizes))
    body += struct.pack(">i", offset) if offset is not None else b""
    body += struct.pack(">I", first) if first is not None else b""
    return encode_full(b"trun", 0, flags, body, *(struct.pack(">II", duration, size) for size in sizes))


def traf(*truns: bytes, track: int = 1, time: int = 0, flags: int = 0x020000, extra: bytes = b"") -> bytes:
    """A track fragment."""
    tfhd = encode_full(b"tfhd", 0, flags, struct.pack(">I", track), extra)
    return encode(b"traf", tfhd, encode_full(b"tfdt", 1, 0, struct.pack(">Q", time)), *truns)


def moof(*trafs: bytes) -> bytes:
    """A movie fragment."""
    return encode(b"moof", encode_full(b"mfhd", 0, 0, struct.pack(">I", 1)), *trafs)


def fragment(*payloads: bytes, track: int = 1, time: int = 0) -> bytes:
    """A moof of one track, and its mdat."""
    sizes = [len(payload) for payload in payloads]
    offset = len(moof(traf(trun(sizes, offset=0), track=track))) + 8
    return moof(traf(trun(sizes, offset=offset), track=track, time=time)) + encode(b"mdat", *payloads)
