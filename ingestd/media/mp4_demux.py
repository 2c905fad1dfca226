"""An incremental demuxer for live fragmented MP4 (ISO/IEC 14496-12): bytes in, events out, no I/O.

What browsers send is ftyp and moov, then a moof and its mdat for each group of pictures. Boxes of
no interest (styp, sidx, prft, emsg, free, uuid, mfra …) may lie anywhere between. A payload is copied only
when its frame straddles two chunks.
"""

from __future__ import annotations

from ingestd.errors import MediaError
from ingestd.media.frames import Event, Frame, Header, Payload, RecorderStart, SegmentStart
from ingestd.media.mp4_boxes import MAX_HEAD, Box, read_head
from ingestd.media.mp4_fragment import Fragment, parse_moof
from ingestd.media.mp4_header import TrackEntry, parse_moov


class Mp4Demuxer:
    """Turn the bytes of one stream into `RecorderStart`, `Header`, `SegmentStart` and `Frame` events.

    Whatever the boundaries of the fed pieces, the events are the same. A fragment's frames come out
    by decode time across its tracks, each as soon as it and those before it are complete: frames
    that wait for another track's hold back at most *max_frame* bytes, then they go ahead. To that
    comes at most one incomplete frame, which may have *max_frame* bytes. A moov or moof longer than
    *max_header*, more than *max_tracks* tracks, a fragment of more than *max_samples* samples, and
    any other box longer than *max_frame* are refused as soon as that is seen.

    A `RecorderStart` is known only with the last byte of its box's head: its offset, the first byte of
    that head, may lie up to 7 bytes before the piece that completed it.

    A demuxer that is fed an init segment and then the bytes from any later `SegmentStart` on works
    as well: that is how a replay begins.
    """

    def __init__(
        self,
        *,
        max_frame: int = 16 * 1024 * 1024,
        max_header: int = 1024 * 1024,
        max_tracks: int = 16,
        max_samples: int = 8192,
    ) -> None:
        self._max_frame = max_frame
        self._max_header = max_header
        self._max_tracks = max_tracks
        self._max_samples = max_samples
        self._fed = 0
        self._tail = bytearray()  # what came so far of a box's head, of a body that is read, or of a sample
        self._start = 0  # where the current box begins in the stream
        self._read = b""  # the type of the box whose body is awaited; empty: there is none
        self._body_start = self._size = 0
        self._skip = 0  # bytes of a box of no interest still to come
        self._mdat_end: int | None = None  # None: not inside an mdat with samples
        self._recorder_at = -1
        self._styp_at: int | None = None  # where the media segment began that the next moof belongs to
        self._entries: dict[int, TrackEntry] = {}
        self._fragment: Fragment | None = None
        self._next = 0  # the index of the fragment's sample that comes next
        self._held: dict[int, Frame] = {}
        self._held_size = 0
        self._error: MediaError | None = None
        self._salvaged: list[Event] = []
        self._truncated = 0
        self._closed = False

    @property
    def pending(self) -> int:
        """Bytes held back: of a box or frame that is not complete, and of frames that wait for another's."""
        return len(self._tail) + self._held_size

    @property
    def truncated(self) -> int:
        """Bytes of the last box that `close` dropped because the input ended inside it."""
        return self._truncated

    @property
    def salvaged(self) -> list[Event]:
        """What was complete when `feed` met malformed bytes and raised instead of returning it."""
        return self._salvaged

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes and return what they complete.

        Raises `MediaError` for malformed bytes, and the same error again on each later call; what
        the failing call had completed before the malformed box is then in `salvaged`.
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
            events += self._release_all()
            self._error, self._salvaged = error, events
            self._tail = bytearray()
            raise
        return events

    def close(self) -> list[Event]:
        """Take the end of the input: a live recording may end anywhere, so an incomplete box is no error.

        Returns the complete frames that waited for another track's. The rest of the last box, from the
        end of its last complete frame on, is dropped and counted in `truncated`.
        """
        if self._closed or self._error is not None:
            return []
        self._closed = True
        if self._read or self._skip:
            self._truncated = self._fed - self._start
        else:
            self._truncated = len(self._tail)
        self._tail = bytearray()
        return self._release_all()

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
            if self._mdat_end is not None:
                pos = self._take_samples(view, pos, base, events)
                if self._mdat_end is not None:
                    return
                continue
            if self._read:
                body, pos = self._collect(view, pos, self._size)
                if body is None:
                    return
                self._on_body(Box(self._read, self._start, self._body_start, memoryview(body)), events)
                self._read = b""
            if not tail:
                if pos == end:
                    return
                self._start = base + pos
            had = len(tail)
            tail += view[pos : pos + MAX_HEAD - had]
            head = read_head(tail, self._start)
            if head is None:
                return
            pos += head[2] - had
            tail.clear()
            self._on_head(*head, events)

    def _collect(self, view: memoryview, pos: int, size: int) -> tuple[Payload | None, int]:
        """Return *size* bytes, begun in the tail or at *pos*, and where they end; None if some lack."""
        tail = self._tail
        if not tail and len(view) - pos >= size:
            return view[pos : pos + size], pos + size
        step = min(size - len(tail), len(view) - pos)
        tail += view[pos : pos + step]
        if len(tail) < size:
            return None, pos + step
        body = bytes(tail)
        tail.clear()
        return body, pos + step

    def _take_samples(self, view: memoryview, pos: int, base: int, events: list[Event]) -> int:
        """Take the samples of the current mdat that are in *view*; leave it where the last one ends."""
        fragment, end = self._fragment, self._mdat_end
        assert fragment is not None  # noqa: S101  an mdat without one is skipped
        assert fragment.anchor is not None  # noqa: S101  the mdat's head has set it
        assert end is not None  # noqa: S101
        while self._next < len(fragment.samples):
            sample = fragment.samples[self._next]
            at = fragment.anchor + sample.offset
            if at >= end:
                break
            if not self._tail:
                pos = max(pos, min(at - base, len(view)))
                if base + pos < at:
                    return pos
            payload, pos = self._collect(view, pos, sample.size)
            if payload is None:
                return pos
            frame = Frame(sample.track, sample.timestamp, sample.keyframe, payload, sample.duration)
            release = fragment.releases[self._next]
            if release == [self._next]:
                events.append(frame)
            else:
                self._held[self._next] = frame
                self._held_size += sample.size
                for index in release:
                    events.append(released := self._held.pop(index))
                    self._held_size -= len(released.payload)
            self._next += 1
        self._mdat_end = None
        self._skip = end - base - pos
        return pos

    def _release_all(self) -> list[Event]:
        """The held frames, by decode time."""
        if not self._held:
            return []
        assert self._fragment is not None  # noqa: S101  frames are held of a fragment
        samples = self._fragment.samples
        order = sorted(self._held, key=lambda index: samples[index].order)
        frames: list[Event] = [self._held[index] for index in order]
        self._held, self._held_size = {}, 0
        return frames

    def _on_head(self, kind: bytes, size: int, head: int, events: list[Event]) -> None:
        start, body = self._start, size - head
        if kind == b"ftyp":
            self._require_all_samples()
            self._recorder_at, self._styp_at = start, None
            self._entries, self._fragment = {}, None
            events.append(RecorderStart(start))
        elif self._recorder_at < 0:
            raise MediaError(start, f"not MP4: begins with {kind.decode()!r}, expected 'ftyp'")
        if kind == b"mdat":
            self._begin_mdat(start + head, start + size)
            return
        if kind in (b"moov", b"moof"):
            self._require_all_samples()
            if kind == b"moof" and not self._entries:
                raise MediaError(start, "a 'moof' before 'moov': the init segment is missing or incomplete")
            if kind == b"moov" and self._entries:
                raise MediaError(start, "a second 'moov' without 'ftyp' before it")
            if size > self._max_header:
                raise MediaError(
                    start, f"a {kind.decode()!r} of {size} bytes: at most {self._max_header} are taken"
                )
            self._read, self._body_start, self._size = kind, start + head, body
            return
        if not self._entries and start + size - self._recorder_at > self._max_header:
            raise MediaError(start, f"the init segment is longer than {self._max_header} bytes")
        if size > self._max_frame:
            raise MediaError(
                start, f"a {kind.decode()!r} of {size} bytes: at most {self._max_frame} are taken"
            )
        if kind == b"styp" and self._styp_at is None:
            self._styp_at = start
        self._skip = body

    def _begin_mdat(self, body: int, end: int) -> None:
        if not self._entries:
            raise MediaError(
                self._start, "not a fragmented MP4: its 'mdat' comes before its 'moov', or before any 'moof'"
            )
        fragment = self._fragment
        last = body
        if fragment is not None and self._next < len(fragment.samples):
            if fragment.anchor is None:
                fragment.anchor = body
            if fragment.anchor + fragment.samples[self._next].offset < body:
                raise MediaError(self._start, "a fragment has samples outside of its 'mdat'")
            for sample in fragment.samples[self._next :]:
                at = fragment.anchor + sample.offset
                if at >= end:
                    break
                last = at + sample.size
            if last > end:
                raise MediaError(self._start, "a sample reaches beyond the end of its 'mdat'")
        if end - last > self._max_frame:
            raise MediaError(
                self._start,
                f"an 'mdat' with {end - last} bytes of no sample: at most {self._max_frame} are taken",
            )
        if last > body:
            self._mdat_end = end
        else:
            self._skip = end - body

    def _require_all_samples(self) -> None:
        if self._fragment is not None and self._next < len(self._fragment.samples):
            raise MediaError(self._start, "samples of the fragment before are in no 'mdat'")

    def _on_body(self, box: Box, events: list[Event]) -> None:
        if box.type == b"moov":
            self._entries = parse_moov(box, self._max_tracks)
            tracks = tuple(entry.track for entry in self._entries.values() if entry.track)
            size = box.body_start + len(box.body) - self._recorder_at
            events.append(Header(offset=self._recorder_at, size=size, doc_type="mp4", tracks=tracks))
            return
        self._fragment = parse_moof(
            box, self._entries, max_frame=self._max_frame, max_samples=self._max_samples
        )
        self._next = 0
        start = box.start if self._styp_at is None else self._styp_at
        self._styp_at = None
        events.append(SegmentStart(start, self._fragment.timestamp))
