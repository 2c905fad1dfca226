"""``/v1/events``: every change as it happens, resumable, and bounded."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import trio

from ingestd.control import events as module
from tests.auth.serving import listener
from tests.control.tools import acall, call, make, until
from tests.daemon.tools import browser_chunks, closed_with, live
from tests.support.daemon import Daemon, daemon

Told = dict[str, Any]


class Follower:
    """A reader of server-sent events as the standard has it, with a deadline."""

    def __init__(self, response: HTTPResponse) -> None:
        self.response = response
        self.last = ""

    def next(self) -> Told:
        """The next event: ``id``, ``event`` and ``data``. Comments and bare ids are passed over."""
        fields: dict[str, str] = {}
        while True:
            line = self.response.readline().decode()
            if not line:
                raise EOFError
            line = line.rstrip("\n")
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
                continue
            self.last = fields.get("id", self.last)
            if "data" in fields:
                return {"id": fields["id"], "event": fields["event"], "data": json.loads(fields["data"])}
            fields = {}

    def until(self, kind: str) -> list[Told]:
        """All events up to the first of type *kind*, that one included."""
        found = [self.next()]
        while found[-1]["event"] != kind:
            found.append(self.next())
        return found


@contextmanager
def follow(running: Daemon, query: str = "", **headers: str) -> Iterator[Follower]:
    host, _, port = running.control.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", f"/v1/events?{query}", headers=named)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.headers["Content-Type"] == "text/event-stream"
        yield Follower(response)
    finally:
        connection.close()


async def test_the_life_of_a_stream_is_told(running: Daemon) -> None:
    """Made, published, ended, recorded, deleted: in this order, numbered without gaps."""
    with follow(running) as follower:
        key = make(running, name="told")["key"]
        async with live(running, browser_chunks(), key=key) as publisher:
            await until(running, "told", "live")
            await acall(running, "POST", "/v1/streams/told/stop")
            await closed_with(publisher)
        await until(running, "told", "ended")
        call(running, "PATCH", "/v1/streams/told", {"title": "x"})
        call(running, "DELETE", "/v1/streams/told")
        found = follower.until("stream.deleted")
    kinds = [each["event"] for each in found]
    wanted = [
        "stream.created",
        "stream.live",
        "recording.ready",
        "stream.ended",
        "stream.updated",
        "stream.deleted",
    ]
    assert [kind for kind in kinds if kind in wanted and kind != "recording.ready"] == [
        kind for kind in wanted if kind != "recording.ready"
    ]
    assert kinds.count("recording.ready") == 2
    assert "sink.running" in kinds
    numbers = [each["data"]["number"] for each in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(found)))
    for each in found:
        assert each["data"]["stream"] == "told"
        assert each["data"]["type"] == each["event"]
        assert each["data"]["at"].endswith("Z")
        assert each["id"] == f"{found[0]['id'].partition('-')[0]}-{each['data']['number']}"


def test_who_comes_again_has_missed_nothing(running: Daemon) -> None:
    """By Last-Event-ID or ?after=: what happened meanwhile, once; also from before the first event."""
    with follow(running) as follower:
        make(running, name="missed-0")
        first = follower.next()
    for number in (1, 2):
        make(running, name=f"missed-{number}")
    for asked in ({"Last_Event_ID": first["id"]}, {"query": f"after={first['id']}"}):
        with follow(running, **asked) as follower:
            assert [follower.next()["data"]["stream"] for _ in range(2)] == ["missed-1", "missed-2"]


def test_what_was_before_can_come_first(running: Daemon) -> None:
    """As many as are asked for, or kept; then it goes on."""
    for number in range(3):
        make(running, name=f"before-{number}")
    with follow(running, query="last=2") as follower:
        assert [follower.next()["data"]["stream"] for _ in range(2)] == ["before-1", "before-2"]
        make(running, name="afterwards")
        assert follower.next()["data"]["stream"] == "afterwards"
    with follow(running, query="last=100000") as follower:
        assert follower.next()["data"]["number"] == 1


def test_filters(running: Daemon) -> None:
    """By stream, by type, by noun; and what is passed over moves the place on, too."""
    with follow(running) as follower:
        make(running, name="wanted")
        place = follower.next()["id"]
    make(running, name="unwanted")
    call(running, "PATCH", "/v1/streams/wanted", {"title": "a"})
    for query, kinds in (
        ("stream=wanted", ["stream.updated"]),
        ("type=stream.updated", ["stream.updated"]),
        ("type=sink,stream", ["stream.created", "stream.updated"]),
        ("type=stream.created&type=stream.updated", ["stream.created", "stream.updated"]),
    ):
        with follow(running, f"after={place}&{query}") as follower:
            assert [follower.next()["event"] for _ in kinds] == kinds


def test_what_is_lost_is_said_to_be(running: Daemon) -> None:
    """Another run's id, or one of the future: an event `reset`, whose id is where things stand now."""
    for after in ("0123456789abcdef-5", "0-0"):
        with follow(running, f"after={after}") as follower:
            reset = follower.next()
            assert reset["event"] == "reset"
            assert reset["id"] == f"{reset['data']['run']}-{reset['data']['number']}"
            name = make(running)["name"]
            assert follower.next()["data"]["stream"] == name


@pytest.mark.parametrize("after", ["x", "12", "-", "abc-", "abc-12x"])
def test_an_id_that_is_none_is_refused(running: Daemon, after: str) -> None:
    assert call(running, "GET", f"/v1/events?after={after}").problem["status"] == 400
    assert call(running, "GET", "/v1/events", Last_Event_ID=after).problem["status"] == 400


def test_head_says_what_get_would_and_ends(running: Daemon) -> None:
    answer = call(running, "HEAD", "/v1/events")
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, "text/event-stream", b"")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that keeps ten events, for two clients."""
    with daemon(
        tmp_path, '[[sinks]]\ntype = "hls"\n', control="events = 10\nmax_event_clients = 2\n"
    ) as made:
        yield made


def test_more_than_is_kept_is_a_reset(small: Daemon) -> None:
    """The eleventh event pushes the first out; who had none of them is told so, who had one is not."""
    with follow(small) as follower:
        call(small, "PATCH", "/v1/streams/cam", {"title": "0"})
        first = follower.next()["id"]
    for number in range(1, 11):
        call(small, "PATCH", "/v1/streams/cam", {"title": str(number)})
    with follow(small, f"after={first}") as follower:
        assert [follower.next()["data"]["number"] for _ in range(10)] == list(range(2, 12))
    call(small, "PATCH", "/v1/streams/cam", {"title": "11"})
    with follow(small, f"after={first}") as follower:
        assert follower.next()["event"] == "reset"


def test_no_more_clients_than_allowed(small: Daemon) -> None:
    """One more is 503 with Retry-After; a place that was left can be taken."""
    with follow(small), follow(small):
        refused = call(small, "GET", "/v1/events")
        assert refused.problem["status"] == 503
        assert refused.headers["Retry-After"]
    deadline = time.monotonic() + 10
    while call(small, "HEAD", "/v1/events").status != 200:
        assert time.monotonic() < deadline
    with follow(small):
        pass


def test_the_end_of_the_daemon_ends_it(small: Daemon) -> None:
    """A client that follows does not hold the daemon up."""
    with follow(small) as follower:
        began = time.monotonic()
        small.process.send_signal(signal.SIGTERM)
        with pytest.raises(EOFError):
            follower.next()
        small.process.wait(10)
        assert time.monotonic() - began < 5
    small.exit_code = 0


async def test_silence_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment and the place, at least every 15 s: proxies and clients see that the connection lives."""
    assert module.HEARTBEAT <= 15
    monkeypatch.setattr(module, "HEARTBEAT", 0.05)
    data = b""
    async with listener(tmp_path) as made:
        host, port = made.address.split(":")
        with trio.fail_after(10):
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all(f"GET /v1/events HTTP/1.1\r\nHost: {made.address}\r\n\r\n".encode())
                while data.count(b": nothing new\nid: ") < 2:
                    data += await stream.receive_some()
    assert b"retry: 2000\nid: " in data
    assert len(set(re.findall(rb"^id: .*$", data, re.MULTILINE))) == 1
