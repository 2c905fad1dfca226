"""Opus packets: their length, silence that decoders take for silence, and times that go by samples."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from itertools import pairwise

import pytest

from ingestd.media import opus
from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import NS_PER_MS, Frame, Header, Kind, Track
from ingestd.media.opus import SteadySound
from ingestd.media.webm_mux import Muxer
from tests.support.captures import capture
from tests.support.packages import program

SOUND = Track(number=2, kind=Kind.AUDIO, codec="opus", private=b"OpusHead", sample_rate=48000, channels=1)
PICTURE = Track(number=1, kind=Kind.VIDEO, codec="vp8", width=64, height=48)
PACKET = b"\x18\0\0"  # 60 ms


@pytest.mark.parametrize(
    ("packet", "ms"),
    [
        (b"\x08", 20), (b"\x18", 60), (b"\x60", 10), (b"\x80", 2.5), (b"\xf9", 40), (b"\xfb\x03", 60),
        (b"\xfb", 0), (b"", 0), (opus.SILENCE, opus.SILENCE_LASTS / NS_PER_MS),
    ],
)  # fmt: skip
def test_packets_say_how_long_they_last(packet: bytes, ms: float) -> None:
    """From the first byte, and the second where that counts the frames."""
    assert opus.duration(packet) == ms * NS_PER_MS


def sound(times: Iterable[float]) -> list[Frame]:
    return [Frame(2, round(ms * NS_PER_MS), True, PACKET) for ms in times]


def steadied(times: Iterable[float]) -> list[tuple[float, bool]]:
    """Milliseconds, and whether it is silence that was put in."""
    frames = SteadySound((PICTURE, SOUND)).steady(sound(times))
    return [(frame.timestamp / NS_PER_MS, frame.payload == opus.SILENCE) for frame in frames]


def test_times_that_stray_go_by_samples() -> None:
    """As long as they come back; a browser that found the time late tells the next ones early enough."""
    strays = [0, 51, 120, 189, 240, 319.9, 342, 420, 694, 694, 694, 700, 720]
    assert steadied(strays) == [(60 * index, False) for index in range(len(strays))]


def test_sound_that_is_missing_is_silence() -> None:
    """At once where it is much, after half a second where it is little; over a second it stays a hole."""
    assert steadied([0, 60, 380, 440]) == [
        (0, False), (60, False), *((120 + 20 * index, True) for index in range(13)),
        (380, False), (440, False),
    ]  # fmt: skip
    little = steadied([0, *(60 * index + 25 for index in range(1, 12))])
    assert [time for time, silent in little if silent] == [540]
    assert little[-1] == (680, False)
    assert steadied([0, 1060, 1120]) == [
        (0, False), *((60 + 20 * index, True) for index in range(50)), (1060, False), (1120, False),
    ]  # fmt: skip
    assert steadied([0, 1060.1, 1120]) == [(0, False), (1060.1, False), (1120.1, False)]


def test_sound_that_is_too_much_begins_anew() -> None:
    """A clock that went back, at once; a little too much after half a second."""
    assert steadied([1000, 1060, 500, 560]) == [(1000, False), (1060, False), (500, False), (560, False)]
    little = steadied([0, *(60 * index - 25 for index in range(1, 12))])
    assert [time for time, _ in little][-4:] == [480, 515, 575, 635]


def test_pictures_and_other_sound_stay_where_they_are() -> None:
    """Also a packet that does not say how long it lasts."""
    frames = [Frame(1, 7, True, b"p"), Frame(2, 3, True, b"\xfb"), Frame(1, 9, False, b"p")]
    assert list(SteadySound((PICTURE, SOUND)).steady(frames)) == frames
    other = [Frame(2, 51 * index, True, PACKET) for index in range(4)]
    aac = Track(number=2, kind=Kind.AUDIO, codec="aac", sample_rate=48000, channels=1)
    assert list(SteadySound((PICTURE, aac)).steady(other)) == other


@pytest.mark.parametrize("name", ["cv-vp8-250.webm", "cv-h264webm-100.mkv", "gum-audio-250.webm"])
def test_a_browsers_sound_is_whole_and_stays_with_its_picture(name: str) -> None:
    """No packet is lost or put in, and none is further from its time than a person would notice."""
    demuxer = SniffingDemuxer(max_frame=2**24)
    events = demuxer.feed(capture(name).data())
    tracks = next(event.tracks for event in events if isinstance(event, Header))
    heard = {track.number for track in tracks if track.kind is Kind.AUDIO}
    before = [event for event in events if isinstance(event, Frame)]
    after = list(SteadySound(tracks).steady(before))
    assert [(frame.track, bytes(frame.payload)) for frame in after] == [
        (frame.track, bytes(frame.payload)) for frame in before
    ]
    assert max(abs(a.timestamp - b.timestamp) for a, b in zip(after, before, strict=True)) < opus.FAR / 5
    packets = [frame for frame in after if frame.track in heard]
    assert all(b.timestamp - a.timestamp == opus.duration(a.payload) for a, b in pairwise(packets))


def test_decoders_take_our_silence_for_silence() -> None:
    """After real sound, which is in stereo or not: FFmpeg decodes as many samples as it should, all 0."""
    demuxer = SniffingDemuxer(max_frame=2**24)
    events = demuxer.feed(capture("gum-audio-250.webm").data())
    tracks = next(event.tracks for event in events if isinstance(event, Header))
    before = [event for event in events if isinstance(event, Frame)][:20]
    end = before[-1].timestamp + opus.duration(before[-1].payload)
    silence = [
        Frame(before[0].track, end + index * opus.SILENCE_LASTS, True, opus.SILENCE) for index in range(40)
    ]
    muxer = Muxer(tracks)
    decoded = subprocess.run(
        [program("ffmpeg"), "-v", "error", "-i", "pipe:0", "-ar", "48000", "-ac", "1", "-f", "s16le", "-"],
        input=muxer.header() + muxer.mux([*before, *silence]), stdout=subprocess.PIPE, check=True, timeout=60,
    ).stdout  # fmt: skip
    lasting = 40 * 20 * 48 * 2
    assert any(decoded[:-lasting])
    # What was heard before may ring on for the length of a window.
    assert not any(decoded[-lasting + 2 * 20 * 48 :])
    whole = 20 * opus.duration(before[0].payload) + 40 * opus.SILENCE_LASTS
    assert len(decoded) // 2 == pytest.approx(whole * 48 // NS_PER_MS, abs=1000)
