"""An HLS writer on a program hub, with real FFmpegs, and all that is to be known of what it has written."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from attrs import define, evolve, field, frozen

from ingestd.config import SupervisorConfig
from ingestd.live import child
from ingestd.live.batch import Configuration, Mark
from ingestd.live.hub import Hub
from ingestd.live.notes import Notes
from ingestd.live.supervisor import Health
from ingestd.live.writer import Writer
from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import NS_PER_S, Frame, Header, Kind
from ingestd.media.playlist import MediaPlaylist, parse_media_playlist
from ingestd.sinks.base import Place
from ingestd.sinks.hls import HlsSink
from tests.live.tools import hub_config
from tests.sinks.sources import packets

#: Frames are the same when their times differ by no more; in seconds.
TOLERANCE = 0.002

SPEED = 8

Packet = tuple[str, float]


@frozen
class Program:
    """All frames of a program, as an encoder or a browser gives them."""

    configuration: Configuration
    frames: tuple[Frame, ...]

    @classmethod
    def of(cls, path: Path) -> Program:
        demuxer = SniffingDemuxer(max_frame=2**24)
        events = demuxer.feed(path.read_bytes()) + demuxer.close()
        header = next(event for event in events if isinstance(event, Header))
        frames = tuple(event for event in events if isinstance(event, Frame))
        return cls(Configuration(header.tracks), frames)

    def packets(self) -> list[Packet]:
        """Kind and time of each frame."""
        kinds = {track.number: track.kind.value for track in self.configuration.tracks}
        return sorted((kinds[frame.track], frame.timestamp / NS_PER_S) for frame in self.frames)

    @property
    def starts(self) -> list[int]:
        """The places of the random access points among the frames."""
        return [at for at, frame in enumerate(self.frames) if self.configuration.starts_at(frame)]

    def publish(self, hub: Hub, first: int, last: int) -> None:
        """Frames *first* to *last* in one batch."""
        frames = self.frames[first:last]
        marks = tuple(
            Mark(hub.next_seq + at, frame.timestamp, self.configuration)
            for at, frame in enumerate(frames)
            if self.configuration.starts_at(frame)
        )
        hub.publish(self.configuration, frames, marks)

    async def play(self, hub: Hub, first: int = 0, live: int = 0, *, end: bool = True) -> None:
        """Publish from frame *first* on: at once what is before frame *live*, then `SPEED` times too fast.

        At once is before any other task runs, as a daemon has its journal back before a writer begins.
        """
        begin = trio.current_time()
        start = self.frames[min(live, len(self.frames) - 1)].timestamp
        for at in range(first, len(self.frames), 5):
            if at >= live:
                await trio.sleep_until(begin + (self.frames[at].timestamp - start) / NS_PER_S / SPEED)
            self.publish(hub, at, at + 5)
        if end:
            hub.end()

    def published(self, hub: Hub) -> int:
        """How many frames are in *hub*, or were before those that it begins with."""
        newest = max(hub.last_timestamp.values(), default=-1)
        return next((at for at, f in enumerate(self.frames) if f.timestamp > newest), len(self.frames))


def bereave(monkeypatch: pytest.MonkeyPatch, *, orphans: bool) -> None:
    """From now on a writer that is cancelled dies as with its daemon's SIGKILL.

    Its FFmpeg is killed, too or, with *orphans*, goes on to the end of what it had been fed.
    """

    async def die(process: trio.Process, made: child.Child, *, firmly: bool) -> None:
        if not (orphans or firmly):
            process.kill()
        if process.stdin is not None:
            await process.stdin.aclose()
        if not firmly:
            await process.wait()
        await _end(process, made, firmly=True)

    monkeypatch.setattr(child, "_end", die)


_end = child._end


@define
class Stage:
    """Where writers of one session play, one after the other."""

    ffmpeg: str
    directory: Path
    sink: HlsSink
    noted: bool = True
    writers: list[Writer] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        for folder in (self.hls, self.notes.path.parent):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def hls(self) -> Path:
        return self.directory / "hls"

    @property
    def notes(self) -> Notes:
        return Notes(self.directory / "journal" / "hls.json")

    @property
    def path(self) -> Path:
        return self.hls / "index.m3u8"

    @property
    def text(self) -> str:
        return self.path.read_text() if self.path.exists() else ""

    @property
    def playlist(self) -> MediaPlaylist:
        return parse_media_playlist(self.text)

    def writer(self, hub: Hub) -> Writer:
        """One more of them."""
        place = Place(stream="cam", recordings=self.directory, hls=self.hls, stem="s1")
        config = evolve(SupervisorConfig(), backoff=(0.1,) * 8, stall_timeout=5.0)
        notes = self.notes if self.noted else None
        made = Writer("cam", self.ffmpeg, self.sink, place, config, hub, Health("cam", "hls"), notes)
        self.writers.append(made)
        return made

    def packets(self) -> list[Packet]:
        """Of all listed segments, in their order."""
        playlist = self.playlist
        names = [segment.uri for segment in playlist.segments]
        if playlist.init:
            names.insert(0, playlist.init)
        return packets(*(self.hls / name for name in names))


def hub(number: int = 0) -> Hub:
    """An empty hub whose first frame will be number *number*."""
    made = Hub(hub_config())
    made.next_seq = number
    return made


def assert_each_once(found: Sequence[Packet], expected: Sequence[Packet]) -> None:
    """Every packet that is expected is found, exactly once, at its time."""
    for kind in Kind:
        got = sorted(at for each, at in found if each == kind.value)
        want = sorted(at for each, at in expected if each == kind.value)
        off = [
            (mine, theirs) for mine, theirs in zip(got, want, strict=False) if abs(mine - theirs) > TOLERANCE
        ]
        assert (len(got), off[:3]) == (len(want), []), (kind, len(got), len(want), off[:3])


def assert_sound(stage: Stage) -> None:
    """The playlist's rules that a resume could break; names are never used twice (RFC 8216, section 6.2)."""
    text, playlist = stage.text, stage.playlist
    assert text.startswith("#EXTM3U\n")
    uris = [segment.uri for segment in playlist.segments]
    assert len(set(uris)) == len(uris)
    assert [int(re.findall(r"-(\d{6})\.", uri)[0]) for uri in uris] == [s.sequence for s in playlist.segments]
    target = int(re.findall(r"#EXT-X-TARGETDURATION:(\d+)", text)[0])
    assert all(round(segment.duration) <= target for segment in playlist.segments)
    assert text.count("#EXT-X-ENDLIST") == playlist.ended


class Viewer:
    """Reads the playlist all the time, as players do, and keeps the segments, and what breaks the rules."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.first = 0
        self.ended = False
        self.names: dict[int, str] = {}
        self.violations: set[str] = set()
        self.kept = stage.directory / "kept"
        self.kept.mkdir()

    async def watch(self) -> None:
        while True:
            self.look()
            await trio.sleep(0.005)

    def look(self) -> None:
        playlist = self.stage.playlist
        if not playlist.segments:
            return
        if playlist.segments[0].sequence < self.first:
            self.violations.add(f"sequence {playlist.segments[0].sequence} after {self.first}")
        if self.ended and not playlist.ended:
            self.violations.add("goes on after its end")
        self.first, self.ended = playlist.segments[0].sequence, playlist.ended
        for number, name in self.names.items():
            if any(segment.sequence == number and segment.uri != name for segment in playlist.segments):
                self.violations.add(f"{name} was followed by others, and has another name now")
        # The last one is the only one that FFmpeg may have ended because its daemon died.
        self.names |= {segment.sequence: segment.uri for segment in playlist.segments[:-1]}
        for name in (*(segment.uri for segment in playlist.segments), playlist.init):
            if name and not (self.stage.hls / name).exists() and name in self.stage.text:
                self.violations.add(f"{name} is listed, but not there")
        # All that is there, listed or not: a writer that catches up lists and removes some between two looks.
        for path in self.stage.hls.glob("s1-*.[tm]*[sp4]"):
            with suppress(FileExistsError, FileNotFoundError):
                (self.kept / path.name).hardlink_to(path)

    def packets(self) -> list[Packet]:
        """Of all segments that ever were, each as it was written last."""
        last: dict[int, tuple[int, Path]] = {}
        for path in self.kept.iterdir():
            if match := re.fullmatch(r"s1(?:-(\d+))?-(\d{6})\.(?:ts|m4s)", path.name):
                number, cuts = int(match[2]), int(match[1] or 0)
                last[number] = max(last.get(number, (0, path)), (cuts, path))
        init = [path for path in self.kept.glob("*-init.mp4") if path.stat().st_size][:1]
        return packets(*init, *(last[number][1] for number in sorted(last)))


@asynccontextmanager
async def viewer(stage: Stage) -> AsyncIterator[Viewer]:
    """A viewer for the time of the block."""
    made = Viewer(stage)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.watch)
        yield made
        nursery.cancel_scope.cancel()
    made.look()
