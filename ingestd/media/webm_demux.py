"""An incremental demuxer for live WebM and Matroska (RFC 9559): bytes in, events out, no I/O.

What browsers send has a Segment and Clusters of unknown size and chunk boundaries anywhere, most
often one byte into an element; all of that is normal here, and so are known sizes, BlockGroups
and lacing. A payload is copied only when its frame straddles two chunks.
"""

from __future__ import annotations

import sys

from ingestd.errors import MediaError
from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import CRC32, EBML, MAX_HEAD, UNKNOWN, VOID, Element, read_head, read_uint
from ingestd.media.frames import NS_PER_MS, Event, Header, RecorderStart, SegmentStart
from ingestd.media.webm_blocks import parse_block, parse_block_group
from ingestd.media.webm_header import MAX_TIME, TrackEntry, parse_ebml_head, parse_info, parse_tracks

_FOREVER = sys.maxsize
_EBML_FIRST_BYTE = EBML >> 24
_TOP_LEVEL = (EBML, ids.SEGMENT)
_BLOCKS = (ids.SIMPLE_BLOCK, ids.BLOCK_GROUP)


class Demuxer:
    """Turn the bytes of one stream into `RecorderStart`, `Header`, `SegmentStart` and `Frame` events.

    Whatever the boundaries of the fed pieces, the events are the same. No more than *max_frame*
    bytes (plus a head) are ever held back; an init segment longer than *max_header*, more than
    *max_tracks* tracks, or any other element longer than *max_frame* is refused as soon as its
    size is seen. A demuxer that is fed an init segment and then the bytes from any later Cluster
    on works as well: that is how a replay begins.
    """

    def __init__(
        self, *, max_frame: int = 16 * 1024 * 1024, max_header: int = 1024 * 1024, max_tracks: int = 16
    ) -> None:
        self._max_frame = max_frame
        self._max_header = max_header
        self._max_tracks = max_tracks
        self._fed = 0
        self._tail = bytearray()  # what came so far of an element's head, or of its body
        self._start = 0  # where the current element begins in the stream
        self._element = 0  # whose body is awaited; 0: a head comes next
        self._size = 0
        self._skip = 0  # bytes of an element of no interest still to come
        self._recorder_at = -1  # where the current container begins
        self._segment_due = False  # a Segment may come next: the EBML head is there
        self._segment_end: int | None = None  # None: not inside a Segment
        self._cluster_end: int | None = None
        self._cluster_start = 0
        self._cluster_time: int | None = None
        self._doc_type = ""
        self._scale = NS_PER_MS
        self._entries: dict[int, TrackEntry] = {}
        self._in_header = True
        self._error: MediaError | None = None
        self._salvaged: list[Event] = []
        self._truncated = 0
        self._closed = False

    @property
    def pending(self) -> int:
        """Bytes held back because their element is not complete."""
        return len(self._tail)

    @property
    def truncated(self) -> int:
        """Bytes of the last element that `close` dropped because the input ended inside it."""
        return self._truncated

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes and return what they complete.

        Raises `MediaError` for malformed bytes, and the same error again on each later call; what
        the failing call had completed before the malformed element is then in `salvaged`.
        """
        if self._error is not None:
            raise self._error
        if self._closed:
            raise ValueError("fed after close()")
        events: list[Event] = []
        try:
            # A mutable buffer would change under the frames that view it.
            self._advance(data if type(data) is bytes else bytes(data), events)
        except MediaError as error:
            self._error, self._salvaged = error, events
            self._tail = bytearray()
            raise
        return events

    def close(self) -> list[Event]:
        """Take the end of the input: a live recording may end anywhere, so an incomplete element is no error.

        It is dropped and counted in `truncated`. Returns no events today; handle them as `feed`'s.
        """
        if not self._closed and self._error is None:
            self._closed = True
            if self._element or self._skip or self._tail:
                self._truncated = self._fed - self._start
            self._tail = bytearray()
        return []

    @property
    def salvaged(self) -> list[Event]:
        """What was complete when `feed` met malformed bytes and raised instead of returning it."""
        return self._salvaged

    def _advance(self, data: bytes, events: list[Event]) -> None:
        view, end, pos = memoryview(data), len(data), 0
        base, self._fed = self._fed, self._fed + len(data)
        tail = self._tail
        while True:
            if self._skip:
                step = min(self._skip, end - pos)
                self._skip -= step
                pos += step
                if self._skip:
                    return
            if self._element:
                size = self._size
                if not tail and end - pos >= size:
                    body = view[pos : pos + size]
                    pos += size
                else:
                    step = min(size - len(tail), end - pos)
                    tail += view[pos : pos + step]
                    pos += step
                    if len(tail) < size:
                        return
                    body = memoryview(bytes(tail))
                    tail.clear()
                self._on_body(Element(self._element, self._start, base + pos - size, body), events)
                self._element = 0
            if not tail:
                if self._cluster_time is not None:
                    pos = self._whole_blocks(data, view, pos, base, events)
                if pos == end:
                    return
                self._start = base + pos
                self._on_boundary(data[pos], events)
            had = len(tail)
            tail += view[pos : pos + MAX_HEAD - had]
            head = read_head(tail, 0, len(tail), self._start)
            if head is None:
                return
            pos += head[2] - had
            tail.clear()
            self._on_head(*head, events)

    def _whole_blocks(self, data: bytes, view: memoryview, pos: int, base: int, events: list[Event]) -> int:
        """Take SimpleBlocks that lie whole in *data*; anything else is left to the general path."""
        assert self._cluster_time is not None  # noqa: S101
        assert self._cluster_end is not None  # noqa: S101
        end = min(len(data), self._cluster_end - base)
        entries, time, scale, longest = self._entries, self._cluster_time, self._scale, self._max_frame
        while pos + 9 < end and data[pos] == ids.SIMPLE_BLOCK:
            length = 9 - data[pos + 1].bit_length()
            body = pos + 1 + length
            ones = (1 << 7 * length) - 1
            size = int.from_bytes(data[pos + 1 : body], "big") & ones
            stop = body + size
            if length > 8 or size == ones or size > longest or stop > end:
                break
            events += parse_block(view[body:stop], base + pos, entries, time, scale)
            pos = stop
        return pos

    def _on_boundary(self, first: int, events: list[Event]) -> None:
        """An element begins: leave the parents of known size that end here, notice a new container."""
        start = self._start
        if self._cluster_end is not None and start >= self._cluster_end:
            self._leave_cluster()
        if self._segment_end is not None and start >= self._segment_end:
            self._leave_cluster()
            self._segment_end = None
        if first == _EBML_FIRST_BYTE:
            # No other element that RFC 9559 knows begins with this byte.
            if self._bounded():
                raise MediaError(start, "a new container begins inside an element of known size")
            self._recorder_at = start
            events.append(RecorderStart(start))
        elif self._recorder_at < 0:
            raise MediaError(start, f"not WebM or Matroska: begins with 0x{first:02x}, expected 0x1a")

    def _bounded(self) -> bool:
        return any(end not in (None, _FOREVER) for end in (self._segment_end, self._cluster_end))

    def _leave_cluster(self) -> None:
        self._cluster_end = self._cluster_time = None

    def _on_head(self, element: int, size: int, taken: int, events: list[Event]) -> None:
        start = self._start
        body = start + taken
        if start == self._recorder_at and element != EBML:
            raise MediaError(start, f"element 0x{element:x} where only an EBML head can be")
        if element in ids.SEGMENT_CHILDREN or element in _TOP_LEVEL:
            if self._cluster_end not in (None, _FOREVER):
                raise MediaError(start, f"element 0x{element:x} inside a Cluster of known size")
            self._leave_cluster()
        if element == EBML:
            self._begin_container()
        parent = self._cluster_end or self._segment_end
        if parent is not None and size != UNKNOWN and body + size > parent:
            raise MediaError(start, f"element 0x{element:x} reaches beyond the end of its parent")
        if element == ids.SEGMENT:
            if not self._segment_due:
                raise MediaError(start, "a Segment without an EBML head before it")
            self._segment_due = False
            self._segment_end = _FOREVER if size == UNKNOWN else body + size
        elif element == ids.CLUSTER:
            self._begin_cluster(size, body, events)
        elif size == UNKNOWN:
            raise MediaError(start, f"element 0x{element:x} may not have an unknown size")
        elif size > self._max_frame:
            raise MediaError(
                start, f"element 0x{element:x} of {size} bytes: at most {self._max_frame} are taken"
            )
        else:
            if self._in_header and body + size - self._recorder_at > self._max_header:
                raise MediaError(start, f"the init segment is longer than {self._max_header} bytes")
            if self._wanted(element):
                self._element, self._size = element, size
            else:
                self._skip = size

    def _begin_container(self) -> None:
        self._segment_end, self._segment_due, self._in_header = None, True, True
        self._entries, self._scale = {}, NS_PER_MS

    def _begin_cluster(self, size: int, body: int, events: list[Event]) -> None:
        start = self._start
        if self._segment_end is None:
            raise MediaError(start, "a Cluster outside a Segment")
        if not self._entries:
            raise MediaError(start, "a Cluster before Tracks: the init segment is missing or incomplete")
        if self._in_header:
            self._in_header = False
            tracks = tuple(entry.track for entry in self._entries.values() if entry.track)
            size_so_far = start - self._recorder_at
            events.append(
                Header(offset=self._recorder_at, size=size_so_far, doc_type=self._doc_type, tracks=tracks)
            )
        self._cluster_start, self._cluster_time = start, None
        self._cluster_end = _FOREVER if size == UNKNOWN else body + size

    def _wanted(self, element: int) -> bool:
        """Say whether the body of *element* is read; refuse what cannot be where it is."""
        if self._cluster_end is not None:
            if element == ids.ENCRYPTED_BLOCK:
                raise MediaError(self._start, "an EncryptedBlock: encrypted frames are not taken")
            if element in _BLOCKS and self._cluster_time is None:
                raise MediaError(self._start, "a block before its Cluster's Timestamp")
            return element in _BLOCKS or (element == ids.TIMESTAMP and self._cluster_time is None)
        if self._segment_end is not None:
            return self._in_header and (element == ids.INFO or (element == ids.TRACKS and not self._entries))
        if element not in (EBML, VOID, CRC32):
            raise MediaError(self._start, f"element 0x{element:x} outside a Segment")
        return element == EBML

    def _on_body(self, element: Element, events: list[Event]) -> None:
        if element.id in _BLOCKS:
            assert self._cluster_time is not None  # noqa: S101 -- _wanted refuses blocks without it
            if element.id == ids.SIMPLE_BLOCK:
                events += parse_block(
                    element.body, element.start, self._entries, self._cluster_time, self._scale
                )
            else:
                events += parse_block_group(element, self._entries, self._cluster_time, self._scale)
        elif element.id == ids.TIMESTAMP:
            time = read_uint(element) * self._scale
            if time > MAX_TIME:
                raise MediaError(element.start, "a Cluster's Timestamp is out of range")
            self._cluster_time = time
            events.append(SegmentStart(self._cluster_start, time))
        elif element.id == ids.TRACKS:
            entries = parse_tracks(element, self._max_tracks)
            self._entries = {entry.number: entry for entry in entries}
        elif element.id == ids.INFO:
            self._scale = parse_info(element)
        else:
            self._doc_type = parse_ebml_head(element)
