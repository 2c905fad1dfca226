"""Sessions and recordings: what ran is listed, what was recorded can be had in parts, and removed."""

from __future__ import annotations

import pytest
import trio

from tests.control.tools import Answer, acall, call, eventually, make, until
from tests.daemon.tools import browser_chunks, closed_with, live
from tests.support.daemon import Daemon


async def published(running: Daemon, name: str) -> None:
    """A stream with one session of some seconds, ended, and in the database."""
    key = make(running, name=name)["key"]
    async with live(running, browser_chunks(), key=key) as publisher:
        await until(running, name, "live")
        await trio.sleep(1)
        await acall(running, "POST", f"/v1/streams/{name}/stop")
        await closed_with(publisher)
    await until(running, name, "ended")
    recordings, sessions = f"/v1/recordings?stream={name}", f"/v1/streams/{name}/sessions"
    await eventually(lambda: len(call(running, "GET", recordings).json["recordings"]) == 2)
    await eventually(lambda: call(running, "GET", sessions).json["sessions"][0]["ended"])


async def test_a_session_is_listed_and_shown(running: Daemon) -> None:
    """With start, end, cause and counts, in all listings; 404 for one that is not there."""
    await published(running, "session")
    status = call(running, "GET", "/v1/streams/session").json
    (told,) = call(running, "GET", "/v1/streams/session/sessions").json["sessions"]
    assert told == call(running, "GET", "/v1/sessions?stream=session").json["sessions"][0]
    assert told == call(running, "GET", f"/v1/sessions/{told['id']}").json
    assert told == call(running, "GET", f"/v1/sessions/{told['id']}?stream=session").json
    assert (told["id"], told["chunks"], told["bytes"]) == (
        status["session"],
        status["chunks"],
        status["bytes"],
    )
    assert (told["state"], told["cause"]) == ("ended", "stopped by the API")
    assert told["started"] < told["ended"]
    assert told["frames"] > 0
    assert call(running, "GET", f"/v1/sessions/{told['id']}?stream=cam").problem["status"] == 404
    for session in ("nothing", "%00", "%ff", "x" * 3000, "a%0a"):
        assert call(running, "GET", f"/v1/sessions/{session}").problem["status"] == 404


async def test_a_recording_can_be_downloaded(running: Daemon) -> None:
    """Whole, in parts, and not again; with the name to save it as."""
    await published(running, "recorded")
    found = call(running, "GET", "/v1/recordings?stream=recorded").json["recordings"]
    assert {(each["sink"], each["finished"]) for each in found} == {("raw", True), ("mkv", True)}
    (mkv,) = (each for each in found if each["sink"] == "mkv")
    assert call(running, "GET", f"/v1/recordings/{mkv['id']}").json == mkv
    on_disk = (running.state_dir / "recordings" / "recorded" / mkv["file"]).read_bytes()
    path = f"/v1/recordings/{mkv['id']}/file"
    whole = call(running, "GET", path)
    assert (whole.status, whole.body, whole.headers["Content-Type"]) == (200, on_disk, "video/x-matroska")
    assert len(on_disk) == mkv["size"]
    assert f'filename="recorded-{mkv["file"]}"' in whole.headers["Content-Disposition"]
    part = call(running, "GET", path, Range="bytes=100-199")
    assert (part.status, part.body) == (206, on_disk[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(on_disk)}"
    assert call(running, "GET", path, Range=f"bytes={len(on_disk)}-").problem["status"] == 416
    assert call(running, "GET", path, If_None_Match=whole.headers["ETag"]).status == 304
    assert call(running, "GET", path, If_Match='"other"').problem["status"] == 412
    head = call(running, "HEAD", path)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(on_disk)))


async def test_ranges_at_their_edges(running: Daemon) -> None:
    """As RFC 9110 has them; what is none, or is meant for another file, is the whole."""
    await published(running, "ranges")
    (mkv,) = (
        each for each in call(running, "GET", "/v1/recordings?stream=ranges").json["recordings"]
        if each["sink"] == "mkv"
    )  # fmt: skip
    size, path = mkv["size"], f"/v1/recordings/{mkv['id']}/file"
    etag = call(running, "HEAD", path).headers["ETag"]
    for wanted, first, last in (
        ("0-0", 0, 0), ("-1", size - 1, size - 1), (f"-{2 * size}", 0, size - 1), ("0-", 0, size - 1),
        (f"{size - 1}-", size - 1, size - 1), ("7-" + "9" * 30, 7, size - 1),
    ):  # fmt: skip
        part = call(running, "GET", path, Range=f"bytes={wanted}")
        assert (part.status, len(part.body)) == (206, last - first + 1), wanted
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    for wanted in ("bytes=5-2", "bytes=0-0,2-3", "bytes=a-b", "bytes=", "items=0-1", "bytes=--1"):
        assert call(running, "GET", path, Range=wanted).status == 200, wanted
    assert call(running, "GET", path, Range=f"bytes={size}-").problem["status"] == 416
    assert call(running, "GET", path, Range="bytes=0-5", If_Range=etag).status == 206
    for other in ('"other"', f"W/{etag}", "Wed, 21 Oct 2099 07:28:00 GMT", "nonsense"):
        assert call(running, "GET", path, Range="bytes=0-5", If_Range=other).status == 200, other
    head = call(running, "HEAD", path, Range="bytes=0-5")
    assert (head.status, head.headers["Content-Length"]) == (200, str(size))


async def test_a_recording_can_be_removed(running: Daemon) -> None:
    """File and row are gone; a file that somebody has changed meanwhile is not ours any more."""
    await published(running, "removed")
    raw, mkv = sorted(
        call(running, "GET", "/v1/recordings?stream=removed").json["recordings"],
        key=lambda each: str(each["sink"]), reverse=True,
    )  # fmt: skip
    folder = running.state_dir / "recordings" / "removed"
    assert call(running, "DELETE", f"/v1/recordings/{mkv['id']}").status == 204
    assert not (folder / mkv["file"]).exists()
    again: Answer = call(running, "GET", f"/v1/recordings/{mkv['id']}")
    assert again.problem["status"] == 404
    assert call(running, "DELETE", f"/v1/recordings/{mkv['id']}").problem["status"] == 404
    with (folder / raw["file"]).open("ab") as file:
        file.write(b"mine")
    assert call(running, "DELETE", f"/v1/recordings/{raw['id']}").problem["status"] == 409
    assert (folder / raw["file"]).exists()
    assert call(running, "GET", f"/v1/recordings/{raw['id']}").status == 200


async def test_pages_of_sessions_and_recordings(running: Daemon) -> None:
    """By cursor, each once, the newest first."""
    for number in range(2):
        await published(running, f"paged-{number}")
    for what in ("sessions", "recordings"):
        every = call(running, "GET", f"/v1/{what}").json[what]
        seen, path = [], f"/v1/{what}?limit=1"
        while True:
            page = call(running, "GET", path).json
            seen += page[what]
            if "next" not in page:
                break
            path = f"/v1/{what}?limit=1&cursor={page['next']}"
        assert [each["id"] for each in seen] == [each["id"] for each in every]


@pytest.mark.parametrize("recording", ["nothing", "%00", "..", "%2e%2e%2f", "0" * 24, "x" * 3000])
@pytest.mark.parametrize("path", ["", "/file"])
def test_a_recording_that_is_not_there_is_404(running: Daemon, recording: str, path: str) -> None:
    assert call(running, "GET", f"/v1/recordings/{recording}{path}").problem["status"] == 404


@pytest.mark.parametrize("path", ["sessions", "recordings", "streams/cam/sessions"])
def test_a_cursor_of_another_listing_is_refused(running: Daemon, path: str) -> None:
    assert call(running, "GET", f"/v1/{path}?cursor=WyJjYW0iXQ").problem["status"] == 400
