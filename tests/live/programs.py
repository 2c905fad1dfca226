"""Made-up programs that can be given again, and a disk on which a daemon dies: for tests of what goes on."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, evolve, field

from ingestd.errors import leaves
from ingestd.live.batch import Configuration, Mark
from ingestd.live.hub import Hub
from ingestd.live.recording import Recording
from ingestd.media import webm_codecs as ids
from ingestd.media.ebml import children, read_head, read_uint
from ingestd.media.frames import NS_PER_MS, NS_PER_S, Frame, SegmentStart
from tests.live.tools import AUDIO, BOTH, VIDEO, WitnessedHub, feed, hub_config, spool
from tests.media.test_webm_mux import segment_children
from tests.media.tools import demux, frames_of, header_of
from tests.support.captures import capture

_PICTURE, _PACKET = 33_366_667, 21_333_333  # neither is a whole number of ms
_ORDER_OF_B = (0, 3, 1, 2)  # a group of four as it is decoded

#: A track's frames in a file: time in ms, keyframe, payload.
Frames = dict[int, list[tuple[int, bool, bytes]]]


@define
class Program:
    """Frames in the order of a hub; *marks* are those at which one can begin."""

    frames: list[tuple[Configuration, Frame]] = field(factory=list)

    @property
    def marks(self) -> list[int]:
        return [
            index
            for index, (configuration, frame) in enumerate(self.frames)
            if configuration.starts_at(frame)
        ]

    def mark_near(self, fraction: float) -> int:
        """The random access point at about *fraction* of the program."""
        marks = self.marks
        return marks[min(len(marks) - 1, int(fraction * len(marks)))]

    async def publish(self, hub: Hub, rng: random.Random, begin: int, end: int) -> None:
        """Frames *begin* to *end* in batches of any size, with a pause after each."""
        at = begin
        while at < end:
            size = rng.choice((1, 2, 5, 20, 60))
            configuration = self.frames[at][0]
            stop = next(
                (i for i in range(at, min(at + size, end)) if self.frames[i][0] is not configuration),
                min(at + size, end),
            )
            frames = tuple(frame for _, frame in self.frames[at:stop])
            starts = [i for i, frame in enumerate(frames) if configuration.starts_at(frame)]
            if configuration.video is None:
                starts = starts[:1]
            marks = [Mark(hub.next_seq + i, frames[i].timestamp, configuration) for i in starts]
            hub.publish(configuration, frames, tuple(marks))
            at = stop
            await trio.lowlevel.checkpoint()


def made_up(rng: random.Random, kind: str, seconds: float = 4.0) -> Program:
    """A program of pictures (a keyframe a second, in the file's order of *kind*) and sound around them.

    *kind*: ``plain``, ``reordered`` (B-frames), ``intra`` (keyframes only), ``fine`` (several packets a ms),
    ``sound`` (nothing else), ``changing`` (other pictures from the middle on), ``quiet`` (the sound ends
    after a second).
    """
    pictures, sound = [], []
    for number in range(int(seconds * NS_PER_S / _PICTURE)):
        shown = number // 4 * 4 + _ORDER_OF_B[number % 4] if kind == "reordered" else number
        key = number % (1 if kind == "intra" else 28) == 0
        pictures.append((number * _PICTURE, Frame(1, shown * _PICTURE, key, payload(rng, number))))
    step = 400_000 if kind == "fine" else _PACKET
    skew = (-250 if kind == "intra" else rng.choice((-250, -40, 0, 35, 250))) * NS_PER_MS
    lasts = {"quiet": 1.0, "fine": 0.5}.get(kind, seconds)
    for number in range(int(lasts * NS_PER_S / step)):
        at = number * step
        sound.append((max(1, at + skew), Frame(2, at, True, payload(rng, number, short=True))))
    if kind == "sound":
        only = Configuration((AUDIO,))
        return Program([(only, frame) for _, frame in sound])
    other = Configuration((evolve(VIDEO, width=320), AUDIO))
    program, configuration = Program(), BOTH
    for _, frame in sorted((*pictures, *sound), key=lambda pair: pair[0]):
        if (
            kind == "changing"
            and frame.timestamp >= seconds * NS_PER_S / 2
            and frame.track == 1
            and frame.keyframe
        ):
            configuration = other
        program.frames.append((configuration, frame))
    return program


async def captured(name: str, directory: Path) -> Program:
    """The program that is the capture *name*, copied."""
    (directory / "captured").mkdir()
    async with spool(directory / "captured") as made:
        await feed(made, capture(name).chunks())
        made.end()
        assert isinstance(made.hub, WitnessedHub)
        return Program([(configuration, Frame(*rest)) for _, configuration, *rest in made.hub.live])


def payload(rng: random.Random, number: int, *, short: bool = False) -> bytes:
    """Bytes that tell a frame from all others, for sound sometimes the same as others'."""
    if short and number % 7 == 0:
        return b"silence"
    return number.to_bytes(4, "big") + rng.randbytes(rng.randrange(40 if short else 200))


def fresh_hub(rng: random.Random) -> Hub:
    """A hub as a new daemon makes it: its numbers start anywhere."""
    hub = Hub(hub_config())
    hub.next_seq = rng.choice((0, rng.randrange(10_000)))
    return hub


async def live(
    run: Recording,
    program: Program,
    rng: random.Random,
    *,
    begin: int = 0,
    at_once: int = 0,
    end: int | None = None,
) -> None:
    """Run *run* while its hub is given *program* from *begin* on, up to *at_once* before it starts.

    To the program's end and its own; or with *end* up to there, and then the run is cut off.
    """
    hub, upto = run.program, len(program.frames) if end is None else end
    await program.publish(hub, rng, begin, max(begin, at_once))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.run)
        await program.publish(hub, rng, max(begin, at_once), upto)
        if end is None:
            hub.end()
            return
        with trio.fail_after(20):
            while run.behind_frames or run._batch is not None or not run._taken_up:  # noqa: ASYNC110
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()


class Killed(BaseException):
    """The daemon dies here."""


@define
class Mortal:
    """Counts what is done to files below *root*, and lets nothing more happen from call *dies_at* on."""

    root: Path
    dies_at: int | None = None
    calls: int = 0
    done: list[str] = field(factory=list)

    def wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if isinstance(args[0], str | Path) and not Path(args[0]).is_relative_to(self.root):
                return real(*args, **kwargs)
            self.calls += 1
            self.done.append(name)
            if self.dies_at is not None and self.calls > self.dies_at:
                if name == "pwrite" and self.calls == self.dies_at + 1:
                    real(args[0], args[1][: len(args[1]) // 2], args[2])
                raise Killed
            return real(*args, **kwargs)

        return call


@contextmanager
def mortal(root: Path, dies_at: int | None) -> Iterator[Mortal]:
    """Within, the daemon dies at its file operation number *dies_at*, in the middle if it is a write."""
    disk = Mortal(root, dies_at)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("pwrite", "open", "link", "unlink", "replace", "rename", "ftruncate", "fsync", "mkdir"):
            patch.setattr(os, name, disk.wrap(name, getattr(os, name)))
        try:
            yield disk
        except BaseException as death:
            if not all(isinstance(leaf, Killed) for leaf in leaves(death)):
                raise


def in_file(path: Path) -> Frames:
    """The frames of *path*, by track, their times from the first track's first on.

    (Where a file's zero lies depends on how much of a lagging track is known when it begins.)
    """
    return by_track(frames_of(demux([path.read_bytes()])))


def whole_frames(data: bytes) -> Frames:
    """The frames of the whole clusters at the beginning of a part."""
    events = demux([data])
    starts = [index for index, event in enumerate(events) if isinstance(event, SegmentStart)]
    cluster = read_head(data, events[starts[-1]].offset, len(data), 0) if starts else None
    if cluster is not None and events[starts[-1]].offset + cluster[1] + cluster[2] > len(data):
        del events[starts[-1] :]
    return by_track(frames_of(events))


def by_track(frames: list[Frame]) -> Frames:
    """*frames* in comparable form."""
    found: Frames = {}
    if not frames:
        return found
    zero = next(frame.timestamp for frame in frames if frame.track == min(f.track for f in frames))
    for frame in frames:
        time = round((frame.timestamp - zero) / NS_PER_MS)
        found.setdefault(frame.track, []).append((time, frame.keyframe, bytes(frame.payload)))
    return found


def in_files(root: Path) -> dict[str, Frames]:
    """The frames of all files below *root*, hidden ones and parts included, which must be seekable."""
    found = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        found[path.relative_to(root).as_posix()] = in_file(path)
        assert_seekable(path)
    return found


def assert_seekable(path: Path) -> None:
    """Fail unless the cues name the clusters that begin with a keyframe of the first track, and no others."""
    data = path.read_bytes()
    events = demux([data])
    track = header_of(events).tracks[0].number
    places, start = {}, None
    for event in events:
        if isinstance(event, SegmentStart):
            start = event
        elif isinstance(event, Frame) and start is not None:
            if event.track == track and event.keyframe:
                places[start.offset] = round(event.timestamp / NS_PER_MS)
            start = None
    parts = segment_children(data)
    cues = {}
    for point in children(parts[ids.CUES]):
        time, positions = children(point)
        leaf = {child.id: read_uint(child) for child in children(positions)}
        cues[parts[ids.SEEK_HEAD].start + leaf[ids.CUE_CLUSTER_POSITION]] = read_uint(time)
    assert cues == places
