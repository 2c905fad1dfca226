"""The control listener: what its paths answer, before, during and after a session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from tests.daemon.tools import COPY, ENCODE, HLS, MKV, RAW, all_running, card, live, request
from tests.support.daemon import Daemon, daemon

STREAM = {"name", "state", "since", "pipeline", "publisher", "viewers", "chunks", "bytes", "encoder", "sinks"}
HEALTH = {"state", "since", "attempts", "pid", "last_error"}
SINK = HEALTH | {"name", "type", "sent_frames", "dropped_frames"}

pytestmark = pytest.mark.usefixtures("no_processes_left")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon without a session, with files of an HLS stream."""
    with daemon(tmp_path_factory.mktemp("daemon"), COPY + HLS) as made:
        hls = made.state_dir / "hls" / "cam"
        hls.mkdir(parents=True)
        (hls / "index.m3u8").write_text("#EXTM3U\n")
        (hls / "s-000000.ts").write_bytes(bytes(range(256)) * 4)
        (hls / "s-init.mp4").write_bytes(b"mp4")
        (hls / "s-000000.m4s").write_bytes(b"m4s")
        (hls / "notes.txt").write_text("not for everybody")
        (hls / ".hidden.ts").write_text("nor this")
        (hls / "folder.ts").mkdir()
        (hls / "deep").mkdir()
        (hls / "deep" / "s-000000.ts").write_text("nor this")
        (made.state_dir / "hls" / "outside.ts").write_text("nor this")
        (made.state_dir / "hls" / "gone").mkdir()
        (made.state_dir / "hls" / "gone" / "s-000000.ts").write_text("of no stream that is declared")
        yield made


def problem(headers: Message, body: bytes) -> dict[str, object]:
    """The body of an error, which must be RFC 9457's."""
    assert headers["Content-Type"] == "application/problem+json"
    found: dict[str, object] = json.loads(body)
    assert set(found) == {"type", "title", "status", "detail"}
    return found


def test_health_and_readiness(running: Daemon) -> None:
    """/healthz and /readyz answer 200 with JSON, for GET and HEAD."""
    status, headers, body = request(running.control, "/healthz")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body).items() >= {"status": "ok", "live": 0}.items()
    assert json.loads(request(running.control, "/readyz")[2]) == {"status": "ready"}
    assert request(running.control, "/readyz", "HEAD")[::2] == (200, b"")
    assert headers["Server"] is None


def test_an_unknown_path_and_a_wrong_method_are_problems(running: Daemon) -> None:
    """Errors are problem+json whatever the path; 405 says what is allowed."""
    status, headers, body = request(running.control, "/nothing/here")
    assert (status, problem(headers, body)["status"]) == (404, 404)
    status, headers, body = request(running.control, "/v1/streams", "PUT")
    assert (status, problem(headers, body)["title"]) == (405, "Method Not Allowed")
    assert "GET" in headers["Allow"]


@pytest.mark.parametrize(
    "name", ["nobody", "Cam", "..", "%2e%2e", "%00", "cam%2f", "cam%20", "%ff", "x" * 5000]
)
def test_an_unknown_stream_is_404(running: Daemon, name: str) -> None:
    """Any name that is not declared is 404 with a problem, never an error of ours."""
    status, headers, body = request(running.control, f"/v1/streams/{name}")
    assert (status, problem(headers, body)["status"]) == (404, 404)


async def test_the_shape_of_a_streams_status(tmp_path: Path, ffmpeg: str) -> None:
    """The contract's keys are there before, during and after a session, with the values of the moment."""
    with daemon(tmp_path, ENCODE + RAW + MKV + HLS) as running:
        before = running.status()
        async with live(running, await card(ffmpeg, 4)):
            during = await running.wait_until(lambda s: all_running(s) and s["chunks"] > 8)
        after = await running.wait_ended()
        listed = json.loads(request(running.control, "/v1/streams")[2])
        headers = request(running.control, "/v1/streams")[1]
    for status in (before, during, after):
        assert set(status) >= STREAM
        assert (status["name"], status["pipeline"], status["viewers"]) == ("cam", "test", 0)
    assert listed == {"streams": [after], "complete": True}
    assert headers["Cache-Control"] == "no-store"
    assert (before["state"], before["since"], before["publisher"], before["sinks"]) == (
        "idle",
        None,
        None,
        [],
    )
    assert (during["state"], after["state"]) == ("live", "ended")
    assert during["publisher"]["remote"].startswith("127.0.0.1:")
    assert after["publisher"] is None
    assert after["chunks"] >= during["chunks"]
    assert after["bytes"] > 0
    assert [t["codec"] for t in during["source"]["tracks"]] == ["vp8", "opus"]
    for status in (during, after):
        assert [(s["name"], s["type"]) for s in status["sinks"]] == [
            ("raw", "file"),
            ("mkv", "file"),
            ("hls", "hls"),
        ]
        for sink in status["sinks"]:
            assert set(sink) >= SINK
            assert sink["since"].endswith("Z")
        assert set(status["encoder"]) >= HEALTH | {"fps", "speed"}
    by_name = {sink["name"]: sink for sink in during["sinks"]}
    assert isinstance(by_name["hls"]["pid"], int)
    assert by_name["raw"]["pid"] is None
    assert isinstance(during["encoder"]["pid"], int)
    assert {(s["state"], s["pid"], s["attempts"], s["last_error"]) for s in after["sinks"]} == {
        ("stopped", None, 1, None)
    }
    counts = {sink["name"]: sink["sent_frames"] for sink in after["sinks"]}
    assert counts["mkv"] == counts["hls"] > 100
    assert all(sink["dropped_frames"] == 0 for sink in after["sinks"])


# HLS


@pytest.mark.parametrize(
    ("name", "kind", "caching"),
    [
        ("index.m3u8", "application/vnd.apple.mpegurl", "no-cache"),
        ("s-000000.ts", "video/mp2t", "public, max-age=3600, immutable"),
        ("s-000000.m4s", "video/iso.segment", "public, max-age=3600, immutable"),
        ("s-init.mp4", "video/mp4", "public, max-age=3600, immutable"),
    ],
)
def test_what_hls_files_are_served_as(running: Daemon, name: str, kind: str, caching: str) -> None:
    """Content type, caching, CORS and length of playlists and segments; HEAD says the same without a body."""
    status, headers, body = request(running.control, f"/hls/cam/{name}")
    assert status == 200
    assert body == (running.state_dir / "hls" / "cam" / name).read_bytes()
    wanted = {
        "Content-Type": kind,
        "Cache-Control": caching,
        "Access-Control-Allow-Origin": "*",
        "Content-Length": str(len(body)),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }
    assert {key: headers[key] for key in wanted} == wanted
    status, head, nothing = request(running.control, f"/hls/cam/{name}", "HEAD")
    assert (status, nothing) == (200, b"")
    assert {key: head[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("0-0", 0, 1),
        ("100-199", 100, 200),
        ("1000-", 1000, 1024),
        ("-24", 1000, 1024),
        ("1000-9999", 1000, 1024),
    ],
)
def test_a_range_is_206(running: Daemon, asked: str, begin: int, end: int) -> None:
    """A part of a segment comes as 206 with its place in the whole (RFC 9110, 14)."""
    status, headers, body = request(
        running.control, "/hls/cam/s-000000.ts", headers={"Range": f"bytes={asked}"}
    )
    assert status == 206
    assert headers["Content-Range"] == f"bytes {begin}-{end - 1}/1024"
    assert headers["Content-Length"] == str(end - begin)
    assert body == (bytes(range(256)) * 4)[begin:end]


@pytest.mark.parametrize("asked", ["1024-", "5000-6000"])
def test_a_range_behind_the_end_is_416(running: Daemon, asked: str) -> None:
    """A range that holds nothing of the file is refused, with the file's length."""
    status, headers, body = request(
        running.control, "/hls/cam/s-000000.ts", headers={"Range": f"bytes={asked}"}
    )
    assert (status, headers["Content-Range"]) == (416, "bytes */1024")
    assert problem(headers, body)["status"] == 416


@pytest.mark.parametrize("asked", ["bytes=9-3", "bytes=x", "lines=1-2", "bytes=0-1,5-6"])
def test_a_range_that_is_none_is_ignored_or_refused(running: Daemon, asked: str) -> None:
    """What is no single byte range gives the whole file or 416, never an error of ours."""
    status, _, _ = request(running.control, "/hls/cam/s-000000.ts", headers={"Range": asked})
    assert status in (200, 416)


def test_a_range_of_another_version_is_not_cut(running: Daemon) -> None:
    """If-Range with another tag gives the whole file, with the same tag the part (RFC 9110, 13.1.5)."""
    path = "/hls/cam/s-000000.ts"
    tag = request(running.control, path)[1]["ETag"]
    asked = {"Range": "bytes=0-9", "If-Range": tag}
    assert request(running.control, path, headers=asked)[0] == 206
    assert request(running.control, path, headers={**asked, "If-Range": '"other"'})[0] == 200


@pytest.mark.parametrize("name", ["index.m3u8", "s-000000.ts"])
def test_what_the_client_has_already_is_304(running: Daemon, name: str) -> None:
    """A file that has not changed is not sent again."""
    tag = request(running.control, f"/hls/cam/{name}")[1]["ETag"]
    status, headers, body = request(running.control, f"/hls/cam/{name}", headers={"If-None-Match": tag})
    assert (status, body, headers["ETag"]) == (304, b"", tag)


@pytest.mark.parametrize(
    "path",
    [
        "cam/notes.txt",
        "cam/.hidden.ts",
        "cam/folder.ts",
        "cam/folder.ts/",
        "cam/deep/s-000000.ts",
        "cam/deep%2fs-000000.ts",
        "cam/../outside.ts",
        "cam/..%2foutside.ts",
        "cam/%2e%2e/outside.ts",
        "cam/%2e%2e%2foutside.ts",
        "cam/..%5coutside.ts",
        "cam/%252e%252e%252foutside.ts",
        "..%2foutside.ts",
        "../hls/outside.ts",
        "gone/s-000000.ts",
        "%2e/outside.ts",
        "./outside.ts",
        "outside.ts",
        "nobody/index.m3u8",
        "cam/missing.ts",
        "cam/s-000000.ts%00",
        "cam/s-000000.ts%0a",
        "cam/%ff.ts",
        "cam/",
        "cam",
        "",
        "//etc/passwd",
        "cam//etc/passwd",
        "cam/" + "x" * 5000 + ".ts",
    ],
)
def test_nothing_else_is_served(running: Daemon, path: str) -> None:
    """Other files, other folders, and every spelling of a way out: 404."""
    status, headers, body = request(running.control, f"/hls/{path}")
    assert status == 404
    assert problem(headers, body)["status"] == 404


async def test_a_live_playlist_and_its_segments_are_served(tmp_path: Path, ffmpeg: str) -> None:
    """What the playlist lists while the stream is live can be had, byte for byte what is on disk."""
    with daemon(tmp_path, ENCODE + HLS) as running:
        async with live(running, await card(ffmpeg, 8)):
            await running.wait_until(lambda s: bool(s["sinks"]) and s["sinks"][0]["last_segment"])
            playlist = request(running.control, "/hls/cam/index.m3u8")[2].decode()
            assert "#EXT-X-ENDLIST" not in playlist
            segments = [line for line in playlist.splitlines() if line and not line.startswith("#")]
            assert segments
            for name in segments:
                status, headers, body = request(running.control, f"/hls/cam/{name}")
                assert (status, headers["Content-Type"]) == (200, "video/mp2t")
                assert body == (running.playlist.parent / name).read_bytes()
