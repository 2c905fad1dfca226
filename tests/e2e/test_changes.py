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
from tests.support.captures import capture
from tests.support.counting import (
    NO_NUMBER,
    WHOLE,
    Picture,
    VideoFrame,
    assert_same_frames,
    decode_errors,
    duration,
    flashes_of,
    offset_of,
    read_beeps,
    read_frames,
    read_sound,
    read_video,
)
from tests.support.daemon import Daemon, daemon, publish
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
    seconds: float = 3.0

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
LONG = (pytest.mark.full, pytest.mark.timeout(300))
CHANGES = [
    pytest.param(COMBINED, id="combined"),
    pytest.param(
        (Part(), Part(H264), Part(MP4), Part(AV1), Part(H264, (480, 854)), Part(MP4, (480, 854)), Part(VP9)),
        marks=LONG,
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
        marks=LONG,
        id="tracks",
    ),
    pytest.param(
        tuple(Part(seconds=seconds) for seconds in (2.3, 1.4, 0.4, 3.1, 0.8, 2.2, 0.2, 1.9, 2.6, 3.0)),
        marks=LONG,
        id="again-and-again",
    ),
    pytest.param(
        (*COMBINED, *reversed(COMBINED)),
        marks=LONG,
        id="there-and-back",
    ),
]


async def record(url: str, parts: Sequence[Part]) -> Published:
    """One recorder after the other on one socket."""
    async with open_publisher() as publisher:
        await publisher.start(url, **parts[0].options())
        for at, part in enumerate(parts):
            if at:
                await publisher.change(**part.options())
            if part.seconds > 1:
                await publisher.sending()
            await trio.sleep(part.seconds)
        return await publisher.stop()


@pytest.mark.usefixtures("no_processes_left")
@pytest.mark.parametrize("parts", CHANGES)
async def test_every_sink_goes_on(tmp_path: Path, rtmp_server: RtmpServer, parts: Sequence[Part]) -> None:
    """One RTMPS connection, one HLS without a discontinuity, no failure; each part is in every output."""
    with daemon(tmp_path / "live", all_sinks(rtmp_server)) as running:
        published = await record(running.publish_url, parts)
        status = await running.wait_ended()
    assert (published.close_code, published.errors) == (1000, [])
    assert_nothing_failed(running, status, rtmp_server)
    raw = recorded(running, status)
    # One that was stopped at once may have sent nothing.
    sending = [one for one in zip(parts, published.recorders, strict=True) if one[1].data]
    assert [path.read_bytes() for path in raw] == [recorder.data for _, recorder in sending]
    sent = [Sent.read(part, path) for (part, _), path in zip(sending, raw, strict=True)]
    control = await control_run(tmp_path / "control", published.chunks)
    assert_in_every_output(outputs(running, rtmp_server), sent, control)


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["cv-h264webm-restart.mkv", "cv-vp8-restart.webm", "cv-mp4avc-restart.mp4"])
async def test_every_sink_goes_on_after_a_restart(tmp_path: Path, rtmp_server: RtmpServer, name: str) -> None:
    """A page that was reloaded, as captured: the same holds for its second recorder."""
    chunks = capture(name).chunks()
    with daemon(tmp_path / "live", all_sinks(rtmp_server)) as running:
        await publish(running.publish_url, chunks)
        status = await running.wait_ended()
    assert_nothing_failed(running, status, rtmp_server)
    raw = recorded(running, status)
    assert [path.read_bytes() for path in raw] == capture(name).recorders()
    sent = [Sent.read(Part(size=(1280, 720)), path) for path in raw]
    control = await control_run(tmp_path / "control", chunks)
    assert_in_every_output(outputs(running, rtmp_server), sent, control)


def all_sinks(server: RtmpServer) -> str:
    return ALL_SINKS.format(url=server.rtmps_url, ca=server.ca_file)


def recorded(running: Daemon, status: dict[str, Any]) -> list[Path]:
    """The raw recording, a file a recorder."""
    return [running.recordings[0].with_name(name) for name in status["sinks"][0]["files"]]


def outputs(running: Daemon, server: RtmpServer) -> list[Path]:
    """What shows the program: MKV, MP4, HLS playlist, FLV."""
    program = [path for path in running.recordings if "-source-" not in path.name]
    return [*sorted(program, key=lambda path: path.suffix), running.playlist, *server.recordings("cam")]


def assert_nothing_failed(running: Daemon, status: dict[str, Any], server: RtmpServer) -> None:
    """Fail unless each sink ran once, RTMPS over one connection, HLS without a discontinuity."""
    assert (status["state"], status["cause"]) == ("ended", None)
    for child in (status["encoder"], *status["sinks"]):
        assert (child["state"], child["attempts"], child["restarts"]) == ("stopped", 1, 0), child
        assert child["last_error"] is None, child
    told = [event for event in running.events() if event["level"] in ("warning", "error")]
    # A busy machine draws fewer pictures, and is told so; that is no failure.
    assert [event for event in told if event["event"] != "source_warning"] == []
    server.wait_idle()
    assert server.connections() == 1
    playlist = running.playlist.read_text()
    assert "DISCONTINUITY" not in playlist
    assert playlist.endswith("#EXT-X-ENDLIST\n")


@frozen
class Sent:
    """What one recorder sent, decoded, and from when to when."""

    part: Part
    frames: list[VideoFrame]
    beeps: list[float]
    begin: float
    end: float

    @classmethod
    def read(cls, part: Part, path: Path) -> Sent:
        frames = read_frames(path) if part.video else []
        sound = read_sound(path) if part.audio else []
        begin = min([frame.pts for frame in frames[:1]] + [begin for begin, _ in sound])
        beeps = read_beeps(path, steady=True) if part.audio else []
        return cls(part, frames, beeps, begin, begin + duration(path))


def assert_in_every_output(paths: Sequence[Path], sent: Sequence[Sent], control: Path) -> None:
    """Fail unless each output shows, without an error, the *control* run's frames and what was *sent*."""
    expected = read_video(control)
    for output in paths:
        assert decode_errors(output) == [], output
        readings = {p: read_frames(output, picture=p) for p in {WHOLE, *(one.part.picture for one in sent)}}
        assert_same_frames([(frame.pts, frame.number) for frame in readings[WHOLE]], expected)
        parts = split(readings, sent)
        assert_shows(output, parts, sent)
    for one, shown in zip(sent, parts, strict=True):
        assert_padded(output, shown, one.part.picture)


def split(readings: dict[Picture, list[VideoFrame]], sent: Sequence[Sent]) -> list[list[VideoFrame]]:
    """The frames of an output part by part, read where the part has its picture; each belongs to one."""
    numbers = [{frame.number for frame in one.frames} for one in sent]
    parts: list[list[VideoFrame]] = [[] for _ in sent]
    at = 0
    for index, whole in enumerate(readings[WHOLE]):
        while at < len(sent):
            picture = sent[at].part.picture
            frame = readings[picture][index]
            black = whole.number == NO_NUMBER and whole.luma < BLACK
            # A number that the whole frame shows is no number of a smaller picture in it.
            inside = picture == WHOLE or whole.number == NO_NUMBER
            if (frame.number in numbers[at] and inside) if sent[at].part.video else black:
                parts[at].append(frame)
                break
            at += 1
        assert at < len(sent), f"neither black nor of what was sent, or not in order: {whole}"
    return parts


def assert_shows(output: Path, parts: Sequence[Sequence[VideoFrame]], sent: Sequence[Sent]) -> None:
    """Fail unless *output* has a picture in every slot, sound throughout, and each part as it was sent."""
    times = [frame.pts for part in parts for frame in part]
    assert times == pytest.approx([n / FPS for n in range(len(times))], abs=0.002), output
    beeps, begun = read_beeps(output), 0.0
    for one, shown in zip(sent, parts, strict=True):
        where = f"{output.suffix} from {shown[0].pts if shown else -1:.3f} s: {one.part}"
        seen = assert_pictures_in_time(one.frames, shown, where) if one.part.video else None
        late = begun - one.begin if seen is None else seen
        begun = late + one.end
        # What begins at a splice may be cut by it.
        due = [at + late for at in one.beeps if one.begin + 0.1 < at < one.end - 0.2]
        heard = [min(beeps, key=lambda at: abs(at - beep)) for beep in due]
        assert heard == pytest.approx(due, abs=0.15 if seen is None else 0.05), where
        assert np.diff(heard) == pytest.approx(np.diff(due), abs=0.05), where
        if one.part.audio:
            assert len(due) >= int(one.end - one.begin - 0.3), where
        if not one.part.video:
            assert len(shown) > (one.end - one.begin - 0.5) * FPS, where
        # Where the machine was too busy to draw, a flash may be missing.
        if one.part.video and len(due) > 1 and len(one.frames) > 25 * (one.end - one.begin):
            assert_in_sync(one, shown, heard, where)
        if not one.part.audio:
            assert not [at for at in beeps if shown[0].pts + 0.1 < at < shown[-1].pts - 0.1], where
    ((begin, end),) = read_sound(output)
    assert (begin, end) == pytest.approx((0.0, begun), abs=0.15), output


def assert_pictures_in_time(
    sent: Sequence[VideoFrame], shown: Sequence[VideoFrame], where: str
) -> float | None:
    """Fail unless *shown* has the pictures of *sent*, each at its time.

    Returns how much later that is; None if there are too few to tell.
    """
    numbers = [frame.number for frame in shown]
    assert numbers == sorted(numbers), where
    begun = {frame.number: frame.pts for frame in reversed(shown)}
    due = {frame.number: frame.pts for frame in reversed(sent)}
    # Two within one slot are one; the first may stand in for what was missing before it.
    assert len(begun) >= 0.5 * len(due) - 2, where
    late = [begun[number] - due[number] for number in sorted(begun)[1:]]
    if len(late) < 3:
        return None
    middle = float(np.median(late))
    assert late == pytest.approx([middle] * len(late), abs=1.2 / FPS), where
    return middle


def assert_in_sync(sent: Sent, shown: Sequence[VideoFrame], heard: Sequence[float], where: str) -> None:
    """Fail unless the sound is where it was sent, to its picture, within 50 ms."""
    # The first picture may stand in for seconds: what is usual is told by those that follow.
    flashes = flashes_of([frame for frame in shown if frame.number != shown[0].number])
    offset, source = offset_of(heard, flashes), offset_of(sent.beeps, flashes_of(sent.frames))
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
