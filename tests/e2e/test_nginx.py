"""``config/nginx.conf`` with the real nginx: publish, watch, and fetch HLS from the disk, all through it."""

from __future__ import annotations

import getpass
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from tests.control.tools import Answer, acall, call
from tests.daemon.tools import ENCODE
from tests.support.captures import capture
from tests.support.daemon import Daemon, daemon, publish
from tests.support.packages import program
from tests.support.processes import free_port, wait_listening
from tests.support.viewer import connected, decoded, watching

CONF = Path(__file__).parents[2] / "config" / "nginx.conf"
PIPELINE = (
    ENCODE
    + """
[publisher]
reconnect_window = "{window}"
[[sinks]]
type = "hls"
name = "hls"
container = "{container}"
window = 0
"""
)
VP8 = "cv-vp8-250.webm"
SHARED = ("Content-Type", "Cache-Control", "Access-Control-Allow-Origin", "X-Content-Type-Options")


def written(folder: Path, port: int, ingest: str, control: str, hls: Path) -> Path:
    """The file with other paths, ports and another user; nothing else is another."""
    text = CONF.read_text("utf-8")
    for found, ours in (
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("127.0.0.1:8081", ingest),
        ("127.0.0.1:8080", control),
        ("/var/lib/ingestd/hls", str(hls)),
        ("/var/log/nginx", str(folder)),
        ("/run/nginx.pid", str(folder / "nginx.pid")),
        ("user www-data;", f"user {getpass.getuser()};"),
    ):
        assert found in text, found
        text = text.replace(found, ours)
    # Debian's are below /var/lib, where only root may write.
    paths = "".join(
        f"{each}_temp_path {folder}/{each};\n"
        for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(text.replace("http {\n", f"http {{\n{paths}", 1))
    return path


@contextmanager
def nginx(path: Path, port: int) -> Iterator[None]:
    argv = [program("nginx"), "-c", str(path), "-e", str(path.parent / "error.log")]
    tested = subprocess.run([*argv, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "[warn]" not in tested.stderr.replace('the "user" directive makes sense only', "")
    server = subprocess.Popen([*argv, "-g", "daemon off;"], stdin=subprocess.DEVNULL)
    try:
        wait_listening(port)
        yield
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def behind(folder: Path, container: str = "ts", window: str = "0s") -> Iterator[tuple[Daemon, str]]:
    """A daemon behind nginx; the address at which browsers find both."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    trusted = 'trusted_proxies = ["127.0.0.1"]'
    with daemon(
        folder, PIPELINE.format(container=container, window=window),
        ingest=f'bind = "127.0.0.1:0"\n{trusted}',
        control=f'public_url = "http://{address}"\n{trusted}\n',
    ) as running:  # fmt: skip
        (folder / "nginx").mkdir()
        hls = running.state_dir / "hls"
        with nginx(written(folder / "nginx", port, running.ingest, running.control, hls), port):
            yield running, address


async def test_all_of_it_goes_through_nginx(tmp_path: Path) -> None:
    """At the addresses that /v1/playback tells: the WebSocket, the body and the playlist."""
    with behind(tmp_path) as (running, address):
        await goes_through(tmp_path, running, address)
        logs = "".join(path.read_text() for path in (tmp_path / "nginx").glob("*.log"))
        assert "cam-key" not in logs


async def goes_through(tmp_path: Path, running: Daemon, address: str) -> None:
    """Publish, watch and make a stream at *address*, a proxy before *running*."""
    chunks, times = capture(VP8).chunks(), capture(VP8).times()
    whole, _ = decoded(tmp_path / "sent", b"".join(chunks))
    told = (await acall(address, "GET", "/v1/playback/cam")).json
    assert {urlsplit(told[each]).netloc for each in ("watch", "media", "hls", "page")} == {address}
    body = await connected(address, source="127.0.0.2")
    async with body.stream, watching(urlsplit(told["watch"]).netloc) as watcher:
        await watcher.until_told("waiting")
        path = urlsplit(told["media"]).path
        await body.send(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
        code, _ = await publish(f"ws://{address}/stream/live/cam-key", chunks, at=[t / 4 for t in times])
        assert code == 1000
        assert await body.status() == 200
        await watcher.until_told("ended")
        assert await body.end() == "closed"
    assert decoded(tmp_path / "watched", watcher.parts[0].data) == (whole, "")
    assert decoded(tmp_path / "body", bytes(body._buffer)) == (whole, "")
    assert "127.0.0.2" in {event["remote"] for event in running.events("viewer_joined")}
    # Also a viewer that is gone is gone here.
    await running.wait_until(lambda status: status["viewers"] == 0)
    # /stream/create is the API's, not the ingest listener's.
    made = await acall(address, "POST", "/stream/create", {"pipeline": "test"})
    assert made.status == 200, made.body
    assert json.loads(made.body)["ingestUrl"].startswith(f"ws://{address}/stream/live/")
    assert (await acall(address, "GET", "/healthz")).status == 200


@pytest.mark.parametrize("container", ["ts", pytest.param("fmp4", marks=pytest.mark.full)])
async def test_hls_from_the_disk_is_as_the_daemon_serves_it(container: str, tmp_path: Path) -> None:
    """Types, CORS, caching, HEAD, ranges, ETags and preflights; also when the daemon has gone."""
    with behind(tmp_path, container) as (running, address):
        await publish(running.publish_url, capture(VP8).chunks())
        await running.wait_ended()
        playlist = (await acall(running, "GET", "/hls/cam/index.m3u8")).body.decode()
        segment = re.findall(r"^[^#\n]+$", playlist, re.MULTILINE)[0]
        names = ["index.m3u8", segment, *re.findall(r'MAP:URI="([^"]+)"', playlist)]
        assert len(names) == (3 if container == "fmp4" else 2)
        theirs = {name: call(running, "GET", f"/hls/cam/{name}") for name in names}
        await trio.to_thread.run_sync(running.stop)
        for name, expected in theirs.items():
            await _same(address, f"/hls/cam/{name}", expected)
        for path in ("/hls/cam/other.ts", "/hls/cam/../../ingestd.db", "/hls/nobody/index.m3u8"):
            assert (await acall(address, "GET", path)).status in (400, 404, 502)
        lost = await acall(address, "GET", "/hls/cam/other.ts")
        assert (lost.status, lost.headers["Cache-Control"]) == (404, None)
        assert lost.headers["Access-Control-Allow-Origin"] == "*"


async def _same(address: str, path: str, expected: Answer) -> None:
    found = await acall(address, "GET", path, Origin="https://elsewhere.example")
    assert (found.status, found.body) == (200, expected.body)
    assert {name: found.headers[name] for name in SHARED} == {name: expected.headers[name] for name in SHARED}
    exposed = {name.strip() for name in found.headers["Access-Control-Expose-Headers"].split(",")}
    assert exposed == {name.strip() for name in expected.headers["Access-Control-Expose-Headers"].split(",")}
    head = await acall(address, "HEAD", path)
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(expected.body)))
    part = await acall(address, "GET", path, Range="bytes=2-5")
    assert (part.status, part.body) == (206, expected.body[2:6])
    again = await acall(address, "GET", path, If_None_Match=found.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    asked = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "range"}
    preflight = await acall(address, "OPTIONS", path, Origin="https://elsewhere.example", **asked)
    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert "Range" in preflight.headers["Access-Control-Allow-Headers"]
