"""The daemon's end: everything finished, everybody told, nothing left, and in time."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
import trio

from tests.daemon.tools import (
    ENCODE,
    HLS,
    MKV,
    MP4,
    RAW,
    SLICE,
    all_running,
    card,
    closed_with,
    connect,
    freeze,
    live,
    request,
    wait_event,
    wait_exit,
)
from tests.support.counting import (
    assert_same_frames,
    continuous,
    decode_errors,
    duration,
    header_duration,
    read_video,
)
from tests.support.daemon import Daemon, daemon
from tests.support.processes import descendants

SINKS = RAW + MKV + MP4 + HLS

pytestmark = pytest.mark.usefixtures("no_processes_left")


def check_finished(running: Daemon, media: bytes) -> None:
    """Every sink's output is whole: seekable MKV, playable MP4, ENDLIST, raw bytes as sent."""
    mkv, mp4, raw = sorted(running.recordings, key=lambda path: ("-source-" in path.name, path.suffix))
    assert [mkv.suffix, mp4.suffix] == [".mkv", ".mp4"]
    assert raw.read_bytes() == media[: raw.stat().st_size]
    frames = read_video(mkv)
    assert continuous(frames)
    assert_same_frames(read_video(mp4), frames)
    assert_same_frames(read_video(running.playlist), frames)
    assert running.playlist.read_text().rstrip().endswith("#EXT-X-ENDLIST")
    for output in (mkv, mp4, running.playlist):
        assert decode_errors(output) == []
    assert header_duration(mkv) == pytest.approx(duration(mkv), abs=0.05)
    assert b"\x1c\x53\xbb\x6b" in mkv.read_bytes()  # Cues: what players seek by
    assert not list((running.state_dir / "journal").rglob("*.*"))


@pytest.mark.parametrize(
    "numbers", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=["term", "int-twice"]
)
async def test_a_signal_ends_a_live_session_in_order(
    tmp_path: Path, ffmpeg: str, numbers: list[signal.Signals]
) -> None:
    """SIGTERM, or SIGINT twice, while live: the publisher is told 1001, all is finished, exit 0."""
    chunks = await card(ffmpeg, 20)
    with daemon(tmp_path, ENCODE + SINKS) as running:
        async with live(running, chunks) as publisher:
            await running.wait_until(all_running)
            await trio.sleep(1)
            for number in numbers:
                running.process.send_signal(number)
                await trio.sleep(0.05)
            assert await closed_with(publisher) == (1001, "the server is stopping")
            running.exit_code = await wait_exit(running.process, 20)
    assert running.exit_code == 0
    check_finished(running, b"".join(chunks))
    (ended,) = running.events("session_ended")
    assert ended["cause"] is None
    assert ended["chunks"] * SLICE > 1


async def test_readyz_says_503_and_nobody_is_admitted_while_draining(tmp_path: Path, ffmpeg: str) -> None:
    """Between the signal and the end the API goes on, /readyz says 503 and publishers are sent away."""
    config = '[supervisor]\nstop_timeout = "2s"\n'
    with daemon(tmp_path, ENCODE + MKV + HLS, config=config) as running:
        async with live(running, await card(ffmpeg, 8)):
            status = await running.wait_until(all_running)
            # A frozen writer keeps the session from ending at once.
            hls = next(sink["pid"] for sink in status["sinks"] if sink["name"] == "hls")
            freeze({hls: ""})
            running.process.send_signal(signal.SIGTERM)
            await wait_event(running, "daemon_stopping")
            assert request(running.control, "/readyz")[0] == 503
            assert request(running.control, "/healthz")[0] == 200
            assert running.status()["state"] in ("live", "ended")
            async with live(running, []) as late:
                code, _ = await closed_with(late)
            assert code == 1001
    assert running.exit_code == 0


async def test_a_publisher_that_never_stops_is_cut(tmp_path: Path, ffmpeg: str) -> None:
    """One that goes on sending and never answers the close frame does not hold up the end."""
    chunks = await card(ffmpeg, 4)
    with daemon(tmp_path, ENCODE + MKV) as running:
        host, _, port = running.ingest.rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(
            b"GET /stream/live/cam-key HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await stream.receive_some(65536)

        async def send_for_ever() -> None:
            try:
                for chunk in chunks:
                    await stream.send_all(frame(chunk))
                while True:
                    await stream.send_all(frame(b"\xec\x84" + bytes(4)))  # Void elements
            except trio.BrokenResourceError:
                return

        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(send_for_ever)
            await running.wait_until(all_running)
            running.process.send_signal(signal.SIGTERM)
            running.exit_code = await wait_exit(running.process, 15)
        assert running.exit_code == 0
    (mkv,) = running.recordings
    assert decode_errors(mkv) == []


def frame(data: bytes) -> bytes:
    """*data* as a client's binary message (RFC 6455, 5.2), with a mask of zeros."""
    assert len(data) < 2**16
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x82" + size + bytes(4) + data


async def test_frozen_children_do_not_outlive_the_deadline(tmp_path: Path, ffmpeg: str) -> None:
    """With every FFmpeg stopped (SIGSTOP) the end still comes in time; a restart finishes the recording."""
    config = '[shutdown]\ntimeout = "1s"\n'
    pipeline = ENCODE + MKV + HLS
    with daemon(tmp_path, pipeline, config=config) as running:
        async with live(running, await card(ffmpeg, 20)):
            await running.wait_until(all_running)
            await trio.sleep(2)
            freeze(descendants(running.process.pid))
            running.process.send_signal(signal.SIGTERM)
            running.exit_code = await wait_exit(running.process, 1 + 5 + 2)
    assert running.exit_code == 0
    assert running.events("session_end_overdue")
    (left,) = running.recordings
    assert left.suffix == ".part"
    with daemon(tmp_path, pipeline) as running:
        running.wait_event("recovery_finished")
    (mkv,) = running.recordings
    assert decode_errors(mkv) == []
    assert len(read_video(mkv)) > 30


async def test_http_clients_that_hang_do_not_hold_up_the_end(tmp_path: Path) -> None:
    """Half a request, an idle connection and a download that is not read: the daemon ends all the same."""
    with daemon(tmp_path, ENCODE + HLS) as running:
        hls = running.state_dir / "hls" / "cam"
        hls.mkdir(parents=True)
        (hls / "big-000000.ts").write_bytes(bytes(64 * 2**20))
        host, _, port = running.control.rpartition(":")
        half, idle, stuck = (socket.create_connection((host, int(port))) for _ in range(3))
        half.sendall(b"GET /healthz HTT")
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(b"GET /hls/cam/big-000000.ts HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.sleep(0.5)
        running.process.send_signal(signal.SIGTERM)
        running.exit_code = await wait_exit(running.process, 6)
        for client in (half, idle, stuck):
            client.close()
    assert running.exit_code == 0


async def test_publishers_that_have_not_begun_are_told(tmp_path: Path) -> None:
    """A publisher that has sent nothing yet is told 1001 like any other, and leaves nothing on disk."""
    with daemon(tmp_path, ENCODE + MKV) as running:
        async with connect(running) as publisher:
            await running.wait_until(lambda s: s["state"] == "connecting")
            running.process.send_signal(signal.SIGTERM)
            assert (await closed_with(publisher))[0] == 1001
        running.exit_code = await wait_exit(running.process, 10)
    assert running.exit_code == 0
    assert running.recordings == []
