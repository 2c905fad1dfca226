"""Other people's readers on what we mux: FFmpeg, MKVToolNix and Chromium's Media Source have no complaint."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Page

from ingestd.media.frames import NS_PER_S, Event, Frame, Kind
from ingestd.media.webm_codecs import WEBM_CODECS
from ingestd.media.webm_demux import Demuxer
from ingestd.media.webm_mux import Muxer
from tests.media.mse import append, browser_page
from tests.media.tools import (
    demux,
    ffmpeg_complaints,
    ffprobe_packets,
    frames_of,
    header_of,
    mkvmerge_complaints,
    packets_of,
)
from tests.support.captures import Capture, captures

every_capture = pytest.mark.parametrize("recorded", captures(), ids=lambda recorded: recorded.name)
webm_captures = pytest.mark.parametrize(
    "recorded",
    [
        found
        for found in captures()
        if set(found.mime.rpartition("codecs=")[2].replace("av01", "av1").split(",")) <= WEBM_CODECS
    ],
    ids=lambda recorded: recorded.name,
)


def remuxed(recorded: Capture, **options: bool) -> tuple[Muxer, list[bytes], list[Event]]:
    """The last recorder's stream, muxed chunk by chunk as it would be live."""
    data = recorded.recorders()[-1]
    demuxer, muxer = Demuxer(), None
    portions: list[bytes] = []
    events: list[Event] = []
    for position in range(0, len(data), 60_000):
        new = demuxer.feed(data[position : position + 60_000])
        events += new
        if muxer is None:
            muxer = Muxer(header_of(new).tracks, **options)
            portions.append(muxer.header())
        portions.append(muxer.mux(frames_of(new)))
    assert muxer is not None
    return muxer, portions, events


def finished(path: Path, muxer: Muxer, portions: list[bytes]) -> None:
    """Write *portions* to *path* and make them seekable in place."""
    path.write_bytes(b"".join(portions))
    with path.open("r+b") as file:
        for offset, data in muxer.finish():
            file.seek(offset)
            file.write(data)


@every_capture
@pytest.mark.parametrize("shape", ["live", "unknown_sizes", "open_clusters", "seekable"])
def test_ffmpeg_and_mkvtoolnix_have_no_complaint(recorded: Capture, shape: str, tmp_path: Path) -> None:
    """Both read all of it without a warning, and ffprobe lists the source's packets."""
    muxer, portions, events = remuxed(recorded, **({} if shape == "live" else {shape: True}))
    path = tmp_path / "out.mkv"
    if shape == "seekable":
        finished(path, muxer, portions)
    else:
        path.write_bytes(b"".join(portions))
    assert ffmpeg_complaints(path) == ""
    assert mkvmerge_complaints(path, tmp_path / "remuxed.mkv") == []
    assert sorted(ffprobe_packets(path)) == sorted(packets_of(events))
    assert muxer.dropped == 0


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser_page() as opened:
        yield opened


@webm_captures
@pytest.mark.parametrize("sizes", [{}, {"unknown_sizes": True}, {"open_clusters": True}], ids=" ".join)
def test_chromiums_media_source_plays_all_of_it(
    recorded: Capture, sizes: dict[str, bool], page: Page
) -> None:
    """Appended portion by portion it is buffered from first to last frame, but for the source's gaps."""
    _, portions, events = remuxed(recorded, **sizes)
    frames = frames_of(events)
    tracks = header_of(events).tracks
    codecs = ",".join({"av1": "av01.0.09M.08"}.get(track.codec, track.codec) for track in tracks)
    kind = "video" if any(track.kind is Kind.VIDEO for track in tracks) else "audio"
    result = append(page, f'{kind}/webm;codecs="{codecs}"', portions)
    assert result["error"] is None
    spans = [span(frames, track.number) for track in tracks]
    # A source buffer's ranges are those that all its tracks have.
    begin, end = max(first for first, _ in spans), min(last for _, last in spans)
    assert result["ranges"][0][0] == pytest.approx(begin, abs=0.1)
    assert result["ranges"][-1][1] >= end - 0.001
    assert len(result["ranges"]) == 1 + gaps(frames)


def span(frames: list[Frame], track: int) -> tuple[float, float]:
    """First and last time of *track* in seconds."""
    times = [frame.timestamp / NS_PER_S for frame in frames if frame.track == track]
    return min(times), max(times)


def gaps(frames: list[Frame]) -> int:
    """How often a track lacks frames for more than a second and has some again: a frozen canvas."""
    tracks: dict[int, list[int]] = {}
    for frame in frames:
        tracks.setdefault(frame.track, []).append(frame.timestamp)
    return max(
        sum(after - before > NS_PER_S for before, after in pairwise(times)) for times in tracks.values()
    )


def test_a_viewer_may_join_at_any_keyframe_cluster(page: Page) -> None:
    """The header and the clusters from a later keyframe on play as well."""
    recorded = next(found for found in captures() if found.name == "cv-vp8-250.webm")
    events = demux([recorded.data()])
    frames = frames_of(events)
    tracks = header_of(events).tracks
    later = next(i for i, f in enumerate(frames) if f.keyframe and f.track == 1 and f.timestamp > NS_PER_S)
    muxer = Muxer(tracks)
    result = append(
        page, 'video/webm;codecs="vp8,opus"', [muxer.header(), muxer.mux(frames[later : later + 40])]
    )
    assert result["error"] is None
    assert result["ranges"][0][0] == pytest.approx(frames[later].timestamp / NS_PER_S, abs=0.1)
    assert result["width"] == 1280
