"""What makes a finished WebM or Matroska file seekable: Cues, SeekHead, Duration (RFC 9559, section 5.1)."""

from __future__ import annotations

from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import encode, encode_float, encode_id, encode_uint, vint, void

_ENTRIES = 3
SEEK_HEAD_ROOM = 5 + _ENTRIES * 21
"""Bytes of a SeekHead with three entries whose positions take 8 bytes each."""

DURATION_ROOM = 11
"""Bytes of a Duration element."""


class SeekIndex:
    """Remember where the random access points of a file lie while it is written.

    Bounded: when *max_cues* are remembered, every second one is forgotten and from then on only
    half as many are taken. Offsets count from the first byte of the file.
    """

    def __init__(
        self,
        *,
        segment_size_at: int,
        body_at: int,
        info_at: int,
        duration_at: int,
        tracks_at: int,
        max_cues: int,
    ) -> None:
        self._segment_size_at = segment_size_at
        self._body_at = body_at
        self._info_at = info_at
        self._duration_at = duration_at
        self._tracks_at = tracks_at
        self._max_cues = max(2, max_cues)
        self._cues: list[tuple[int, int, int]] = []
        self._stride = 1
        self._seen = 0
        self._duration = 0.0

    def note(self, position: int, time: int, track: int) -> None:
        """A Cluster at byte *position* begins with a random access point of *track* at *time* ms."""
        if self._seen % self._stride == 0:
            self._cues.append((position, time, track))
            if len(self._cues) == self._max_cues:
                del self._cues[1::2]
                self._stride *= 2
        self._seen += 1

    def reach(self, time: float) -> None:
        """Media lasts until *time* ms at least."""
        self._duration = max(self._duration, time)

    def patches(self, total_size: int) -> list[tuple[int, bytes]]:
        """Return ``(offset, bytes)`` to write, in this order, to a file of *total_size* bytes."""
        cues = self._encode_cues(total_size)
        entries = [(ids.INFO, self._info_at), (ids.TRACKS, self._tracks_at)]
        entries += [(ids.CUES, total_size)] if cues else []
        seeks = (self._encode_seek(element, position) for element, position in entries)
        seek_head = encode(ids.SEEK_HEAD, b"".join(seeks))
        # An empty Cues element is not allowed: without a cue its entry stays a Void.
        seek_head += b"" if cues else void(SEEK_HEAD_ROOM - len(seek_head))
        patches = [(total_size, cues)] if cues else []
        return [
            *patches,
            (self._body_at, seek_head),
            (self._duration_at, encode_float(ids.DURATION, self._duration)),
            # Last: from now on the Segment ends here, so nothing can be appended any more.
            (self._segment_size_at, vint(total_size + len(cues) - self._body_at, 8)),
        ]

    def _encode_seek(self, element: int, position: int) -> bytes:
        relative = (position - self._body_at).to_bytes(8, "big")
        return encode(ids.SEEK, encode(ids.SEEK_ID, encode_id(element)) + encode(ids.SEEK_POSITION, relative))

    def _encode_cues(self, total_size: int) -> bytes:
        points = [
            encode(
                ids.CUE_POINT,
                encode_uint(ids.CUE_TIME, time)
                + encode(
                    ids.CUE_TRACK_POSITIONS,
                    encode_uint(ids.CUE_TRACK, track)
                    + encode_uint(ids.CUE_CLUSTER_POSITION, position - self._body_at),
                ),
            )
            for position, time, track in self._cues
            if position < total_size
        ]
        return encode(ids.CUES, b"".join(points)) if points else b""
