"""HLS as both FFmpegs write it: normal ends, restarts after a SIGKILL, and what stays on disk."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Literal

import pytest
from attrs import evolve, frozen

from ingestd.media.ffmpeg import writer_args
from ingestd.media.frames import Kind, Track
from ingestd.sinks.base import Place
from ingestd.sinks.hls import HlsSink
from tests.sinks.sources import cut, packets, program

TRACKS = (Track(number=1, kind=Kind.VIDEO, codec="h264"), Track(number=2, kind=Kind.AUDIO, codec="aac"))
#: The longest that a timestamp may be off: the design's own measure.
TOLERANCE = 0.002

Container = Literal["ts", "fmp4"]
both_containers = pytest.mark.parametrize("container", ["ts", "fmp4"])


@frozen
class Writer:
    """Attempts of one HLS sink, in one place."""

    exe: str
    sink: HlsSink
    place: Place

    def start(self, *, resumed: bool = False) -> subprocess.Popen[bytes]:
        first = len(self.segments()) if resumed and not self.place.first else self.place.first
        output = self.sink.output(evolve(self.place, resumed=resumed, first=first), TRACKS)
        args = writer_args(self.exe, output.args, output.protocols)
        return subprocess.Popen(
            args, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def finish(self, source: Path, *, resumed: bool = False) -> None:
        """One attempt from beginning to end."""
        process = self.start(resumed=resumed)
        process.communicate(source.read_bytes(), timeout=30)
        assert process.returncode == 0

    def die(self, source: Path, *, listed: int) -> None:
        """One attempt that is killed in the middle of a segment, after *listed* were listed."""
        data = source.read_bytes()
        half = len(data) * 6 // 10
        with self.start() as process:
            assert process.stdin is not None
            process.stdin.write(data[:half])
            process.stdin.flush()
            deadline = time.monotonic() + 20
            while len(self.segments()) < listed:
                assert time.monotonic() < deadline, self.playlist()
                time.sleep(0.02)
            process.kill()

    def playlist(self) -> str:
        path = self.place.hls / "index.m3u8"
        return path.read_text() if path.exists() else ""

    def segments(self) -> list[str]:
        return [line for line in self.playlist().splitlines() if line and not line.startswith("#")]

    def packets(self, segment: str) -> list[tuple[str, float]]:
        """The packets of one listed segment, by the playlist's init segment where it has one."""
        init = re.findall(r'#EXT-X-MAP:URI="(.*)"', self.playlist())
        assert len(init) == (self.sink.container == "fmp4")
        return packets(*(self.place.hls / name for name in (*init, segment)))


def writer(exe: str, directory: Path, container: Container, window: int = 0) -> Writer:
    (directory / "hls").mkdir()
    place = Place(stream="demo", recordings=directory, hls=directory / "hls", stem="first")
    return Writer(exe, HlsSink(segment=1.0, window=window, container=container), place)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds with a keyframe on each."""
    return program(tmp_path_factory.mktemp("hls") / "source.mkv", seconds=10)


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    """The same from its keyframe at 5 s on."""
    return cut(source, tmp_path_factory.mktemp("hls") / "late.mkv", 5)


def assert_on_the_timeline(found: list[tuple[str, float]], source: list[tuple[str, float]]) -> None:
    """Each packet is one of the source's, of the same kind and at the same time."""
    assert found
    for kind, at in found:
        assert any(kind == other and abs(at - time) <= TOLERANCE for other, time in source), (kind, at)


@both_containers
def test_a_whole_session(
    each_ffmpeg: str, tmp_path: Path, container: Container, source: Path, no_processes_left: None
) -> None:
    """With window = 0 every segment is listed; ENDLIST is left to the daemon; times are the source's."""
    hls = writer(each_ffmpeg, tmp_path, container)
    hls.finish(source)
    playlist = hls.playlist()
    assert "ENDLIST" not in playlist
    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in playlist
    assert "DISCONTINUITY" not in playlist
    suffix = "ts" if container == "ts" else "m4s"
    assert hls.segments() == [f"first-{number:06}.{suffix}" for number in range(10)]
    expected = packets(source)
    found = [packet for segment in hls.segments() for packet in hls.packets(segment)]
    assert len(found) == len(expected)
    assert_on_the_timeline(found, expected)


@both_containers
def test_a_restart_after_a_kill(
    each_ffmpeg: str, tmp_path: Path, container: Container, source: Path, late: Path, no_processes_left: None
) -> None:
    """Numbers go on after one DISCONTINUITY, and times stay the source's before and after it."""
    hls = writer(each_ffmpeg, tmp_path, container)
    hls.die(source, listed=5)
    before = hls.segments()
    init = list(hls.place.hls.glob("*-init.mp4"))
    content = [path.read_bytes() for path in init]
    hls.finish(late, resumed=True)
    after = hls.segments()
    assert after[: len(before)] == before
    numbers = [int(segment[6:12]) for segment in after]
    assert numbers == list(range(len(after)))
    playlist = hls.playlist()
    assert playlist.count("#EXT-X-DISCONTINUITY\n") == 1
    assert playlist.partition("#EXT-X-DISCONTINUITY\n")[0].count("#EXTINF") == len(before)
    expected = packets(source)
    for segment in after:
        assert_on_the_timeline(hls.packets(segment), expected)
    assert hls.packets(after[len(before)])[0][1] == pytest.approx(5.0, abs=0.05)
    # One EXT-X-MAP serves both lives, because both wrote the same bytes; the first's stayed as they were.
    assert [path.read_bytes() for path in init] == content
    assert [path.read_bytes() for path in hls.place.hls.glob("*-init.mp4")] == 2 * content
    assert len(init) == (container == "fmp4")


@both_containers
def test_a_window_deletes_what_left_it_long_ago(
    each_ffmpeg: str, tmp_path: Path, container: Container, source: Path, late: Path
) -> None:
    """The window and one window more stay on disk, also of segments from before a restart."""
    hls = writer(each_ffmpeg, tmp_path, container, window=3)
    hls.die(source, listed=3)
    before = int(hls.segments()[-1][6:12])
    hls.finish(late, resumed=True)
    assert len(hls.segments()) == 3
    assert "#EXT-X-PLAYLIST-TYPE" not in hls.playlist()
    last = int(hls.segments()[-1][6:12])
    left = {int(path.name[6:12]) for path in hls.place.hls.glob("first-0*")}
    # What had left the list before the restart FFmpeg forgets: that is the daemon's to delete.
    forgotten = set(range(before - 2))
    assert left == forgotten | set(range(last - 2 - 4, last + 1))


@both_containers
def test_a_new_session_replaces_the_old_playlist(
    each_ffmpeg: str, tmp_path: Path, container: Container, source: Path, late: Path
) -> None:
    """Nothing of the old session is listed, and no DISCONTINUITY stands at the top."""
    hls = writer(each_ffmpeg, tmp_path, container)
    hls.finish(source)
    again = evolve(hls, place=evolve(hls.place, stem="second"))
    again.finish(late)
    assert all(segment.startswith("second-") for segment in again.segments())
    assert "DISCONTINUITY" not in again.playlist()
    assert "#EXT-X-MEDIA-SEQUENCE:0" in again.playlist()


@both_containers
def test_a_playlist_that_lists_nothing_is_gone_on_with(
    each_ffmpeg: str, tmp_path: Path, container: Container, late: Path
) -> None:
    """Where all that was listed was cut off, numbers go on, after a DISCONTINUITY, under another name."""
    hls = writer(each_ffmpeg, tmp_path, container, window=3)
    (hls.place.hls / "index.m3u8").write_text(
        "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:7\n"
    )
    again = evolve(hls, place=evolve(hls.place, first=7, cuts=2))
    with again.start(resumed=True) as process:
        assert process.stdin is not None
        process.stdin.write(late.read_bytes()[: late.stat().st_size // 2])
        process.stdin.close()
    suffix = "ts" if container == "ts" else "m4s"
    assert again.segments()[0] == f"first-2-000007.{suffix}"
    assert "#EXT-X-MEDIA-SEQUENCE:7\n" in again.playlist()
    assert again.playlist().partition("#EXTINF")[0].endswith("#EXT-X-DISCONTINUITY\n")
    assert len(list(hls.place.hls.glob("first-2-000007-init.mp4"))) == (container == "fmp4")
