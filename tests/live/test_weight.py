"""What a frame counts in a bound of bytes."""

from __future__ import annotations

from ingestd.config import HubConfig
from ingestd.live.batch import FRAME_OVERHEAD, Configuration, Mark, weight
from ingestd.live.hub import Hub
from ingestd.media.frames import Frame, Kind, Track

SOUND = Configuration((Track(number=1, kind=Kind.AUDIO, codec="opus"),))


async def test_frames_of_one_byte_fill_a_window_too() -> None:
    """A publisher of tiny frames gets no more memory than the window's bound."""
    hub = Hub(HubConfig(memory=2**20))
    for number in range(10_000):
        frame = Frame(1, number, True, b"x")
        hub.publish(SOUND, (frame,), (Mark(number, number, SOUND),))
    assert hub.next_seq - hub.window_start <= 2**20 // FRAME_OVERHEAD


def test_the_overhead_counts_once_a_frame() -> None:
    assert weight([Frame(1, 0, True, b"abc")] * 4) == 4 * (3 + FRAME_OVERHEAD)
