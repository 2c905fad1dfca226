"""One shape for each codec, whatever the source: what muxers and FFmpeg's stream copy rely on.

Chromium's H.264 comes as Annex B with parameter sets in band and no CodecPrivate. MP4, FLV and
other Matroska readers need avcC and length-prefixed NAL units. A camera's VP8 comes from there without a
word on its colours, and players take a picture of 720 lines or more for HDTV's.
"""

from __future__ import annotations

from typing import Protocol

from attrs import evolve

from ingestd.media.colour import stated
from ingestd.media.frames import Frame, Track
from ingestd.media.h264 import PPS, SPS, build_avcc, join_prefixed, nal_type, parse_sps, split_annexb


class Normaliser(Protocol):
    """Bring one track's frames into the usual shape.

    What comes out for a frame depends on its own bytes and its codec configuration only, so a
    replay that begins at any later keyframe gives the same frames.
    """

    @property
    def track(self) -> Track | None:
        """The track as it comes out; None until its codec configuration is known."""

    @property
    def dropped(self) -> int:
        """Frames dropped: before any codec configuration, or without a coded picture."""

    def push(self, frame: Frame) -> tuple[Track | None, Frame | None]:
        """Return the new track if its codec configuration changes with *frame*, and the frame itself.

        The first known configuration counts as a change, unless `track` had it from the start.
        The frame is None if it is dropped.
        """


def normalise(track: Track) -> Normaliser:
    """Return the normaliser for *track*: rewrites Annex B H.264, says VP8's colours, leaves all else."""
    if track.codec == "h264" and not track.private:
        return AnnexBNormaliser(track)
    return PassThrough(evolve(track, colour=stated(track.codec, track.colour)))


class PassThrough:
    """A track that already has its usual shape."""

    def __init__(self, track: Track) -> None:
        self._track = track

    @property
    def track(self) -> Track | None:
        """The given track."""
        return self._track

    @property
    def dropped(self) -> int:
        """Always 0."""
        return 0

    def push(self, frame: Frame) -> tuple[Track | None, Frame | None]:
        """Return the frame as it is."""
        return None, frame


class AnnexBNormaliser:
    """H.264 with start codes and parameter sets in band, to avcC and NAL units behind 4-byte lengths.

    The parameter sets stay in the frames, too: a player that joins late or meets a change of
    resolution then needs nothing else.
    """

    def __init__(self, track: Track) -> None:
        self._source = track
        self._track: Track | None = None
        self._pps: list[bytes] = []
        self._sps: list[bytes] = []
        self._dropped = 0

    @property
    def track(self) -> Track | None:
        """The track with avcC, width and height; None until the first parameter sets."""
        return self._track

    @property
    def dropped(self) -> int:
        """Frames before the first parameter sets, and frames without a NAL unit."""
        return self._dropped

    def push(self, frame: Frame) -> tuple[Track | None, Frame | None]:
        """Rewrite one frame; see `Normaliser.push`."""
        units = split_annexb(frame.payload)
        changed = self._configure(units)
        if self._track is None or not units:
            self._dropped += 1
            return changed, None
        return changed, evolve(frame, payload=join_prefixed(units))

    def _configure(self, units: list[bytes]) -> Track | None:
        """Take the parameter sets of one frame; return the track if they change it."""
        sps = [unit for unit in units if nal_type(unit) == SPS]
        pps = [unit for unit in units if nal_type(unit) == PPS]
        if not sps and not pps:
            return None
        sps, pps = sps or self._sps, pps or self._pps
        try:
            private, info = build_avcc(sps, pps), parse_sps(sps[0]) if sps else None
        except ValueError:
            # Half a configuration, or a broken one: keep the last good one and let the decoder judge.
            private, info = b"", None
        self._sps, self._pps = sps, pps
        if info is None or (self._track is not None and self._track.private == private):
            return None
        self._track = evolve(self._source, private=private, width=info.width, height=info.height)
        return self._track
