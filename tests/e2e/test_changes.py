"""Chromium changes its recorder on one WebSocket: every sink goes on, and the sound stays in its place.

A page does what a person's does: it ends its MediaRecorder and starts another one, of another codec, size,
shape, or with other tracks. What each recorder sent is the measure of its part of the program.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from attrs import frozen

from tests.e2e.test_captures import ALL_SINKS, control_run
from tests.support.counting import (
    NO_NUMBER,
    WHOLE,
    Picture,
    VideoFrame,
    assert_same_frames,
    decode_errors,
    flashes_of,
    offset_of,
    read_beeps,
    read_frames,
    read_sound,
    read_video,
)
from tests.support.daemon import daemon
from tests.support.publisher import Published, open_publisher
from tests.support.rtmps_server import RtmpServer

CANVAS = (640, 360)  # as ALL_SINKS has it
FPS = 30
BLACK = 17

VP8 = "video/webm;codecs=vp8,opus"
VP9 = "video/webm;codecs=vp9,opus"
AV1 = "video/webm;codecs=av1,opus"
H264 = "video/webm;codecs=h264,opus"
MP4 = "video/mp4;codecs=avc1.42E01E,opus"
OPUS = "audio/webm;codecs=opus"


@frozen
class Part:
    """What one recorder records, for how long."""

    mime: str = VP8
    size: tuple[int, int] = CANVAS
    video: bool = True
    audio: bool = True
    seconds: float = 3.5

    def options(self) -> dict[str, Any]:
        """As `Publisher.start` and `Publisher.change` take them; a fragment of MP4 lasts a second."""
        width, height = self.size
        return {
            "mime": self.mime,
            "width": width,
            "height": height,
            "video": self.video,
            "audio": self.audio,
            "keyframe_ms": 1000 if self.mime == MP4 else None,
        }

    @property
    def picture(self) -> Picture:
        """Where in the program's frame the picture is: whole, in the middle, in its own shape."""
        scale = min(CANVAS[0] / self.size[0], CANVAS[1] / self.size[1])
        width, height = (2 * round(side * scale / 2) for side in self.size)
        x, y = (CANVAS[0] - width) / 2, (CANVAS[1] - height) / 2
        return (x / CANVAS[0], y / CANVAS[1], width / CANVAS[0], height / CANVAS[1])


COMBINED = (
    Part(size=(1280, 720)),
    Part(VP9, size=(1280, 720)),
    Part(size=(854, 480)),
    Part(size=(480, 854)),
    Part(OPUS, video=False),
    Part(),
)
CHANGES = [
    pytest.param(COMBINED, id="combined"),
    pytest.param(
        (Part(), Part(H264), Part(MP4), Part(AV1), Part(H264, (480, 854)), Part(MP4, (480, 854)), Part(VP9)),
        marks=pytest.mark.full,
        id="codecs",
    ),
    pytest.param(
        (
            Part(OPUS, video=False),
            Part("video/webm;codecs=vp8", audio=False),
            Part(),
            Part("video/webm;codecs=h264", (480, 854), audio=False),
            Part(OPUS, video=False),
            Part(H264),
        ),
        marks=pytest.mark.full,
        id="tracks",
    ),
    pytest.param(
        tuple(Part(seconds=seconds) for seconds in (2.3, 1.4, 0.4, 3.1, 0.8, 2.2, 0.2, 1.9, 2.6, 3.0)),
        marks=pytest.mark.full,
        id="again-and-again",
    ),
    pytest.param(
        (*COMBINED, *reversed(COMBINED), *COMBINED),
        marks=pytest.mark.full,
        id="there-and-back",
    ),
]


async def publish(url: str, parts: Sequence[Part]) -> Published:
    """One recorder after the other on one socket."""
    async with open_publisher() as publisher:
        await publisher.start(url, **parts[0].options())
        await trio.sleep(parts[0].seconds)
        for part in parts[1:]:
            await publisher.change(**part.options())
            await trio.sleep(part.seconds)
        return await publisher.stop()


@pytest.mark.usefixtures("no_processes_left")
@pytest.mark.parametrize("parts", CHANGES)
async def test_every_sink_goes_on(tmp_path: Path, rtmp_server: RtmpServer, parts: Sequence[Part]) -> None:
    """One RTMPS connection, one HLS without a discontinuity, no failure; each part is in every output."""
    pipeline = ALL_SINKS.format(url=rtmp_server.rtmps_url, ca=rtmp_server.ca_file)
    with daemon(tmp_path / "live", pipeline) as running:
        published = await publish(running.publish_url, parts)
        status = await running.wait_ended()
    assert (published.close_code, published.errors) == (1000, [])
    assert (status["state"], status["cause"]) == ("ended", None)
    for child in (status["encoder"], *status["sinks"]):
        assert (child["state"], child["attempts"], child["restarts"]) == ("stopped", 1, 0), child
        assert child["last_error"] is None, child
    assert [event for event in running.events() if event["level"] in ("warning", "error")] == []
    rtmp_server.wait_idle()
    assert rtmp_server.connections() == 1
    (flv,) = rtmp_server.recordings("cam")
    playlist = running.playlist.read_text()
    assert "DISCONTINUITY" not in playlist
    assert playlist.endswith("#EXT-X-ENDLIST\n")

    raw = [path for path in running.recordings if "-source-" in path.name]
    assert [path.read_bytes() for path in raw] == [recorder.data for recorder in published.recorders]
    sent = [Sent.read(part, path) for part, path in zip(parts, raw, strict=True)]
    mkv, mp4 = sorted((path for path in running.recordings if path not in raw), key=lambda path: path.suffix)
    control = await control_run(tmp_path / "control", published.chunks)
    frames = read_video(control)
    for output in (mkv, mp4, running.playlist, flv):
        assert decode_errors(output) == [], output
        readings = {p: read_frames(output, picture=p) for p in {WHOLE, *(part.picture for part in parts)}}
        assert_same_frames([(frame.pts, frame.number) for frame in readings[WHOLE]], frames)
        assert_shows(output, split(readings, sent), sent)
    for one, shown in zip(sent, split(readings, sent), strict=True):
        assert_padded(flv, shown, one.part.picture)


@frozen
class Sent:
    """What one recorder sent, decoded."""

    part: Part
    frames: list[VideoFrame]
    beeps: list[float]

    @classmethod
    def read(cls, part: Part, path: Path) -> Sent:
        return cls(part, read_frames(path) if part.video else [], read_beeps(path) if part.audio else [])


def split(readings: dict[Picture, list[VideoFrame]], sent: Sequence[Sent]) -> list[list[VideoFrame]]:
    """The frames of an output part by part, read where the part has its picture; each belongs to one."""
    numbers = [{frame.number for frame in one.frames} or {NO_NUMBER} for one in sent]
    parts: list[list[VideoFrame]] = [[] for _ in sent]
    at = 0
    for index, whole in enumerate(readings[WHOLE]):
        while at < len(sent):
            picture = sent[at].part.picture
            frame = readings[picture][index]
            # A number that the whole frame shows is no number of a smaller picture in it.
            if frame.number in numbers[at] and (picture == WHOLE or whole.number == NO_NUMBER):
                parts[at].append(frame)
                break
            at += 1
        assert at < len(sent), f"neither black nor of what was sent, or not in order: {whole}"
    return parts


def assert_shows(output: Path, parts: Sequence[Sequence[VideoFrame]], sent: Sequence[Sent]) -> None:
    """Fail unless *output* has a picture in every slot, sound throughout, and each part as it was sent."""
    times = [frame.pts for part in parts for frame in part]
    assert times == pytest.approx([n / FPS for n in range(len(times))], abs=0.002), output
    ((begin, end),) = read_sound(output)
    assert (begin, end) == pytest.approx((0.0, times[-1]), abs=0.1), output
    beeps = read_beeps(output)
    for one, shown in zip(sent, parts, strict=True):
        heard = [at for at in beeps if shown and shown[0].pts - 0.02 < at < shown[-1].pts]
        where = f"{output.suffix} from {shown[0].pts if shown else -1:.3f} s: {one.part}"
        if one.part.video:
            late = assert_pictures_in_time(one.frames, shown, where)
        else:
            assert max(frame.luma for frame in shown) < BLACK, where
            late = shown[0].pts
        # What begins at a splice may be cut by it.
        whole = [at + late for at in one.beeps if 0.1 < at < one.part.seconds - 0.2]
        near = [min(heard, key=lambda at: abs(at - beep), default=-1.0) for beep in whole]
        assert near == pytest.approx(whole, abs=0.05 if one.part.video else 0.15), where
        assert np.diff(near) == pytest.approx(np.diff(whole), abs=0.025), where
        if one.part.video and len(whole) > 1:
            assert_in_sync(one, shown, heard, where)
        if not one.part.audio:
            assert heard == [], where


def assert_pictures_in_time(sent: Sequence[VideoFrame], shown: Sequence[VideoFrame], where: str) -> float:
    """Fail unless *shown* has the pictures of *sent*, each at its time; returns how much later that is."""
    numbers = [frame.number for frame in shown]
    assert numbers == sorted(numbers), where
    begun = {frame.number: frame.pts for frame in reversed(shown)}
    due = {frame.number: frame.pts for frame in reversed(sent)}
    # Two within one slot are one; the first may stand in for what was missing before it.
    assert len(begun) >= 0.8 * len(due) - 2, where
    late = [begun[number] - due[number] for number in sorted(begun)[1:]] or [shown[0].pts - sent[0].pts]
    middle = float(np.median(late))
    assert late == pytest.approx([middle] * len(late), abs=1.2 / FPS), where
    return middle


def assert_in_sync(sent: Sent, shown: Sequence[VideoFrame], heard: Sequence[float], where: str) -> None:
    """Fail unless the sound is where it was sent, to its picture, within 50 ms."""
    offset, source = offset_of(heard, flashes_of(shown)), offset_of(sent.beeps, flashes_of(sent.frames))
    print(f"{where}: A/V {offset * 1000:+.0f} ms, sent with {source * 1000:+.0f} ms")
    assert offset == pytest.approx(source, abs=0.050), where


def assert_padded(output: Path, shown: Sequence[VideoFrame], picture: Picture) -> None:
    """Fail unless, while *shown* is shown, all that is left and right of the picture is black."""
    x, _, width, _ = picture
    for beside in ((0.0, 0.0, x, 1.0), (x + width, 0.0, x, 1.0)) if x else ():
        frames = read_frames(output, picture=beside)
        within = [frame for frame in frames if shown[0].pts <= frame.pts <= shown[-1].pts]
        assert max(frame.luma for frame in within) < BLACK, beside
        assert {frame.number for frame in within} == {NO_NUMBER}, beside
