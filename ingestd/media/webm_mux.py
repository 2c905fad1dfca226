"""A muxer for live WebM and Matroska (RFC 9559): frames in, bytes out, no I/O.

The output can be appended to a file or sent to a player as it comes. A file becomes seekable at
its end through a few patches (`Muxer.finish`), without being rewritten.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import (
    DOC_TYPE,
    DOC_TYPE_READ_VERSION,
    DOC_TYPE_VERSION,
    EBML,
    EBML_MAX_ID_LENGTH,
    EBML_MAX_SIZE_LENGTH,
    EBML_READ_VERSION,
    EBML_VERSION,
    encode,
    encode_float,
    encode_id,
    encode_string,
    encode_uint,
    unknown_size,
    vint,
    void,
)
from ingestd.media.frames import NS_PER_MS, Event, Frame, Header, Kind, SegmentStart, Track
from ingestd.media.webm_index import DURATION_ROOM, SEEK_HEAD_ROOM, SeekIndex

MAX_CLUSTER_MS = 5000
"""A cluster spans at most this long (RFC 9559, section 25.1, recommends it)."""
MAX_OPEN_CLUSTER_MS = 30_000
"""One that goes on over calls may span this long: a block's time has 16 bits."""

_BLOCK_TAIL = struct.Struct(">hB")
_KEYFRAME = 0x80
_APP = "ingestd"
_DATE = struct.Struct(">q")
_EPOCH = 978_307_200 * 10**9  # 2001-01-01, from which Matroska counts its dates
_TYPES = {Kind.VIDEO: 1, Kind.AUDIO: 2}


class Muxer:
    """Write frames of *tracks* as one WebM or Matroska stream.

    *doc_type* is ``webm`` when WebM allows all the codecs, else ``matroska``, unless given.
    With *unknown_sizes* each Cluster says that it ends where the next begins. With *open_clusters* it does,
    too, and goes on over calls of `mux` until there is a reason for another one. With *seekable* the
    header leaves room for what `finish` fills in, and at most *max_cues* cues are remembered.
    Raises `UnsupportedMedia` for a codec that Matroska does not know.

    *date* (ns since 1970) is written as the moment at which time 0 was; *start* (ns) is what is
    taken off every time.

    Times are rounded to the nearest millisecond, each on its own, so that the error never adds up.
    A time below zero cannot be written: such frames are left out and counted in `dropped`.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        *,
        doc_type: str | None = None,
        unknown_sizes: bool = False,
        open_clusters: bool = False,
        seekable: bool = False,
        max_cues: int = 4096,
        date: int | None = None,
        start: int = 0,
    ) -> None:
        if not tracks:
            raise ValueError("a muxer needs at least one track")
        if doc_type is None:
            doc_type = "webm" if {track.codec for track in tracks} <= ids.WEBM_CODECS else "matroska"
        self._unknown_sizes = unknown_sizes or open_clusters
        self._open_clusters = open_clusters
        self._longest = MAX_OPEN_CLUSTER_MS if open_clusters else MAX_CLUSTER_MS
        self._open: tuple[int, int] | None = None  # the times of the Cluster and its last block
        # Chromium's Media Source takes no step back inside a cluster; B-frames, which only
        # Matroska's codecs have, would make a cluster of nearly every frame.
        self._forward_only = doc_type == "webm"
        self._start = start
        self._delays = {track.number: track.codec_delay for track in tracks}
        self._heads = {track.number: vint(track.number) for track in tracks}
        self._video = {track.number for track in tracks if track.kind is Kind.VIDEO}
        self._cue_tracks = self._video or {tracks[0].number}
        self._default = {track.number: track.default_duration or 0 for track in tracks}
        self._dropped = 0
        self._cue_at: int | None = None  # recovering: the cluster whose first frame is to come
        head = _ebml_head(doc_type) + encode_id(ids.SEGMENT)
        segment_at = len(head)
        info = encode_uint(ids.TIMESTAMP_SCALE, NS_PER_MS)
        duration_at = len(info)
        info += void(DURATION_ROOM) if seekable else b""
        info += encode_string(ids.MUXING_APP, _APP) + encode_string(ids.WRITING_APP, _APP)
        # Last: what lies before stands where it would without.
        info += encode(ids.DATE_UTC, _DATE.pack(date - _EPOCH)) if date is not None else b""
        info = encode(ids.INFO, info)
        room = void(SEEK_HEAD_ROOM) if seekable else b""
        body_at = segment_at + 8
        info_at = body_at + len(room)
        duration_at += info_at + 4 + len(vint(len(info) - 4))
        self._tracks = _tracks(tracks)
        self._header = head + unknown_size(8) + room + info + self._tracks
        self._index = (
            SeekIndex(
                segment_size_at=segment_at,
                body_at=body_at,
                info_at=info_at,
                duration_at=duration_at,
                tracks_at=info_at + len(info),
                max_cues=max_cues,
            )
            if seekable
            else None
        )
        self._written = len(self._header)

    @property
    def dropped(self) -> int:
        """Frames left out because their time would lie before zero."""
        return self._dropped

    def header(self) -> bytes:
        """Return the init segment: EBML head, Segment of unknown size, Info, Tracks. The same each time."""
        return self._header

    def describes(self, tracks: Sequence[Track]) -> bool:
        """Whether the header says the same as one of *tracks* would: their frames can follow."""
        return _tracks(tracks) == self._tracks

    def time(self, frame: Frame) -> int:
        """The time of *frame*'s block in milliseconds: the nearest one, CodecDelay added back."""
        return self._block_time(frame, self._start)

    def mux(self, frames: Iterable[Frame], *, begin: bool = False) -> bytes:
        """Return *frames*, in decode order, as one or more whole Clusters; nothing for no frames.

        Tracks may be interleaved anyhow: inside one call their frames are put in the order of
        time, without changing the order inside a track. A Cluster begins at each call, at each
        video keyframe, where a time goes back, and after `MAX_CLUSTER_MS`. With *open_clusters* a call goes
        on with the last one, unless *begin*.
        """
        out: list[bytes] = []
        blocks: list[bytes | memoryview] = []
        begun = self._open is not None and not begin
        base, last = self._open or (0, 0)
        fresh = False  # the Cluster of *blocks* has no head yet
        for time, frame in self._in_order(frames):
            video_key = frame.keyframe and frame.track in self._video
            back = time < last if self._forward_only else time < base
            if not begun or video_key or back or time - base >= self._longest:
                self._end_cluster(base, blocks, out, fresh=fresh)
                blocks, base, begun, fresh = [], time, True, True
                if frame.keyframe and frame.track in self._cue_tracks:
                    self._note(self._written, frame, time)
            last = time
            head = self._heads[frame.track]
            blocks.append(
                b"\xa3"
                + vint(len(head) + 3 + len(frame.payload))
                + head
                + _BLOCK_TAIL.pack(time - base, _KEYFRAME if frame.keyframe else 0)
            )
            blocks.append(frame.payload)
            self._reach(frame, time)
        self._end_cluster(base, blocks, out, fresh=fresh)
        if self._open_clusters and begun:
            self._open = base, last
        return b"".join(out)

    def recover(self, events: Iterable[Event]) -> None:
        """Go on with a file that an earlier muxer of the same tracks began: nothing is written twice.

        Pass what a demuxer makes of the whole file, in any portions, then `resume`; `header` is
        not written again. The frames' times are the file's: *start* is off already. Raises ValueError
        if the file does not begin with this muxer's header.
        """
        for event in events:
            if isinstance(event, Header):
                if event.size != len(self._header) or event.offset:
                    raise ValueError("the file has another header: its tracks or its layout differ")
            elif isinstance(event, SegmentStart):
                self._cue_at = event.offset
            elif isinstance(event, Frame):
                time = self._block_time(event, 0)
                self._reach(event, time)
                if event.track in self._cue_tracks and self._cue_at is not None:
                    if event.keyframe:
                        self._note(self._cue_at, event, time)
                    self._cue_at = None  # a cluster's first frame counts, as when it was written

    def resume(self, total_size: int) -> None:
        """Say where the next Cluster will lie: the file's size, a truncated last element cut off."""
        self._written = total_size

    def finish(self, total_size: int | None = None) -> list[tuple[int, bytes]]:
        """Return what makes the file seekable, as ``(offset, bytes)`` to write in this order.

        *total_size* is the file's length, by default all that `header` and `mux` returned. The
        first entry appends the Cues there; the rest overwrites room that the header left. After
        each single write the file still plays. Raises `ValueError` without *seekable*.
        """
        if self._index is None:
            raise ValueError("finish() needs a muxer made with seekable=True")
        return self._index.patches(self._written if total_size is None else total_size)

    def _note(self, position: int, frame: Frame, time: int) -> None:
        if self._index:
            self._index.note(position, time, frame.track)

    def _reach(self, frame: Frame, time: int) -> None:
        if self._index:
            self._index.reach(time + (frame.duration or self._default[frame.track]) / NS_PER_MS)

    def _block_time(self, frame: Frame, start: int) -> int:
        return (frame.timestamp - start + self._delays.get(frame.track, 0) + NS_PER_MS // 2) // NS_PER_MS

    def _in_order(self, frames: Iterable[Frame]) -> list[tuple[int, Frame]]:
        newest: dict[int, int] = {}
        keyed = []
        for frame in frames:
            time = self.time(frame)
            if time < 0:
                self._dropped += 1
                continue
            key = newest[frame.track] = max(time, newest.get(frame.track, 0))
            keyed.append((key, time, frame))
        keyed.sort(key=lambda item: item[0])
        return [(time, frame) for _, time, frame in keyed]

    def _end_cluster(
        self, base: int, blocks: list[bytes | memoryview], out: list[bytes], *, fresh: bool
    ) -> None:
        if not blocks:
            return
        body = b"".join(blocks)
        if fresh:
            body = encode_uint(ids.TIMESTAMP, base) + body
            size = unknown_size(8) if self._unknown_sizes else vint(len(body))
            out += (encode_id(ids.CLUSTER), size)
            self._written += 4 + len(size)
        out.append(body)
        self._written += len(body)


def _ebml_head(doc_type: str) -> bytes:
    return encode(
        EBML,
        encode_uint(EBML_VERSION, 1)
        + encode_uint(EBML_READ_VERSION, 1)
        + encode_uint(EBML_MAX_ID_LENGTH, 4)
        + encode_uint(EBML_MAX_SIZE_LENGTH, 8)
        + encode_string(DOC_TYPE, doc_type)
        # CodecDelay and SeekPreRoll came with version 4; SimpleBlock with 2, which a reader must know.
        + encode_uint(DOC_TYPE_VERSION, 4)
        + encode_uint(DOC_TYPE_READ_VERSION, 2),
    )


def _tracks(tracks: Sequence[Track]) -> bytes:
    return encode(ids.TRACKS, b"".join(encode(ids.TRACK_ENTRY, _track_entry(track)) for track in tracks))


def _track_entry(track: Track) -> bytes:
    codec_id, bit_depth = ids.codec_id_of(track.codec)
    body = (
        encode_uint(ids.TRACK_NUMBER, track.number)
        + encode_uint(ids.TRACK_UID, track.number)
        + encode_uint(ids.TRACK_TYPE, _TYPES[track.kind])
        + encode_uint(ids.FLAG_LACING, 0)
        + encode_string(ids.LANGUAGE, "und")  # left out, it would mean English
        + encode_string(ids.CODEC_ID, codec_id)
    )
    if track.private:
        body += encode(ids.CODEC_PRIVATE, track.private)
    for element, value in (
        (ids.CODEC_DELAY, track.codec_delay),
        (ids.SEEK_PRE_ROLL, track.seek_preroll),
        (ids.DEFAULT_DURATION, track.default_duration),
    ):
        body += encode_uint(element, value) if value else b""
    if track.kind is Kind.VIDEO:
        video = b"".join(
            encode_uint(element, value)
            for element, value in ((ids.PIXEL_WIDTH, track.width), (ids.PIXEL_HEIGHT, track.height))
            if value
        )
        return body + encode(ids.VIDEO, video + (encode(ids.COLOUR, track.colour) if track.colour else b""))
    audio = encode_float(ids.SAMPLING_FREQUENCY, float(track.sample_rate or 0)) if track.sample_rate else b""
    audio += encode_uint(ids.CHANNELS, track.channels) if track.channels else b""
    audio += encode_uint(ids.BIT_DEPTH, bit_depth) if bit_depth else b""
    return body + encode(ids.AUDIO, audio)
