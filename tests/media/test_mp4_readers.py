"""Other people's readers on the MP4 that we mux: FFmpeg, MKVToolNix and Chromium's Media Source."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import NS_PER_S, Frame, Header, Track
from ingestd.media.mp4_mux import Mp4Muxer
from ingestd.media.mp4_records import mime
from ingestd.media.normalise import Normaliser, normalise
from tests.media.mp4_tools import ffprobe_ns, mp4_capture
from tests.media.mse import append, browser_page
from tests.media.tools import ffmpeg_complaints, mkvmerge_complaints
from tests.support.captures import capture
from tests.support.packages import program

SOURCES = (
    "cv-h264webm-100.mkv",
    "cv-vp9-250.webm",
    "cv-av1-250.webm",
    "gum-audio-250.webm",
    "cv-mp4avc-250.mp4",
    "gum-mp4vp9-250.mp4",
    "H.264 with B-frames and AAC",
)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """H.264 with B-frames and AAC, as an encoder of ours would write them to its output."""
    path = tmp_path_factory.mktemp("encoded") / "encoded.mkv"
    sources = "-f lavfi -i testsrc2=s=320x180:r=30:d=5 -f lavfi -i sine=r=44100:d=5"
    options = "-c:v libx264 -preset veryfast -bf 2 -g 60 -c:a aac -ac 2"
    command = f"{program('ffmpeg')} -nostdin -v error {sources} {options}"
    subprocess.run([*command.split(), str(path)], check=True, capture_output=True)
    return path.read_bytes()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser_page() as opened:
        yield opened


def remuxed(data: bytes, piece: int) -> tuple[tuple[Track, ...], list[bytes], list[Frame]]:
    """The stream as MP4, muxed portion by portion as it would be live."""
    demuxer, muxer = SniffingDemuxer(), None
    normalisers: dict[int, Normaliser] = {}
    portions: list[bytes] = []
    taken: list[Frame] = []
    tracks: tuple[Track, ...] = ()
    for position in range(0, len(data), piece):
        frames = []
        for event in demuxer.feed(data[position : position + piece]):
            if isinstance(event, Header):
                normalisers = {track.number: normalise(track) for track in event.tracks}
            elif isinstance(event, Frame):
                _, frame = normalisers[event.track].push(event)
                # Sound may begin before the time 0, which is its codec's business.
                frames += [frame] if frame and frame.timestamp >= 0 else []
        found = tuple(normaliser.track for normaliser in normalisers.values() if normaliser.track)
        if muxer is None and found and len(found) == len(normalisers):
            tracks = found
            muxer = Mp4Muxer(tracks)
            portions.append(muxer.header())
        if muxer is not None:
            portions.append(muxer.mux(frames))
            taken += frames
    return tracks, portions, taken


def source(name: str, encoded: bytes) -> bytes:
    """The bytes of one of `SOURCES`."""
    if name.endswith(".mp4"):
        return mp4_capture(name).data()
    return encoded if "B-frames" in name else capture(name).data()


@pytest.mark.parametrize("name", SOURCES)
def test_ffmpeg_and_mkvtoolnix_have_no_complaint(name: str, encoded: bytes, tmp_path: Path) -> None:
    """Both read all of it without a warning, and ffprobe lists the source's packets."""
    # Where a call separates B-frames, FFmpeg shows all frames later by what the first of them lack.
    tracks, portions, frames = remuxed(source(name, encoded), 10_000_000 if "B-frames" in name else 60_000)
    path = tmp_path / "out.mp4"
    path.write_bytes(b"".join(portions))
    assert ffmpeg_complaints(path) == ""
    assert mkvmerge_complaints(path, tmp_path / "remuxed.mkv") == []
    index = {track.number: position for position, track in enumerate(tracks)}
    expected = sorted((index[f.track], f.timestamp, f.keyframe, len(f.payload)) for f in frames)
    found = sorted(ffprobe_ns(path))
    assert [(track, key, size) for track, _, key, size in found] == [
        (track, key, size) for track, _, key, size in expected
    ]
    assert all(
        abs(packet[1] - frame[1]) <= NS_PER_S // 44_100 for packet, frame in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("piece", [4_000, 60_000, 10_000_000])
def test_chromiums_media_source_plays_all_of_it(name: str, piece: int, encoded: bytes, page: Page) -> None:
    """Appended portion by portion it is buffered from first to last frame, in one range, and plays."""
    tracks, portions, frames = remuxed(source(name, encoded), piece)
    result = append(page, mime(tracks, "mp4"), portions)
    assert result["error"] is None
    spans = [
        [frame.timestamp / NS_PER_S for frame in frames if frame.track == track.number] for track in tracks
    ]
    ((begin, end),) = result["ranges"]
    assert begin == pytest.approx(max(min(span) for span in spans), abs=0.1)
    assert end >= min(max(span) for span in spans) - 0.001


def test_a_viewer_may_join_at_any_keyframe(page: Page) -> None:
    """The header and the fragments from a later keyframe on play as well."""
    tracks, _, frames = remuxed(mp4_capture("cv-mp4avc-250.mp4").data(), 60_000)
    later = next(i for i, f in enumerate(frames) if f.keyframe and f.track == 1 and f.timestamp > NS_PER_S)
    muxer = Mp4Muxer(tracks)
    result = append(page, mime(tracks, "mp4"), [muxer.header(), muxer.mux(frames[later : later + 60])])
    assert result["error"] is None
    assert result["ranges"][0][0] == pytest.approx(frames[later].timestamp / NS_PER_S, abs=0.1)
    assert result["width"] == 1280
