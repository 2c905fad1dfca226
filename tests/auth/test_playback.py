"""Signed links: what they open, for whom and until when; and that real players can follow them."""

from __future__ import annotations

import subprocess
import time
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ingestd.auth.playback import Playback, with_token
from tests.auth.serving import TOKENS, Answer, Listener, give, http_server, listener
from tests.support.browser import open_chromium

KEY = "k" * 40
SIGNED = TOKENS + 'playback = "signed"\nplayback_key_file = "playback"\n'
LATER = time.time() + 3600
HERE = "192.0.2.1"

texts = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=30)


@given(texts, st.integers(int(LATER), 10**11))
def test_a_link_opens_its_stream(stream: str, expires: int) -> None:
    """To anybody, unless it is for one client."""
    sign = Playback(KEY)
    token = sign.sign(stream, expires)
    assert sign.allows(token, stream, HERE)
    assert not sign.allows(token, stream + "x", HERE)
    assert not sign.allows(token, stream, HERE, life="1.5")
    assert sign.allows(sign.sign(stream, expires, life="1.5"), stream, HERE, life="1.5")
    assert not Playback(KEY + "x").allows(token, stream, HERE)
    own = sign.sign(stream, expires, HERE)
    assert sign.allows(own, stream, HERE)
    assert not sign.allows(own, stream, "192.0.2.2")
    assert KEY not in repr(sign)


@given(st.text(max_size=80))
def test_any_other_text_opens_nothing(text: str) -> None:
    assert not Playback(KEY).allows(text, "cam", HERE)


def test_each_part_of_a_link_is_signed() -> None:
    """A later expiry, a mark that is taken off, a digit of the MAC: none of them can be changed."""
    sign = Playback(KEY)
    until = int(LATER)
    token = sign.sign("cam", until)
    own = sign.sign("cam", until, HERE)
    mac = token.partition(".")[2]
    for wrong in (f"{until + 1}.{mac}", f"0{token}", own.replace("-ip", ""), token.replace(".", "-ip.")):
        assert not sign.allows(wrong, "cam", HERE)
    for i in range(len(mac)):
        changed = mac[:i] + ("A" if mac[i] != "A" else "B") + mac[i + 1 :]
        assert not sign.allows(f"{until}.{changed}", "cam", HERE)


def test_a_link_ends() -> None:
    """At its very second."""
    sign = Playback(KEY)
    now = int(time.time())
    assert not sign.allows(sign.sign("cam", now), "cam", HERE)
    assert sign.allows(sign.sign("cam", now + 5), "cam", HERE)


def test_the_playlist_hands_the_token_on() -> None:
    """To each segment and init segment; tags, comments and addresses of others stay as they are."""
    playlist = (
        b'#EXTM3U\n#EXT-X-MAP:URI="s-init.mp4",BYTERANGE="1@2"\n#EXTINF:2.0,a "title"\ns-1.m4s\n\n'
        b"#EXTINF:2,\r\ns-2.m4s\r\nhttps://cdn.example.org/s-3.m4s\ns-4.m4s?x=1\n#EXT-X-ENDLIST"
    )
    assert with_token(playlist, "1-ip.a&b") == (
        b'#EXTM3U\n#EXT-X-MAP:URI="s-init.mp4?token=1-ip.a%26b",BYTERANGE="1@2"\n#EXTINF:2.0,a "title"\n'
        b"s-1.m4s?token=1-ip.a%26b\n\n#EXTINF:2,\r\ns-2.m4s?token=1-ip.a%26b\r\n"
        b"https://cdn.example.org/s-3.m4s\ns-4.m4s?x=1\n#EXT-X-ENDLIST"
    )


@given(st.binary(max_size=300))
def test_any_playlist_keeps_its_lines(playlist: bytes) -> None:
    found = with_token(playlist, "t")
    assert found.count(b"\n") == playlist.count(b"\n")
    assert found.replace(b"?token=t", b"") == playlist.replace(b"?token=t", b"")


# Over HTTP


def make_hls(directory: Path, ffmpeg: str, kind: str = "mpegts") -> Path:
    """Six seconds of H.264 and AAC, as a finished HLS stream of ``cam``."""
    hls = directory / "var" / "hls" / "cam"
    hls.mkdir(parents=True)
    suffix = "ts" if kind == "mpegts" else "m4s"
    argv = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=160x120:r=10:d=6"]
    argv += ["-f", "lavfi", "-i", "sine=d=6", "-c:v", "libx264", "-preset", "ultrafast", "-g", "20"]
    argv += ["-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "hls", "-hls_time", "2", "-hls_list_size", "0"]
    argv += ["-hls_playlist_type", "vod", "-hls_segment_type", kind, "-hls_fmp4_init_filename", "init.mp4"]
    argv += ["-hls_segment_filename", f"s-%d.{suffix}", "index.m3u8"]
    subprocess.run(argv, cwd=hls, check=True, stdin=subprocess.DEVNULL)
    return hls


def signed(directory: Path) -> str:
    (directory / "playback").write_text(KEY + "\n")
    give(directory, "none", "read")
    return SIGNED


def path_of(made: Listener, expires: float = LATER, address: str | None = None) -> str:
    assert made.authority.playback is not None
    return f"/hls/cam/index.m3u8?token={made.authority.playback.sign('cam', expires, address)}"


def frames(ffmpeg: str, url: str) -> subprocess.CompletedProcess[str]:
    """All of *url* decoded."""
    argv = [ffmpeg, "-v", "error", "-nostdin", "-i", url, "-map", "0:v", "-f", "framecrc", "-"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


async def test_without_a_link_nothing_is_served(tmp_path: Path, ffmpeg: str) -> None:
    """Neither playlist nor segment, whether they are there or not; who may read needs none."""
    make_hls(tmp_path, ffmpeg)
    token = give(tmp_path, "ann", "read")
    async with listener(tmp_path, signed(tmp_path)) as made:
        for name in ("index.m3u8", "s-0.ts", "none.ts"):
            for query in ("", "?token=", "?token=x", f"?token={'x' * 5000}"):
                assert (await made.ask("GET", f"/hls/cam/{name}{query}")).status_code == 403
        good = await made.ask("GET", path_of(made))
        assert good.status_code == 200
        assert good.headers["Cache-Control"] == "private, no-store"
        query = path_of(made).partition("?")[2]
        assert f"s-0.ts?{query}\n" in good.text
        assert (await made.ask("GET", f"/hls/cam/s-0.ts?{query}")).status_code == 200
        assert (await made.ask("GET", f"/hls/cam/none.ts?{query}")).status_code == 404
        assert (await made.ask("GET", f"/hls/other/index.m3u8?{query}")).status_code == 403
        assert (await made.ask("GET", path_of(made, time.time() - 1))).status_code == 403
        assert (await made.ask("GET", path_of(made, LATER, "127.0.0.1"))).status_code == 200
        assert (await made.ask("GET", path_of(made, LATER, "192.0.2.9"))).status_code == 403
        assert (await made.ask("GET", "/hls/cam/index.m3u8", token=token)).status_code == 200
        assert (await made.ask("GET", "/hls/cam/index.m3u8", token="x")).status_code == 401
        again = await made.ask("GET", path_of(made), If_None_Match=good.headers["ETag"])
        assert again.status_code == 304


@pytest.mark.parametrize("kind", ["mpegts", "fmp4"])
async def test_ffmpeg_plays_a_signed_link(kind: str, tmp_path: Path, each_ffmpeg: str, ffmpeg: str) -> None:
    """Each frame of each segment, as from the disk; and nothing without the token."""
    hls = make_hls(tmp_path, ffmpeg, kind)
    async with listener(tmp_path, signed(tmp_path)) as made:
        base = f"http://{made.address}"
        played = await trio.to_thread.run_sync(frames, each_ffmpeg, base + path_of(made))
        direct = await trio.to_thread.run_sync(frames, each_ffmpeg, str(hls / "index.m3u8"))
        assert (played.returncode, played.stderr) == (0, "")
        assert played.stdout.count("\n0,") == 60
        assert played.stdout == direct.stdout
        refused = await trio.to_thread.run_sync(frames, each_ffmpeg, f"{base}/hls/cam/index.m3u8")
        assert refused.returncode != 0
        assert "403" in refused.stderr


async def test_chromium_plays_a_signed_link(tmp_path: Path, ffmpeg: str) -> None:
    """In a page of another origin, by the browser's own HLS, without any cookie."""
    make_hls(tmp_path, ffmpeg)

    async def page(path: str, body: bytes) -> Answer:
        return 200, {"Content-Type": "text/html"}, b"<!doctype html><video id=v muted></video>"

    play = """new Promise((done, fail) => {
        v.onerror = () => fail(new Error(v.error.message));
        v.onended = () => done(v.currentTime);
        v.src = "%s"; v.playbackRate = 4; v.play();
    })"""
    async with (
        listener(tmp_path, signed(tmp_path)) as made,
        http_server(page) as other,
        open_chromium() as browser,
    ):
        tab = await browser.new_page(other.url())
        with trio.fail_after(40):
            assert await tab.evaluate(play % f"http://{made.address}{path_of(made)}") >= 5.9


# Links that the API signs


async def test_an_application_gets_links_for_its_viewers(tmp_path: Path, ffmpeg: str) -> None:
    """One token for the playlist and the WebSocket; for its stream, its time and, if wanted, its client."""
    make_hls(tmp_path, ffmpeg)
    token = give(tmp_path, "app", "publish")
    reader = give(tmp_path, "eve", "read")
    async with listener(tmp_path, signed(tmp_path) + 'max_link = "2h"\n') as made:
        link = "/v1/streams/cam/link"
        assert (await made.ask("POST", link, reader, {})).status_code == 403
        told = (await made.ask("POST", link, token, {"expires_in": 90})).json()
        assert told["hls_url"] == f"http://{made.address}/hls/cam/index.m3u8?token={told['token']}"
        assert urlsplit(told["watch_url"])[2:4] == ("/stream/watch/cam", f"token={told['token']}")
        left = datetime.fromisoformat(told["expires"]).timestamp() - time.time()
        assert 80 < left <= 90
        assert (await made.ask("GET", told["hls_url"])).status_code == 200
        assert (await made.ask("GET", told["hls_url"].replace("/cam/", "/other/"))).status_code == 403
        for watcher, may in (("cam", True), ("other", False)):
            assert await made.authority.may_watch(watcher, told["token"], HERE) is may
        here = (await made.ask("POST", link, token, {"address": "127.0.0.1"})).json()
        assert (await made.ask("GET", here["hls_url"])).status_code == 200
        there = (await made.ask("POST", link, token, {"address": HERE})).json()
        assert there["address"] == HERE
        assert (await made.ask("GET", there["hls_url"])).status_code == 403
        # What the status tells is the URL alone, and that it needs a link.
        (playback,) = (await made.ask("GET", "/v1/streams/cam", token)).json()["playback"]
        assert (playback["policy"], playback["url"]) == ("signed", here["hls_url"].partition("?")[0])
        for body, said in (
            ({"expires_in": 7201}, "expires_in: expected at most 7200 seconds (auth.max_link)"),
            ({"expires_in": 0}, "expires_in"),
            ({"address": "here"}, "address: expected an IP address"),
            ({"stream": "x"}, "unknown key"),
        ):
            wrong = await made.ask("POST", link, token, body)
            assert wrong.status_code == 422
            assert said in wrong.json()["detail"]
        assert (await made.ask("POST", "/v1/streams/none/link", token, {})).status_code == 404


async def test_a_link_ends_with_its_stream(tmp_path: Path, ffmpeg: str) -> None:
    """A new stream of the same name is another one; any other change of a stream leaves its links good."""
    make_hls(tmp_path, ffmpeg).rename(tmp_path / "var" / "hls" / "mine")
    token = give(tmp_path, "ops", "admin")
    async with listener(tmp_path, signed(tmp_path)) as made:

        async def anew() -> str:
            body = {"name": "mine", "pipeline": "hls"}
            assert (await made.ask("POST", "/v1/streams", token, body)).status_code == 201
            link = await made.ask("POST", "/v1/streams/mine/link", token, {})
            return str(link.json()["hls_url"])

        first = await anew()
        own = (await made.ask("GET", "/v1/playback/mine", token)).json()["hls"]
        for change in ({"title": "x"}, {"enabled": False}, {"enabled": True}):
            assert (await made.ask("PATCH", "/v1/streams/mine", token, change)).status_code == 200
        assert (await made.ask("POST", "/v1/streams/mine/reset-key", token)).status_code == 200
        assert [(await made.ask("GET", url)).status_code for url in (first, own)] == [200, 200]
        assert (await made.ask("DELETE", "/v1/streams/mine", token)).status_code == 204
        assert (await made.ask("GET", first)).status_code == 403
        second = await anew()
        assert [(await made.ask("GET", url)).status_code for url in (first, own, second)] == [403, 403, 200]
    async with listener(tmp_path, SIGNED) as made:  # another daemon, the same database
        path = second[second.index("/hls/") :]
        assert (await made.ask("GET", path)).status_code == 200


async def test_where_links_are_not_ours_to_sign(tmp_path: Path) -> None:
    """Where everybody may watch it is the plain URL; where the application is asked, that has its own."""
    token = give(tmp_path, "app", "publish")
    async with listener(tmp_path, TOKENS) as made:
        told = (await made.ask("POST", "/v1/streams/cam/link", token, {"address": HERE})).json()
        assert (told["token"], told["expires"], told["address"]) == (None, None, None)
        assert "?" not in told["hls_url"] + told["watch_url"]
    asks = TOKENS + 'playback = "ask"\nurl = "http://127.0.0.1:9/"\n'
    async with listener(tmp_path, asks) as made:
        refused = await made.ask("POST", "/v1/streams/cam/link", token, {})
        assert (refused.status_code, "tokens of its own" in refused.json()["detail"]) == (409, True)
