"""Sessions as a publisher meets them: refusals, failures that are told, and many in a row."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest
import trio
from trio_websocket import ConnectionClosed

from tests.daemon.tools import (
    AT_ONCE,
    COPY,
    ENCODE,
    HLS,
    MKV,
    MP4,
    RAW,
    all_running,
    browser_chunks,
    closed_with,
    connect,
    live,
    request,
)
from tests.support.counting import decode_errors, read_video
from tests.support.daemon import CONFIG, Daemon, daemon, publish
from tests.support.processes import descendants

pytestmark = pytest.mark.usefixtures("no_processes_left")

JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000") + bytes(2000)
MP4_FILE = b"\0\0\0\x1cftypiso5\0\0\x02\0iso5iso6mp41" + b"\0\0\x02\x9emoov" + bytes(2000)
GARBAGE = random.Random(7).randbytes(20_000)


def files(running: Daemon) -> list[Path]:
    """Every file in the state directory, but the daemon's own: lock, database, lists of recordings."""
    state = running.state_dir
    own = {state / "lock", *state.glob("ingestd.db*"), *(state / "catalog").rglob("*")}
    return sorted(path for path in state.rglob("*") if path.is_file() and path not in own)


@pytest.mark.parametrize("media", [JPEG, MP4_FILE, GARBAGE], ids=["jpeg", "mp4", "garbage"])
async def test_what_is_no_recording_is_refused_with_the_reason_and_kept(tmp_path: Path, media: bytes) -> None:
    """4415 with the byte at fault, state failed with the same cause; the raw recording has what came."""
    with daemon(tmp_path, COPY + RAW + MKV) as running:
        async with connect(running) as publisher:
            await publisher.send_message(media)
            code, reason = await closed_with(publisher)
        status = await running.wait_ended()
    assert code == 4415
    assert reason.startswith("the media cannot be parsed: byte ")
    assert status["state"] == "failed"
    assert status["cause"].startswith(reason)  # a close frame has room for 123 bytes (RFC 6455, 5.5)
    assert (status["chunks"], status["bytes"]) == (1, len(media))
    (kept,) = running.recordings
    assert kept.read_bytes() == media
    left = [path.name for path in files(running) if path.parent.parent.parent.name == "journal"]
    assert left == ["session.json", "source-0001.media", "source.index"]


async def test_media_that_goes_bad_ends_the_session_with_what_was_good(tmp_path: Path) -> None:
    """Zeros in the middle: 4415, and what came before it is recorded."""
    chunks = browser_chunks()
    with daemon(tmp_path, COPY + AT_ONCE + MKV) as running:
        async with connect(running) as publisher:
            for chunk in [*chunks[:20], bytes(300_000)]:
                await publisher.send_message(chunk)
            code, reason = await closed_with(publisher)
        status = await running.wait_ended()
    assert code == 4415
    assert status["state"] == "failed"
    at = int(reason.partition("byte ")[2].partition(":")[0])
    good = sum(map(len, chunks[:20]))
    assert good - 16 < at < good + 200_000  # a browser's chunk ends inside an element, which zeros complete
    (mkv,) = running.recordings
    assert mkv.suffix == ".mkv"
    assert len(read_video(mkv)) > 60


async def test_a_publisher_without_media_leaves_nothing(tmp_path: Path) -> None:
    """One that comes and goes: the session ended, with a cause, and no file is left."""
    with daemon(tmp_path, ENCODE + RAW + MKV + MP4 + HLS) as running:
        for chunks in ([], [b"", b""], [browser_chunks()[0][:1]]):
            assert await publish(running.publish_url, chunks) == (1000, None)
            status = await running.wait_until(lambda s: s["state"] == "ended")
            assert status["cause"] == "the publisher sent no media"
            assert descendants(running.process.pid) == {}
            assert {path.stat().st_size for path in files(running)} <= {1}
            for path in files(running):
                path.unlink()
    assert not running.events("session_failed")


async def test_an_encoder_that_fails_for_good_ends_the_stream(tmp_path: Path, ffmpeg: str) -> None:
    """FFmpeg that can be probed but does not encode: 4500 with the cause after the last attempt."""
    script = tmp_path / "ffmpeg"
    script.write_text(
        f"""#!/bin/sh
case "$*" in *pipe:1*) echo "[error] Unknown encoder 'libx264'" >&2; exit 1;; esac
exec {ffmpeg} "$@"
"""
    )
    script.chmod(0o755)
    config = f'[ffmpeg]\npath = "{script}"\n[supervisor]\nbackoff = ["100ms", "100ms"]\n'
    with daemon(tmp_path / "run", ENCODE + RAW + MKV + HLS, config=config) as running:
        async with live(running, browser_chunks()) as publisher:
            code, reason = await closed_with(publisher)
        status = await running.wait_ended()
    assert code == 4500
    assert reason.startswith("the encoder failed: this FFmpeg lacks the encoder")
    assert (status["state"], status["cause"]) == ("failed", reason)
    assert (status["encoder"]["state"], status["encoder"]["attempts"]) == ("failed", 3)
    (raw,) = [path for path in files(running) if path.suffix == ".webm"]
    assert raw.read_bytes() == b"".join(browser_chunks())[: raw.stat().st_size]


async def test_a_second_publisher_is_refused_while_the_first_goes_on(tmp_path: Path) -> None:
    """4409 for the second; the first one's recording has all that it sent."""
    chunks = browser_chunks()
    with daemon(tmp_path, COPY + RAW) as running:
        async with live(running, chunks[:12]):
            await running.wait_until(all_running)
            async with connect(running) as second:
                assert await closed_with(second) == (4409, "this stream is already live")
            status = await running.wait_until(lambda s: s["chunks"] == 12)
            assert status["state"] == "live"
        await running.wait_ended()
    (raw,) = running.recordings
    assert raw.read_bytes() == b"".join(chunks[:12])


async def refusal(running: Daemon, chunks: list[bytes]) -> int | None:
    """The close code that a publisher is refused with within 0.2 s; None if it is not."""
    async with connect(running) as publisher:
        try:
            for chunk in chunks:
                await publisher.send_message(chunk)
        except ConnectionClosed as closed:
            return closed.reason.code
        with trio.move_on_after(0.2):
            return (await closed_with(publisher))[0]
    return None


async def test_a_publisher_returns_right_after_its_own_end(tmp_path: Path) -> None:
    """Asked again and again, the stream is free within 2 seconds of its publisher's end, to a new session."""
    chunks = browser_chunks()
    with daemon(tmp_path, ENCODE + MP4 + HLS) as running:
        async with live(running, chunks[:12]):
            first = await running.wait_until(lambda s: all_running(s) and s["chunks"] == 12)
        begin = trio.current_time()
        refusals = []
        while code := await refusal(running, chunks[:1]):
            refusals.append(code)
        waited = trio.current_time() - begin
        second = running.status()
        assert set(refusals) <= {4409}
        assert waited < 2.5, refusals
        assert second["session"] != first["session"]
        await running.wait_ended()


async def test_one_stream_more_than_allowed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4429 at the limit; when a stream ends there is room again."""
    extra = '[streams.{0}]\nkey = "{0}-key"\npipeline = "test"\n'
    config = extra.format("two") + extra.format("three")
    limited = CONFIG.replace("[ingest]\n", "[ingest]\nmax_streams = 2\n")
    monkeypatch.setattr("tests.support.daemon.CONFIG", limited)
    with daemon(tmp_path, COPY + RAW, config=config) as running:
        async with connect(running, "two-key"):
            async with connect(running, "cam-key"):
                await running.wait_until(lambda s: s["state"] == "connecting")
                async with connect(running, "three-key") as third:
                    assert (await closed_with(third))[0] == 4429
                assert request(running.control, "/v1/streams/three")[2].count(b'"idle"') == 1
            await running.wait_ended()
            async with connect(running, "three-key") as third:
                with trio.move_on_after(0.5) as patience:
                    await closed_with(third)
                assert patience.cancelled_caught


def descriptors(running: Daemon) -> Counter[str]:
    """What the daemon has open, by kind; files by name."""
    found = []
    for link in Path(f"/proc/{running.process.pid}/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    return Counter(kind.partition(":")[0] for kind in found)


def tasks(running: Daemon) -> int:
    """How many threads the daemon has."""
    return len(list(Path(f"/proc/{running.process.pid}/task").iterdir()))


async def test_many_short_sessions_leave_nothing_open(tmp_path: Path) -> None:
    """After 20 sessions there are as many descriptors, threads and processes as after the second."""
    chunks = browser_chunks()[:8]
    with daemon(tmp_path, ENCODE + RAW + MKV + HLS) as running:

        async def session() -> None:
            assert (await publish(running.publish_url, chunks))[0] == 1000
            status = await running.wait_ended()
            assert (status["state"], status["cause"]) == ("ended", None)
            await running.wait_until(
                lambda _: request(running.control, "/healthz")[2].count(b'"live":0') == 1
            )

        for _ in range(2):
            await session()
        before = descriptors(running)
        threads = tasks(running)
        for _ in range(18):
            await session()
        deadline = time.monotonic() + 5
        while (more := descriptors(running) - before) and time.monotonic() < deadline:  # noqa: ASYNC110
            await trio.sleep(0.1)
        assert not more
        assert descendants(running.process.pid) == {}
        assert tasks(running) <= threads + 2
        assert not [path for path in files(running) if path.suffix == ".index"]
    recordings = [path for path in running.recordings if path.suffix == ".mkv"]
    assert len(recordings) == 20
    for mkv in recordings[::7]:
        assert decode_errors(mkv) == []
