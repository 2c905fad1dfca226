"""A server of ``ingestd.v1`` without I/O, as strict as ``docs/protocol.md``: what it took, and every gap."""

from __future__ import annotations

import json
import struct
from typing import Any

from attrs import define, field

from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import Frame, Header, Kind, SegmentStart

HEADER = struct.Struct("!QI")


@define(eq=False)
class Ledger:
    """One session. *files* are what a raw recording would have: one a recorder, and one behind each gap."""

    next: int = 0
    recorder: int | None = None
    gaps: list[int] = field(factory=list)
    files: list[bytes] = field(factory=list)
    seconds: list[float | None] = field(factory=list)
    taken: list[bytes] = field(factory=list)
    most: int = 2**24
    ended: bool = False
    _announced: int | None = None
    _skipped: bool = False

    def connect(self) -> dict[str, Any]:
        """What hello tells."""
        self._announced = None
        return {"following": self.next, "recorder": self.recorder, "max_message": self.most}

    def take(self, message: str | bytes) -> None:
        """One message of the client; AssertionError where it breaks the protocol."""
        if isinstance(message, str):
            self._obey(json.loads(message))
            return
        number, recorder = HEADER.unpack_from(message)
        data = message[HEADER.size :]
        assert len(message) <= self.most
        assert number == self.next, f"chunk {number} where {self.next} was due"
        assert recorder == self._announced
        begins = recorder != self.recorder
        if begins:
            self.files.append(b"")
        elif self._skipped:
            header = header_of(self.files[-1])
            assert header, "a recorder that goes on must have begun"
            self.files.append(header)
        if self._skipped:
            starts = (b"\x1a\x45\xdf\xa3", b"\x1f\x43\xb6\x75")
            assert data.startswith(b"\0\0") or any(start.startswith(data[:4]) for start in starts)
        self.files[-1] += data
        self.taken.append(data)
        self.recorder, self._skipped = recorder, False
        self.next += 1

    def _obey(self, said: dict[str, Any]) -> None:
        match said["type"]:
            case "recorder":
                assert said["number"] >= (-1 if self.recorder is None else self.recorder)
                assert self._announced is None or said["number"] >= self._announced
                self._announced = said["number"]
            case "skip":
                assert said["to"] > self.next
                self.gaps.append(said["to"] - self.next)
                self.seconds.append(said.get("seconds"))
                self.next, self._skipped = said["to"], True
            case "end":
                self.ended = True


def header_of(data: bytes) -> bytes:
    """The init segment that *data* begins with, if a demuxer has seen its end."""
    for event in SniffingDemuxer().feed(data):
        if isinstance(event, Header):
            return data[: event.size]
    return b""


def frames_of(data: bytes) -> list[tuple[int, int, bytes]]:
    """Track, time and payload of each frame; the file must begin with a random access point."""
    events = SniffingDemuxer().feed(data)
    video = {t.number for e in events if isinstance(e, Header) for t in e.tracks if t.kind is Kind.VIDEO}
    frames = [event for event in events if isinstance(event, Frame)]
    pictures = [frame for frame in frames if frame.track in video]
    assert not pictures or pictures[0].keyframe
    return [(frame.track, frame.timestamp, bytes(frame.payload)) for frame in frames]


def access_points(data: bytes) -> list[int]:
    """Where the media segments begin whose first picture is a keyframe (any, without pictures)."""
    events, segment, found = SniffingDemuxer().feed(data), None, []
    video = {t.number for e in events if isinstance(e, Header) for t in e.tracks if t.kind is Kind.VIDEO}
    for event in events:
        if isinstance(event, SegmentStart):
            segment = event.offset
            if not video:
                found.append(segment)
        elif isinstance(event, Frame) and event.track in video:
            if segment is not None and event.keyframe:
                found.append(segment)
            segment = None
    return found
