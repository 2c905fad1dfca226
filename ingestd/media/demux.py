"""WebM and Matroska, or fragmented MP4: the bytes say which, since the declared type is often wrong."""

from __future__ import annotations

from typing import Protocol

from attrs import evolve

from ingestd.errors import MediaError
from ingestd.media.frames import Event, Frame
from ingestd.media.mp4_demux import Mp4Demuxer
from ingestd.media.webm_demux import Demuxer

_ENOUGH = 8
"""How many bytes decide."""

_EBML_MAGIC = b"\x1a\x45\xdf\xa3"
_ISO_TYPES = (b"ftyp", b"styp")
_OTHER_ISO_TYPES = (b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"sidx")
_LOOKS = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a RIFF file (AVI, WAV or WebP)"),
    (b"OggS", "Ogg"),
    (b"FLV", "FLV"),
    (b"ID3", "MP3"),
    (b"\xff\xf1", "raw AAC"),
    (b"\xff\xf9", "raw AAC"),
    (b"\x00\x00\x00\x01", "a raw H.264 or HEVC stream"),
    (b"\x00\x00\x01\xba", "an MPEG program stream"),
    (b"\x00\x00\x01", "a raw video stream"),
    (b"#EXTM3U", "an HLS playlist"),
    (b"<", "HTML or XML"),
    (b"{", "JSON"),
    (b"GET ", "an HTTP request"),
    (b"POST ", "an HTTP request"),
    (b"\x1f\x8b", "gzip"),
    (b"%PDF", "a PDF document"),
    (b"\x47\x40", "an MPEG transport stream"),
)


class Demuxing(Protocol):
    """What all demuxers do; `ingestd.media.webm_demux.Demuxer` says it in full."""

    @property
    def pending(self) -> int:
        """Bytes held back."""

    @property
    def truncated(self) -> int:
        """Bytes dropped by `close`."""

    @property
    def salvaged(self) -> list[Event]:
        """Events of the `feed` that raised."""

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes and return what they complete, or raise `MediaError`."""

    def close(self) -> list[Event]:
        """Take the end of the input and return what waited for more."""


class SniffingDemuxer:
    """A demuxer for each container that a recorder may send, also when a later recorder sends another one.

    As the demuxers that it delegates to, it gives the same events however the bytes are cut. Bytes
    that are no container give a `MediaError` with offset 0 once 8 of them are there; it says what they
    look like. The offsets of events and errors count from the first byte fed. A `RecorderStart` may
    lie up to 7 bytes before the piece that completed it, if a chunk ends inside the head of a box.
    """

    def __init__(self, *, max_frame: int = 16 * 1024 * 1024) -> None:
        self._max_frame = max_frame
        self._inner: Demuxing | None = None
        self._base = 0  # where the inner demuxer's first byte lies in the stream
        self._fed = 0  # how many bytes it got, or the ones before it
        self._recent = b""  # the last of them
        self._head = b""  # bytes that nobody has taken: what they are is not decided
        self._doubt: MediaError | None = None  # what is wrong with these, unless another container begins
        self._error: MediaError | None = None
        self._salvaged: list[Event] = []
        self._closed = False

    @property
    def pending(self) -> int:
        """Bytes held back; see the container's demuxer."""
        return len(self._head) + (self._inner.pending if self._inner else 0)

    @property
    def truncated(self) -> int:
        """Bytes of the last element or box that `close` dropped because the input ended inside it."""
        if not self._closed:
            return 0
        return self._inner.truncated if self._inner else len(self._head)

    @property
    def salvaged(self) -> list[Event]:
        """What was complete when `feed` met malformed bytes and raised instead of returning it."""
        return self._salvaged

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes and return what they complete.

        Raises `MediaError` for malformed bytes, and the same error again on each later call; what
        the failing call had completed before is then in `salvaged`.
        """
        if self._error is not None:
            raise self._error
        if self._closed:
            raise ValueError("fed after close()")
        events: list[Event] = []
        # Frames view the bytes they came in: a mutable buffer would change under them.
        rest = data if type(data) is bytes else bytes(data)
        try:
            while rest:
                rest = self._step(rest, events)
        except MediaError as error:
            self._error, self._salvaged = error, events
            self._inner, self._head = None, b""
            raise
        return events

    def close(self) -> list[Event]:
        """Take the end of the input: a live recording may end anywhere, so that is no error.

        Returns the complete frames that waited for others.
        """
        if self._closed or self._error is not None:
            return []
        self._closed = True
        return self._placed(self._inner.close()) if self._inner else []

    def _step(self, data: bytes, events: list[Event]) -> bytes:
        """Take *data*; return what is left of it because another container begins there."""
        if self._inner is None:
            head = self._head + data
            self._inner = self._decide(head)
            if self._inner is None:
                self._head = head
                return b""
            data, self._head, self._doubt = head, b"", None
            self._base = self._fed
        before, self._fed = self._fed, self._fed + len(data)
        recent = self._recent
        self._recent = (recent + data)[-_ENOUGH:] if len(data) < _ENOUGH else data[-_ENOUGH:]
        try:
            events += self._placed(self._inner.feed(data))
        except MediaError as error:
            events += self._placed(self._inner.salvaged)
            error = MediaError(self._base + error.offset, error.reason)
            known = recent + data
            at = error.offset - (before - len(recent))
            if at < 0 or not _may_begin(known[at:]):
                raise error from None
            self._inner, self._doubt, self._fed, self._recent = None, error, error.offset, b""
            return known[at:]
        return b""

    def _decide(self, head: bytes) -> Demuxing | None:
        """The demuxer for a stream that begins with *head*; None if more bytes are needed."""
        webm = Demuxer(max_frame=self._max_frame)
        if self._doubt is not None:
            if not _may_begin(head):
                raise self._doubt
            if head.startswith(_EBML_MAGIC):
                return webm
            return Mp4Demuxer(max_frame=self._max_frame) if len(head) >= _ENOUGH else None
        if head[0] == _EBML_MAGIC[0]:
            return webm
        if len(head) < _ENOUGH:
            return None
        if head[4:8] in _ISO_TYPES:
            return Mp4Demuxer(max_frame=self._max_frame)
        raise MediaError(
            self._fed, f"expected WebM, Matroska or fragmented MP4, but this is {looks_like(head)}"
        )

    def _placed(self, events: list[Event]) -> list[Event]:
        """The inner demuxer's events with offsets in the whole stream."""
        if not self._base:
            return events
        return [
            event if isinstance(event, Frame) else evolve(event, offset=self._base + event.offset)
            for event in events
        ]


def begins_container(data: bytes) -> bool:
    """Whether *data* begins with a whole EBML magic, or a whole head of MP4's ftyp.

    What a message of a publisher begins with so is a new recorder's, even if the last one was cut off.
    """
    return data.startswith(_EBML_MAGIC) or (data[:1] == b"\0" and data[4:8] == b"ftyp")


def _may_begin(head: bytes) -> bool:
    """Whether a container begins, as far as *head* goes, in the place of what another one refused."""
    size, kind = head[:4], head[4:8]
    return head.startswith(_EBML_MAGIC) or (b"\0".startswith(size[:1]) and b"ftyp".startswith(kind))


def looks_like(head: bytes) -> str:
    """Say what a stream that begins with *head* (8 bytes or more) may be, for a person to read."""
    for magic, name in _LOOKS:
        if head.startswith(magic):
            return name
    if head[4:8] in _OTHER_ISO_TYPES:
        return f"an MP4 or QuickTime file that begins with {head[4:8].decode()!r}, not with 'ftyp'"
    if all(byte in b"\t\n\r" or 0x20 <= byte < 0x7F for byte in head):
        return "text"
    return f"neither (it begins with {head[:8].hex(' ')})"
