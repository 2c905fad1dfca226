"""Opus packets (RFC 6716): how long they last, what silence is, and times that go by their samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import define, evolve

from ingestd.media.frames import NS_PER_MS, NS_PER_S, Frame, Payload, Track

SILENCE = b"\xf8\xff\xfe"
"""A packet of 20 ms without sound: CELT, full band, mono, with its silence flag set (section 4.3)."""
SILENCE_LASTS = 20 * NS_PER_MS
OUT_OF_PLACE = 20 * NS_PER_MS
"""So far a packet's time may be from where the one before it ended."""
PATIENCE = NS_PER_S // 2
"""What is out of place for longer is meant so: a splice, clocks that drift."""
FAR = 250 * NS_PER_MS
"""What is out of place by more is meant so at once."""
MAX_HOLE = NS_PER_S
"""What is missing for longer is not made up for."""


def duration(packet: Payload) -> int:
    """Return how long an Opus packet lasts, in nanoseconds (section 3.1); 0 if it is malformed."""
    if not packet:
        return 0
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        samples = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        samples = (480, 960)[config & 1]
    else:
        samples = (120, 240, 480, 960)[config & 3]
    if code == 3:
        samples *= packet[1] & 0x3F if len(packet) > 1 else 0
    elif code:
        samples *= 2
    return samples * NS_PER_S // 48_000


@define
class _Place:
    """Of one track: where the next packet begins, and until where the times were in place."""

    end: int
    kept: int


class SteadySound:
    """Lets each Opus packet of *tracks* begin where the one before it ended.

    Browsers write down when they found a sound, which is some milliseconds off, now earlier, now later. A
    player's Media Source cuts off what overlaps, and its decoder goes by samples: with each cut the sound is
    further from the picture, and it runs dry while the buffer seems full. So times go by samples, until they
    are out of place for good; by the rules of our encoder (docs/ffmpeg.md). What is then missing is filled
    with silence, up to `MAX_HOLE`; what is too much is for the player to cut off.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        self._opus = {track.number for track in tracks if track.codec == "opus"}
        self._places: dict[int, _Place] = {}

    def steady(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """*frames*, in the same order, with silence between them where sound is missing."""
        for frame in frames:
            lasts = duration(frame.payload) if frame.track in self._opus else 0
            if not lasts:
                yield frame
                continue
            time = frame.timestamp
            place = self._places.setdefault(frame.track, _Place(time, time))
            off = time - place.end
            if abs(off) < OUT_OF_PLACE:
                place.kept = place.end
            elif abs(off) > FAR or place.end - place.kept > PATIENCE:
                for _ in range(off // SILENCE_LASTS if 0 < off <= MAX_HOLE else 0):
                    yield Frame(frame.track, place.end, True, SILENCE, SILENCE_LASTS)
                    place.end += SILENCE_LASTS
                if abs(time - place.end) >= OUT_OF_PLACE:
                    place.end = time
                place.kept = place.end
            yield evolve(frame, timestamp=place.end)
            place.end += lasts
