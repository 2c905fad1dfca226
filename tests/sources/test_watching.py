"""A viewer's connection to a real daemon: handshakes, refusals, close codes, pings, limits, links."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from ingestd.auth.playback import Playback
from tests.control.tools import acall, call, eventually, make
from tests.daemon.tools import COPY, live
from tests.sources.receiving import BINARY, CLOSE, PING, PONG, TEXT, Client, frame
from tests.support.captures import capture
from tests.support.daemon import Daemon, connect, daemon
from tests.support.packages import program
from tests.support.viewer import connected, watching

PIPELINE = COPY + '[publisher]\nreconnect_window = "0s"\n'
HLS = '[[sinks]]\ntype = "hls"\n'
LIMITS = '[viewers]\nmax = 4\nmax_per_stream = 3\npatience = "4s"\n'
SECRET = "p" * 40
NONCE, GUID = "dGhlIHNhbXBsZSBub25jZQ==", "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("daemon"), PIPELINE, config=LIMITS) as made:
        yield made


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose streams need a link."""
    directory = tmp_path_factory.mktemp("signed")
    (directory / "playback").write_text(SECRET)
    auth = '[auth]\nplayback = "signed"\nplayback_key_file = "playback"\nfailures = "4/1h"\n'
    with daemon(directory, PIPELINE + HLS, config=auth + LIMITS) as made:
        yield made


@asynccontextmanager
async def upgraded(
    running: Daemon, path: str = "/stream/watch/cam", **headers: str | None
) -> AsyncIterator[Client]:
    """A viewer that does and answers nothing by itself."""
    client = await connected(running.ingest)
    async with client.stream:
        assert await client.upgrade(path, **{"Host": running.ingest, **headers}) == 101
        yield client


@asynccontextmanager
async def plain(running: Daemon, path: str, method: str = "GET", host: str = "") -> AsyncIterator[Client]:
    """A plain request; the answer is still to be read."""
    client = await connected(running.ingest)
    async with client.stream:
        await client.send(f"{method} {path} HTTP/1.1\r\nHost: {host or running.ingest}\r\n\r\n".encode())
        yield client


async def test_a_handshake_is_answered_as_the_rfc_has_it(running: Daemon) -> None:
    """The subprotocol is chosen if it is offered, among others, too; no extension ever is."""
    accept = base64.b64encode(hashlib.sha1(f"{NONCE}{GUID}".encode()).digest())  # noqa: S324  as the RFC has it
    for offered, chosen in ((None, None), ("other, ingestd.watch.v1", b"ingestd.watch.v1"), ("other", None)):
        async with upgraded(
            running, Sec_WebSocket_Protocol=offered, Sec_WebSocket_Extensions="permessage-deflate"
        ) as client:
            assert b"Sec-WebSocket-Accept: " + accept in client.head
            found = re.search(rb"Sec-WebSocket-Protocol: (.*)", client.head)
            assert (found[1].strip() if found else None) == chosen
            assert b"extensions" not in client.head.lower()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Connection": "close"}, 426),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Host": "evil.example"}, 403),
    ],
)
async def test_a_wrong_handshake_is_refused(
    changes: dict[str, str | None], status: int, running: Daemon
) -> None:
    client = await connected(running.ingest)
    async with client.stream:
        assert await client.upgrade("/stream/watch/cam", **{"Host": running.ingest, **changes}) == status


async def test_any_page_may_watch_but_by_no_name_of_its_own(running: Daemon) -> None:
    """As with HLS: what everybody may see, every page may show; a listener on loopback has loopback names."""
    async with upgraded(running, Origin="https://elsewhere.example"):
        pass
    async with plain(running, "/stream/watch/cam", host="rebound.example:8081") as refused:
        assert await refused.status() == 403


async def test_pings_are_answered_and_a_close_too(running: Daemon) -> None:
    """The last of several pings, at least; and text is ignored."""
    async with upgraded(running) as client:
        await client.send(frame(TEXT, b'{"type": "hello"}') + frame(PING, b"are you there?"))
        while (received := await client.frame()) is not None and received[0] != PONG:
            pass
        assert received == (PONG, b"are you there?")
        await client.send(frame(CLOSE, (1000).to_bytes(2)))
        assert (await client.close_code(reply=False))[0] == 1000
        assert await client.end() == "closed"
    (left,) = await eventually(
        lambda: [event for event in running.events("viewer_left") if event["by"] == "viewer"]
    )
    assert (left["code"], left["kind"], left["skipped"]) == (1000, "websocket", 0)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(BINARY, b"x"), 1003),
        (frame(TEXT, b"x" * 4097), 1009),
        (frame(TEXT, b"x", mask=False), 1002),
        (b"\xff\xff", 1002),
    ],
    ids=["binary", "long", "unmasked", "garbage"],
)
async def test_what_is_not_taken_closes(sent: bytes, code: int, running: Daemon) -> None:
    """A text message of just that length does not."""
    async with upgraded(running) as client:
        await client.send(frame(TEXT, b"x" * 4096) + sent)
        assert (await client.close_code())[0] == code


async def test_limits_hold_at_their_edges(running: Daemon) -> None:
    """`viewers.max_per_stream`, and `viewers.max` of all streams: one more is told to come later."""
    make(running, name="second")
    async with (
        watching(running.ingest) as first,
        watching(running.ingest),
        watching(running.ingest),
        watching(running.ingest) as refused,
    ):
        assert await refused.until_closed() == (1013, "too many viewers")
        async with plain(running, "/stream/watch/cam") as client:
            assert await client.status() == 503
            assert b"Retry-After: " in client.head
        async with (
            watching(running.ingest, "second") as another,
            watching(running.ingest, "second") as beyond,
        ):
            assert await beyond.until_closed() == (1013, "too many viewers")
            assert not first.ended
            assert not another.ended
    async with watching(running.ingest) as again:
        await again.until_told("waiting")
    await acall(running, "DELETE", "/v1/streams/second")


async def test_a_stream_that_goes_takes_its_viewers_along(running: Daemon) -> None:
    """Disabled 4423, deleted 4404; one that never was likewise, and over HTTP as a status."""
    make(running, name="gone")
    async with watching(running.ingest, "gone") as watcher:
        await watcher.until_told("waiting")
        await acall(running, "POST", "/v1/streams/gone/disable")
        assert await watcher.until_closed() == (4423, "this stream is disabled")
    async with watching(running.ingest, "gone") as watcher:
        assert await watcher.until_closed() == (4423, "this stream is disabled")
    await acall(running, "POST", "/v1/streams/gone/enable")
    async with watching(running.ingest, "gone") as watcher:
        await watcher.until_told("waiting")
        await acall(running, "DELETE", "/v1/streams/gone")
        assert await watcher.until_closed() == (4404, "the stream was deleted")
    async with watching(running.ingest, "gone") as watcher:
        assert await watcher.until_closed() == (4404, "there is no such stream")
    for path, status in (("gone", 404), ("cam", 503), ("Not-a-name", 404)):
        async with plain(running, f"/stream/watch/{path}") as client:
            assert await client.status() == status
            assert (b"Retry-After: " in client.head) == (status == 503)
    async with plain(running, "/stream/watch/cam", "POST") as posted:
        assert await posted.status() == 405


async def test_viewers_of_a_live_stream_that_is_deleted_see_its_end_first(running: Daemon) -> None:
    key = make(running, name="brief")["key"]
    async with watching(running.ingest, "brief") as watcher:
        async with live(running, capture("cv-vp8-250.webm").chunks(), key=key):
            await watcher.until_told("init")
            await acall(running, "DELETE", "/v1/streams/brief")
            assert await watcher.until_closed() == (4404, "the stream was deleted")
        assert watcher.told[-1]["type"] == "ended"


async def test_what_no_browser_plays_is_said(running: Daemon, ffmpeg: str) -> None:
    """With the codec's name; over HTTP as 406."""
    argv = [
        ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=10:d=2", "-c:v", "mpeg2video", "-f",
        "matroska", "-live", "1", "-",
    ]  # fmt: skip
    data = (await trio.run_process(argv, capture_stdout=True)).stdout
    async with (
        watching(running.ingest) as watcher,
        plain(running, "/stream/watch/cam") as client,
        connect(running.publish_url) as socket,
    ):
        await socket.send_message(data)
        code, reason = await watcher.until_closed() or (0, "")
        assert code == 4415
        assert "mpeg2video" in reason
        assert await client.status() == 406
    await running.wait_ended()


async def test_a_link_is_needed_where_links_are_signed(signed: Daemon) -> None:
    """A good one opens its stream and no other; wrong ones are counted by address, and are in no log."""
    token = Playback(SECRET).sign("cam", time.time() + 600)
    stale = Playback(SECRET).sign("cam", time.time() - 1)
    other = Playback(SECRET).sign("other", time.time() + 600)
    async with watching(signed.ingest, query=f"?token={token}") as watcher:
        await watcher.until_told("waiting")
    for query in ("", f"?token={stale}", f"?token={other}", "?token=guess"):
        async with watching(signed.ingest, query=query) as watcher:
            code, _ = await watcher.until_closed() or (0, "")
            assert code == 4401
    async with plain(signed, f"/stream/watch/cam?token={stale}") as client:
        assert await client.status() == 403
    async with watching(signed.ingest, query=f"?token={token}") as watcher:
        code, reason = await watcher.until_closed() or (0, "")
        assert code == 4429
        assert "too many wrong tokens" in reason
    async with plain(signed, f"/stream/watch/cam?token={token}") as client:
        assert await client.status() == 429
    text = signed.log.read_text()
    assert not any(secret in text for secret in (token, stale, other, "guess"))


async def test_playback_tells_where(signed: Daemon, running: Daemon) -> None:
    """With the token of the request in each URL; any page may read it."""
    token = Playback(SECRET).sign("cam", time.time() + 600)
    refused = await acall(signed, "GET", "/v1/playback/cam")
    assert refused.status == 403
    answer = await acall(signed, "GET", f"/v1/playback/cam?token={token}")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    base, query = f"{signed.ingest}/stream/watch/cam", f"?token={token}"
    assert answer.json == {
        "stream": "cam", "title": "", "state": "idle", "since": None, "viewers": 0, "poster": None,
        "live_since": None,
        "watch": f"ws://{base}{query}", "media": f"http://{base}{query}",
        "hls": f"http://{signed.control}/hls/cam/index.m3u8{query}",
        "page": f"http://{signed.control}/watch/cam{query}",
    }  # fmt: skip
    assert (await acall(running, "GET", "/v1/playback/nobody")).status == 404
    async with live(running, capture("cv-vp8-250.webm").chunks()):
        await running.wait_until(lambda status: status["state"] == "live")
        told = (await acall(running, "GET", "/v1/playback/cam", Origin="https://elsewhere.example")).json
        assert (told["state"], told["hls"]) == ("live", None)
        assert abs(told["live_since"] - time.time()) < 60
        assert told["poster"] == f"http://{running.control}/v1/streams/cam/thumbnail.jpg"
        await acall(running, "POST", "/v1/streams/cam/stop")
    await running.wait_ended()


async def test_a_dead_viewer_is_dropped(tmp_path: Path) -> None:
    """One that answers pings stays; one that does not, or takes nothing, goes and is said to be half-open."""
    pings = 'bind = "127.0.0.1:0"\nping_interval = "500ms"\nping_timeout = "3s"'
    with daemon(tmp_path, PIPELINE, ingest=pings) as running:
        async with upgraded(running) as dead, watching(running.ingest) as alive:
            assert await dead.end() == "reset"
            await trio.sleep(1.0)
            assert not alive.ended
            (left,) = running.events("viewer_left")
            assert (left["by"], left["code"]) == ("network", 4410)


async def test_the_end_of_the_daemon_is_told(tmp_path: Path) -> None:
    """1001; a plain body just ends. No viewer holds it up, not even one that reads nothing."""
    with daemon(tmp_path, PIPELINE) as running:
        async with (
            upgraded(running),
            watching(running.ingest) as watcher,
            plain(running, "/stream/watch/cam") as client,
        ):
            async with live(running, capture("cv-vp8-250.webm").chunks()):
                await watcher.until_told("init")
                assert await client.status() == 200
                assert await trio.to_thread.run_sync(running.stop) == 0
            assert (await watcher.until_closed()) == (1001, "the server is stopping")
            assert await client.end() == "closed"
        assert running.events("connection_failed") == []


async def test_many_refusals_leave_nothing_behind(running: Daemon) -> None:
    """Who is refused, or gone at once, is no viewer."""
    for _ in range(20):
        async with upgraded(running) as client:
            client.reset()
    for _ in range(5):
        async with watching(running.ingest, "nobody") as watcher:
            await watcher.until_closed()
    await eventually(lambda: call(running, "GET", "/v1/streams/cam").json["viewers"] == 0)
    assert "ingestd_viewers 0.0" in call(running, "GET", "/metrics").body.decode()


def test_ffmpeg_reads_the_body(running: Daemon, tmp_path: Path) -> None:
    """Of a stream that is not live yet; it does not have to be told what it is."""
    url = f"http://{running.ingest}/stream/watch/cam"
    reader = subprocess.Popen(
        [
            program("ffmpeg"), "-v", "error", "-i", url, "-map", "0:v", "-frames:v", "20", "-f", "framemd5",
            "-",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    async def publish() -> None:
        async with live(running, capture("cv-vp8-250.webm").chunks()):
            with trio.move_on_after(15):
                while reader.poll() is None:  # noqa: ASYNC110  a process of another library
                    await trio.sleep(0.05)

    try:
        trio.run(publish)
        out, errors = reader.communicate(timeout=10)
    finally:
        reader.kill()
    assert len([line for line in out.splitlines() if not line.startswith("#")]) == 20, errors
