"""``/v1/streams``: made, listed, changed, steered and deleted, and what was answered is in the database."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.control.conftest import PIPELINE
from tests.control.tools import acall, call, eventually, make, until
from tests.daemon.tools import browser_chunks, closed_with, connect, live
from tests.support.daemon import Daemon, daemon

SECRET = "a-secret-of-the-target"


def test_a_new_stream_has_a_key_that_is_told_once(running: Daemon) -> None:
    """201 with Location; the key and where to publish are in this answer and in no other."""
    answer = call(running, "POST", "/v1/streams", {"name": "one", "title": "One", "labels": {"room": "7"}})
    made = answer.json
    assert (answer.status, answer.headers["Location"]) == (201, "/v1/streams/one")
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(made["key"]) == 28
    assert made["ingest_url"] == f"ws://{running.ingest}/stream/live/{made['key']}"
    shown = call(running, "GET", "/v1/streams/one").json
    assert "key" not in shown
    assert "ingest_url" not in shown
    assert made["key"] not in running.log.read_text()
    assert (shown["title"], shown["labels"], shown["enabled"], shown["declared"]) == (
        "One", {"room": "7"}, True, False,
    )  # fmt: skip
    assert shown["playback"] == [
        {"id": "one", "provider": "ingestd", "policy": "public",
         "url": f"http://{running.control}/hls/one/index.m3u8"}
    ]  # fmt: skip


def test_a_name_is_made_up_and_no_two_are_the_same(running: Daemon) -> None:
    """A stream can be made without saying anything; a name that is taken, or declared, is 409."""
    first, second = (call(running, "POST", "/v1/streams").json for _ in range(2))
    assert first["name"] != second["name"]
    assert first["pipeline"] == "test"
    make(running, name="taken")
    for name in ("taken", "cam"):
        assert call(running, "POST", "/v1/streams", {"name": name}).problem["status"] == 409


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, None),
        (b'{"name": "x"} x', 400, None),
        (b"\xff", 400, None),
        (b"[]", 422, ""),
        ({"nmae": "x"}, 422, "nmae"),
        ({"name": "Not A Name"}, 422, "name"),
        ({"name": "x" * 65}, 422, "name"),
        ({"name": 1}, 422, "name"),
        ({"pipeline": "nothing"}, 422, "pipeline"),
        ({"title": "a\nb"}, 422, "title"),
        ({"title": "x" * 201}, 422, "title"),
        ({"labels": {"a": 1}}, 422, "labels[...]"),
        ({"labels": {str(i): "" for i in range(33)}}, 422, "labels"),
        ({"enabled": "yes"}, 422, "enabled"),
        ({"targets": [{"sink": "hls", "key": "x"}]}, 422, "targets[0].sink"),
        ({"pipeline": "push", "targets": [{"sink": "push"}]}, 422, "targets[0].key"),
        ({"pipeline": "push", "targets": [{"sink": "push", "key": SECRET, "url": "http://x/"}]}, 422,
         "targets[0].url"),
    ],
)  # fmt: skip
def test_a_wrong_body_is_refused_by_field(running: Daemon, body: Any, status: int, field: str | None) -> None:
    """The problem names the field and what was expected, and never repeats what was sent."""
    answer = call(running, "POST", "/v1/streams", body)
    assert answer.status == status
    problem = answer.problem
    if field is None:
        assert "errors" not in problem
    else:
        (error,) = problem["errors"]
        assert error["field"] == field
        assert error["expected"]
    assert SECRET not in answer.body.decode()


def test_a_body_of_another_type_or_too_large_is_refused(running: Daemon) -> None:
    """415 for what a foreign page's form could send; 413 beyond 256 KiB."""
    form = call(running, "POST", "/v1/streams", b"{}", Content_Type="text/plain")
    assert form.problem["status"] == 415
    large = call(running, "POST", "/v1/streams", {"title": "x" * 300_000})
    assert large.problem["status"] == 413


def test_targets_are_kept_sealed_and_never_told(running: Daemon) -> None:
    """Of a target the sink and the masked URL are shown; the key is in no answer and not in the file."""
    target = {"sink": "push", "key": SECRET, "url": "rtmps://other.example.org/live/hidden"}
    made = make(running, name="aimed", pipeline="push", targets=[target])
    assert made["targets"] == [{"sink": "push", "url": "rtmps://other.example.org/live"}]
    for path in ("/v1/streams/aimed", "/v1/streams", "/v1/pipelines", "/v1/pipelines/push"):
        body = call(running, "GET", path).body.decode()
        assert SECRET not in body
        assert "hidden" not in body
    assert SECRET not in running.log.read_text()
    for file in running.state_dir.glob("ingestd.db*"):
        assert SECRET.encode() not in file.read_bytes()


# Idempotency


def test_the_same_key_and_body_are_answered_the_same(running: Daemon) -> None:
    """A create that is sent again, because its answer was lost, is done once; the publish key comes again."""
    first = call(running, "POST", "/v1/streams", {"title": "Once"}, Idempotency_Key="lost-answer")
    again = call(running, "POST", "/v1/streams", {"title": "Once"}, Idempotency_Key="lost-answer")
    assert (first.status, again.status) == (201, 201)
    assert first.body == again.body
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    found = call(running, "GET", "/v1/streams?q=once").json["streams"]
    assert [stream["name"] for stream in found] == [first.json["name"]]


def test_the_same_key_with_another_body_is_refused(running: Daemon) -> None:
    """422, and nothing is made."""
    call(running, "POST", "/v1/streams", {"title": "A"}, Idempotency_Key="reused")
    other = call(running, "POST", "/v1/streams", {"title": "Not this"}, Idempotency_Key="reused")
    assert other.problem["status"] == 422
    assert call(running, "GET", "/v1/streams?q=not%20this").json["streams"] == []


@pytest.mark.parametrize("key", ["x" * 256, "two words", "ü"])
def test_an_idempotency_key_is_visible_ascii(running: Daemon, key: str) -> None:
    """Of at most 255 characters."""
    answer = call(running, "POST", "/v1/streams", {}, Idempotency_Key=key.encode().decode("latin-1"))
    assert answer.problem["status"] == 400


def test_a_create_that_failed_leaves_its_key_free(running: Daemon) -> None:
    """The same key works once the cause is mended."""
    body = {"name": "cam"}
    assert call(running, "POST", "/v1/streams", body, Idempotency_Key="try").status == 409
    assert call(running, "POST", "/v1/streams", body, Idempotency_Key="try").status == 409
    assert call(running, "POST", "/v1/streams", {}, Idempotency_Key="try").status == 201


def test_many_at_once_with_one_key_make_one(running: Daemon) -> None:
    """Each is answered 201 with the same key, or 409 with Retry-After."""
    answers = []

    def ask() -> None:
        answers.append(call(running, "POST", "/v1/streams", {"title": "Race"}, Idempotency_Key="race"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [answer for answer in answers if answer.status == 201]
    assert len({answer.body for answer in done}) == 1
    assert {answer.status for answer in answers} <= {201, 409}
    assert all(answer.headers["Retry-After"] for answer in answers if answer.status == 409)
    assert len(call(running, "GET", "/v1/streams?q=race").json["streams"]) == 1


# Listing


def test_filters_and_pages(running: Daemon) -> None:
    """Each filter alone and together; pages by name, each stream once, whatever is added meanwhile."""
    for number in range(5):
        make(
            running, name=f"page-{number}", labels={"kind": "page", "n": str(number)}, title=f"Seite {number}"
        )

    def names(query: str) -> list[str]:
        return [stream["name"] for stream in call(running, "GET", f"/v1/streams?{query}").json["streams"]]

    every = [f"page-{number}" for number in range(5)]
    assert names("label=kind") == names("label=kind%3Dpage") == names("q=SEITE") == every
    assert names("label=kind&label=n%3D3") == names("label=kind,n%3D3") == ["page-3"]
    assert names("label=kind&state=idle") == every
    assert names("label=kind&state=live,interrupted") == []
    assert names("label=kind&pipeline=push") == []
    seen, path = [], "/v1/streams?label=kind&limit=2"
    for turn in range(3):
        page = call(running, "GET", path).json
        seen += [stream["name"] for stream in page["streams"]]
        assert ("next" in page) == (turn < 2)
        path = f"/v1/streams?label=kind&limit=2&cursor={page.get('next')}"
    assert seen == every


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("state=on", "state[0]"),
     ("limit=1&limit=2", "limit"), ("lmit=1", "lmit"), ("pipeline=A", "pipeline")],
)  # fmt: skip
def test_a_wrong_parameter_is_refused_by_name(running: Daemon, query: str, field: str) -> None:
    answer = call(running, "GET", f"/v1/streams?{query}")
    assert answer.status == 400
    assert [error["field"] for error in answer.problem["errors"]] == [field]


@pytest.mark.parametrize("cursor", ["x", "WzFd", "%00", "W10"])
def test_a_cursor_of_nobody_s_is_refused(running: Daemon, cursor: str) -> None:
    assert call(running, "GET", f"/v1/streams?cursor={cursor}").problem["status"] == 400


# Changing


def test_a_patch_changes_what_it_names(running: Daemon) -> None:
    """The rest stays; `updated` grows."""
    before = make(running, name="patched", title="Before", labels={"a": "1"})
    after = call(running, "PATCH", "/v1/streams/patched", {"title": "After"}).json
    assert (after["title"], after["labels"], after["created"]) == ("After", {"a": "1"}, before["created"])
    assert after["updated"] > before["updated"]
    assert call(running, "PATCH", "/v1/streams/patched", {"labels": {}}).json["labels"] == {}
    assert call(running, "PATCH", "/v1/streams/patched", {"pipeline": "push"}).json["pipeline"] == "push"
    aimed = {"targets": [{"sink": "push", "key": SECRET}]}
    assert call(running, "PATCH", "/v1/streams/patched", aimed).json["targets"] == [
        {"sink": "push", "url": None}
    ]
    refused = call(running, "PATCH", "/v1/streams/patched", {"pipeline": "test"})
    assert refused.problem["errors"][0]["field"] == "pipeline"
    assert call(running, "PATCH", "/v1/streams/patched", {"name": "other"}).status == 422


def test_what_the_file_declares_is_changed_there(running: Daemon) -> None:
    """409 for name, key and pipeline of a declared stream; title and the like can be set."""
    assert call(running, "PATCH", "/v1/streams/cam", {"pipeline": "push"}).problem["status"] == 409
    assert call(running, "DELETE", "/v1/streams/cam").problem["status"] == 409
    assert call(running, "POST", "/v1/streams/cam/reset-key").problem["status"] == 409
    assert call(running, "PATCH", "/v1/streams/cam", {"title": "Camera"}).json["title"] == "Camera"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/enable"), ("POST", "/disable"),
     ("POST", "/reset-key"), ("POST", "/stop"), ("POST", "/sinks/hls/restart"), ("GET", "/sessions"),
     ("GET", "/thumbnail.jpg")],
)  # fmt: skip
def test_a_stream_that_is_not_there_is_404(running: Daemon, method: str, path: str) -> None:
    body = {} if method == "PATCH" else None
    assert call(running, method, f"/v1/streams/nobody{path}", body).problem["status"] == 404


def test_there_are_only_so_many(tmp_path: Path) -> None:
    """Those of the file count, too; a place that was left can be taken."""
    with daemon(tmp_path, PIPELINE, control='pipeline = "test"\nmax_streams = 2\n') as small:
        make(small, name="second")
        refused = call(small, "POST", "/v1/streams", {}).problem
        assert (refused["status"], "control.max_streams" in refused["detail"]) == (409, True)
        assert call(small, "DELETE", "/v1/streams/second").status == 204
        make(small, name="third")


# Steering


async def test_stop_ends_the_session_and_nothing_else(running: Daemon) -> None:
    """The publisher is told 1000; what was sent is finished; the stream may be published again."""
    key = make(running, name="stopped")["key"]
    assert call(running, "POST", "/v1/streams/stopped/stop").problem["status"] == 409
    async with live(running, browser_chunks(), key=key) as socket:
        await until(running, "stopped", "live")
        assert (await acall(running, "POST", "/v1/streams/stopped/stop")).status == 200
        assert await closed_with(socket) == (1000, "stopped by the API")
    assert (await until(running, "stopped", "ended"))["cause"] == "stopped by the API"
    async with live(running, browser_chunks(), key=key):
        await until(running, "stopped", "live")


async def test_disable_throws_out_and_keeps_out(running: Daemon) -> None:
    """4423 for the publisher and for the next; after enable the same key works again."""
    key = make(running, name="barred")["key"]
    async with live(running, browser_chunks(), key=key) as socket:
        await until(running, "barred", "live")
        assert (await acall(running, "POST", "/v1/streams/barred/disable")).json["enabled"] is False
        assert (await closed_with(socket))[0] == 4423
    async with connect(running, key) as socket:
        assert (await closed_with(socket))[0] == 4423
    await until(running, "barred", "ended")
    assert (await acall(running, "POST", "/v1/streams/barred/enable")).json["enabled"] is True
    async with live(running, browser_chunks(), key=key):
        await until(running, "barred", "live")


async def test_a_new_key_makes_the_old_one_worthless(running: Daemon) -> None:
    """Who publishes with the old key is thrown out (4401), and so is who comes with it."""
    old = make(running, name="leaked")["key"]
    async with live(running, browser_chunks(), key=old) as socket:
        await until(running, "leaked", "live")
        answer = await acall(running, "POST", "/v1/streams/leaked/reset-key")
        assert answer.json["ingest_url"].endswith(answer.json["key"])
        assert (await closed_with(socket))[0] == 4401
    async with connect(running, old) as socket:
        assert (await closed_with(socket))[0] == 4401
    await until(running, "leaked", "ended")
    async with live(running, browser_chunks(), key=answer.json["key"]):
        await until(running, "leaked", "live")


async def test_a_deleted_stream_is_gone(running: Daemon) -> None:
    """Its session ends (4401), its key is unknown, its name is free; its sessions can still be read."""
    key = make(running, name="deleted")["key"]
    async with live(running, browser_chunks(), key=key) as socket:
        await until(running, "deleted", "live")
        assert (await acall(running, "DELETE", "/v1/streams/deleted")).status == 204
        assert (await closed_with(socket))[0] == 4401
    assert call(running, "GET", "/v1/streams/deleted").status == 404
    async with connect(running, key) as socket:
        assert (await closed_with(socket))[0] == 4401
    path = "/v1/sessions?stream=deleted&on_air=false"
    listed = await eventually(lambda: call(running, "GET", path).json["sessions"])
    assert [session["cause"] for session in listed] == ["the stream was deleted"]
    assert make(running, name="deleted")["state"] == "idle"


async def test_a_sink_is_begun_anew(running: Daemon) -> None:
    """Its FFmpeg is another one afterwards; 404 for a sink that is none, 409 for one without FFmpeg."""
    key = make(running, name="sinks")["key"]
    path = "/v1/streams/sinks/sinks"
    assert call(running, "POST", f"{path}/hls/restart").problem["status"] == 409
    async with live(running, browser_chunks(), key=key):
        await until(running, "sinks", "live")
        assert (await acall(running, "POST", f"{path}/nothing/restart")).problem["status"] == 404
        assert (await acall(running, "POST", f"{path}/mkv/restart")).problem["status"] == 409
