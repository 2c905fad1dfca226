"""Numbered frames to publish: made once per length and seed, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from itertools import groupby, pairwise
from pathlib import Path

from attrs import define, evolve, field

from ingestd.media.frames import NS_PER_S, Frame, Header, Kind, Track
from ingestd.media.webm_demux import Demuxer
from ingestd.media.webm_mux import Muxer
from ingestd.testcard import test_card_chunks as card_chunks

SLICE = 0.3  # seconds between two chunks
WIDTH, HEIGHT = 320, 180


@define(eq=False)
class Recorder:
    """What one recorder gives: *chunks*, from *begins* seconds of the card on; *sent* of them were sent."""

    begins: float
    chunks: Sequence[bytes]
    sent: int = 0

    @property
    def reached(self) -> float:
        """Up to where the card was sent, in seconds, or a little less."""
        return self.begins + self.sent * SLICE


@define(eq=False)
class Card:
    """One picture with its sound. *chunks* are what a recorder makes of all of it."""

    chunks: list[bytes]
    _tracks: tuple[Track, ...] = ()
    _frames: list[Frame] = field(factory=list)

    def recorder(self, after: float = 0.0) -> Recorder:
        """A recorder that begins with the first keyframe at or after *after* seconds; its times begin at 0.

        It has no chunks if there is no keyframe any more. The first call with an *after* takes a while.
        """
        if not after:
            return Recorder(0.0, self.chunks)
        self._parse()
        video = next(track.number for track in self._tracks if track.kind is Kind.VIDEO)
        keyframes = (frame.timestamp for frame in self._frames if frame.track == video and frame.keyframe)
        begin = next((at for at in keyframes if at >= after * NS_PER_S), None)
        if begin is None:
            return Recorder(after, [])
        muxer = Muxer(self._tracks, unknown_sizes=True)
        frames = [evolve(f, timestamp=f.timestamp - begin) for f in self._frames if f.timestamp >= begin]
        frames.sort(key=lambda frame: (frame.timestamp, frame.track != video))
        slices = groupby(frames, key=lambda frame: frame.timestamp // round(SLICE * NS_PER_S))
        pieces = [muxer.header(), *(muxer.mux(list(of_slice)) for _, of_slice in slices), b""]
        # As a browser cuts: one byte into an element.
        chunks = [piece[bool(at) :] + following[:1] for at, (piece, following) in enumerate(pairwise(pieces))]
        return Recorder(begin / NS_PER_S, chunks)

    def _parse(self) -> None:
        if self._frames:
            return
        demuxer = Demuxer()
        events = [*demuxer.feed(b"".join(self.chunks)), *demuxer.close()]
        (header,) = (event for event in events if isinstance(event, Header))
        self._tracks = tuple(evolve(track, default_duration=None) for track in header.tracks)
        self._frames = [event for event in events if isinstance(event, Frame)]


async def card(ffmpeg: str, seconds: float, seed: int, cache: Path) -> Card:
    """*seconds* of test card, from *cache* if it is there; same *seed*, same frames."""
    kept = cache / f"card-{WIDTH}x{HEIGHT}-{seconds:g}s-{seed}"
    sizes = kept.with_suffix(".sizes")
    if sizes.exists():
        data = kept.read_bytes()
        chunks, at = [], 0
        for size in map(int, sizes.read_text().split()):
            chunks.append(data[at : at + size])
            at += size
        return Card(chunks)
    made = card_chunks(
        ffmpeg, seconds=seconds, width=WIDTH, height=HEIGHT, timeslice=SLICE, seed=seed, realtime=False
    )
    async with aclosing(made):
        chunks = [chunk async for chunk in made]
    _keep(kept, sizes, chunks)
    return Card(chunks)


def _keep(kept: Path, sizes: Path, chunks: list[bytes]) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(b"".join(chunks))
    sizes.write_text(" ".join(str(len(chunk)) for chunk in chunks))  # last: it says that the rest is whole
