"""Where a recorder's bytes can be cut: the end of its headers, and its random access points. Without I/O."""

from __future__ import annotations

from attrs import define, field, frozen

from ingestd.errors import MediaError
from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import Frame, Header, Kind, RecorderStart, SegmentStart

_MAX_HEADER = 2 * 2**20


@frozen(slots=True)
class Found:
    """What a piece of a recorder completed.

    *header* tells that the init segment is complete now, *access* are the offsets (in the recorder's bytes)
    of media segments that begin with a random access point, *next* is the offset in the piece at which
    another recorder begins; what lies behind that was not looked at.
    """

    header: bool = False
    access: tuple[int, ...] = ()
    next: int | None = None


@define(eq=False)
class Scan:
    """Follows one recorder. What it cannot parse it passes over: that is for the server to judge.

    *header* has the init segment once it is complete; *fed* counts the recorder's bytes.
    """

    header: bytes = b""
    fed: int = 0
    _demuxer: SniffingDemuxer | None = field(factory=SniffingDemuxer)
    _head: bytes = b""
    _video: int | None = None
    _segment: int | None = None  # which has not shown its first picture yet

    def feed(self, data: bytes) -> Found:
        """Take the recorder's next bytes."""
        before, self.fed = self.fed, self.fed + len(data)
        if self._demuxer is None:
            return Found()
        if not self.header:
            self._head += data
        try:
            events = self._demuxer.feed(data)
        except MediaError:
            events, self._demuxer = self._demuxer.salvaged, None
        header = False
        access: list[int] = []
        for event in events:
            match event:
                case RecorderStart(offset) if offset >= before and offset:
                    self.fed, self._demuxer = offset, None
                    return Found(header, tuple(access), offset - before)
                case RecorderStart(offset) if offset:
                    self._demuxer = None  # it began in bytes that are gone: the server will say so
                    break
                case Header():
                    header = True
                    self.header, self._head = self._head[: event.size], b""
                    kinds = {track.number: track.kind for track in event.tracks}
                    self._video = next((n for n, kind in kinds.items() if kind is Kind.VIDEO), None)
                case SegmentStart(offset):
                    self._segment = offset
                    if self._video is None:
                        access.append(offset)
                case Frame() if event.track == self._video and self._segment is not None:
                    if event.keyframe:
                        access.append(self._segment)
                    self._segment = None
        if len(self._head) > _MAX_HEADER:
            self._head, self._demuxer = b"", None
        return Found(header, tuple(access))
