"""The client against the fake on a real socket: what is sent again, and that nothing is made twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from ingestd.config import MuxConfig
from ingestd.mux.client import MuxClient
from ingestd.mux.errors import (
    MuxError,
    MuxNotFound,
    MuxRefused,
    MuxUnauthorised,
    MuxUnavailable,
    MuxUnclear,
)
from ingestd.mux.http import Answer, Failed
from ingestd.mux.lifecycle import passthrough_of
from ingestd.mux.model import LiveStream
from tests.mux.tools import OPTIONS, mux_config
from tests.support.fake_mux import TOKEN_SECRET, FakeMux, fake_mux
from tests.support.http_fake import Reply, Request, serve

CREATE = "POST /video/v1/live-streams"
LIST = "GET /video/v1/live-streams"
ONE = "/video/v1/live-streams/live-1"


@asynccontextmanager
async def client(directory: Path, **changes: Any) -> AsyncIterator[tuple[FakeMux, MuxClient]]:
    """The fake, and a client of it that does not wait between attempts unless it is told to."""
    async with (
        fake_mux() as fake,
        MuxClient(mux_config(directory, fake.api, **changes), jitter=lambda: 0) as made,
    ):
        yield fake, made


async def test_a_live_stream_is_made_with_what_was_asked_for(tmp_path: Path) -> None:
    """Key and playback ids come back; the window is sent although Mux has none for low latency."""
    async with client(tmp_path) as (fake, mux):
        made = await mux.create(OPTIONS, "ours")
        assert (made.id, made.status, made.stream_key) == ("live-1", "idle", "fake-key-1")
        assert (made.latency_mode, made.reconnect_window, made.passthrough) == ("low", 120.0, "ours")
        assert [each.url for each in made.playback_ids] == ["https://stream.mux.com/playback2.m3u8"]
        assert fake.bodies[-1]["reconnect_window"] == 120
        assert "fake-key" not in repr(made)
        assert await mux.get(made.id) == attrs.evolve(made, answered=(await mux.get(made.id)).answered)


async def test_a_life(tmp_path: Path) -> None:
    """Each call does what Mux says that it does."""
    async with client(tmp_path) as (fake, mux):
        made = await mux.create(OPTIONS, "ours")
        assert (await mux.update(made.id, {"latency_mode": "standard"})).latency_mode == "standard"
        await mux.disable(made.id)
        assert (await mux.get(made.id)).status == "disabled"
        await mux.enable(made.id)
        await mux.complete(made.id)
        assert (await mux.get(made.id)).status == "idle"
        assert (await mux.reset_stream_key(made.id)).stream_key not in ("", made.stream_key)
        playback = await mux.create_playback_id(made.id, "signed")
        assert playback.policy == "signed"
        await mux.delete_playback_id(made.id, playback.id)
        await mux.delete_playback_id(made.id, playback.id)
        target = await mux.create_simulcast_target(made.id, "rtmp://example.org/app", "their-key", "t")
        assert [each.id for each in (await mux.get(made.id)).simulcast_targets] == [target.id]
        await mux.delete_simulcast_target(made.id, target.id)
        found = await mux.get(made.id)
        assert (found.simulcast_targets, len(found.playback_ids)) == ((), 1)
        await mux.delete(made.id)
        await mux.delete(made.id)
        assert fake.streams == {}
        with pytest.raises(MuxNotFound):
            await mux.get(made.id)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_what_may_be_done_twice_is_sent_again(status: int, tmp_path: Path) -> None:
    async with client(tmp_path) as (fake, mux):
        made = await mux.create(OPTIONS, "ours")
        fake.fault(f"GET {ONE}", status=status, times=4)
        assert (await mux.get(made.id)).id == made.id
        assert fake.requests.count(f"GET {ONE}") == 5


async def test_it_is_not_sent_for_ever(tmp_path: Path) -> None:
    """`mux.max_retries` times, then the caller hears why."""
    async with client(tmp_path, max_retries=2) as (fake, mux):
        fake.fault(f"GET {ONE}", times=9)
        with pytest.raises(MuxUnavailable, match="500: it broke"):
            await mux.get("live-1")
        assert fake.requests.count(f"GET {ONE}") == 3


@pytest.mark.parametrize("kind", ["hang", "hang_after", "hang_up_after"])
async def test_timeouts_and_broken_connections_too(kind: Any, tmp_path: Path) -> None:
    """A ``complete`` may be done twice, a deletion was done when the second finds nothing."""
    async with client(tmp_path, timeout=0.2) as (fake, mux):
        made = await mux.create(OPTIONS, "ours")
        fake.fault(f"PUT {ONE}/complete", kind)
        await mux.complete(made.id)
        fake.fault(f"DELETE {ONE}", kind)
        await mux.delete(made.id)
        assert fake.streams == {}


@pytest.mark.parametrize("kind", ["hang", "hang_after", "hang_up_after", "garbage", "huge", "status"])
async def test_a_create_that_may_have_worked_is_looked_for_first(kind: Any, tmp_path: Path) -> None:
    """However it failed: there is one live stream in the end, and it is the one that was returned."""
    async with client(tmp_path, timeout=0.3) as (fake, mux):
        await mux.create(OPTIONS, "another")
        fake.fault(CREATE, kind)
        made = await mux.create(OPTIONS, "ours")
        assert [number for number, s in fake.streams.items() if s["passthrough"] == "ours"] == [made.id]
        made_again = fake.requests.count(CREATE) == 3
        assert made_again == (kind in ("hang", "status"))
        assert LIST in fake.requests


async def test_a_create_that_was_only_slow_leaves_no_second_one(tmp_path: Path) -> None:
    """The first request is carried out after the second: the first one's live stream is deleted."""
    async with client(tmp_path) as (fake, _):
        fake.fault(CREATE, "hang")
        requests = fake._handle

        async def late(request: Request) -> Reply:
            if fake.requests.count(CREATE) == 1 and request.method == "POST":
                await fake._route(request)  # the first one, carried out at last
            return await requests(request)

        async with (
            serve(late) as api,
            MuxClient(mux_config(tmp_path, api, timeout=0.3), jitter=lambda: 0) as slow,
        ):
            made = await slow.create(OPTIONS, "ours")
        assert list(fake.streams) == [made.id]


@pytest.mark.parametrize("status", [429])
async def test_a_create_that_was_turned_away_is_just_sent_again(status: int, tmp_path: Path) -> None:
    """It was not looked at, so there is nothing to look for."""
    async with client(tmp_path) as (fake, mux):
        fake.fault(CREATE, status=status, times=2)
        await mux.create(OPTIONS, "ours")
        assert fake.requests == [CREATE] * 3


async def test_a_create_in_doubt_is_found_on_a_later_page(tmp_path: Path) -> None:
    async with client(tmp_path, timeout=0.5) as (fake, mux):
        made = await mux.create(OPTIONS, "ours")
        for number in range(250):
            fake.streams[f"other-{number}"] = {
                **fake.streams[made.id],
                "id": f"x{number}",
                "passthrough": "x",
            }
        found = await mux.find("ours")
        assert found is not None
        assert found.id == made.id
        assert fake.requests.count(LIST) == 3
        assert await mux.find("nobody's") is None


async def test_what_cannot_be_known_is_said(tmp_path: Path) -> None:
    """Mux went away in the middle: the caller gets the id to look for later."""
    async with client(tmp_path, timeout=0.2, max_retries=1) as (fake, mux):
        fake.fault(CREATE, "hang_up_after")
        fake.fault(LIST, times=9)
        with pytest.raises(MuxUnclear) as caught:
            await mux.create(OPTIONS, "ours")
        assert caught.value.passthrough == "ours"
        assert len(fake.streams) == 1


async def test_other_things_are_not_made_twice_either(tmp_path: Path) -> None:
    async with client(tmp_path, timeout=0.3) as (fake, mux):
        made = await mux.create(OPTIONS, "ours")
        fake.fault(f"POST {ONE}/simulcast-targets", "hang_after")
        target = await mux.create_simulcast_target(made.id, "rtmp://example.org/app", "their-key", "t")
        fake.fault(f"POST {ONE}/playback-ids", "hang_up_after")
        playback = await mux.create_playback_id(made.id, "signed")
        found = await mux.get(made.id)
        assert [each.id for each in found.simulcast_targets] == [target.id]
        assert [each.id for each in found.playback_ids][1:] == [playback.id]


async def test_a_reset_in_doubt_ends_with_the_key_that_mux_has(tmp_path: Path) -> None:
    async with client(tmp_path, timeout=0.3) as (fake, mux):
        made = await mux.create(OPTIONS, "ours")
        fake.fault(f"POST {ONE}/reset-stream-key", "hang_after")
        found = await mux.reset_stream_key(made.id)
        assert found.stream_key == fake.streams[made.id]["stream_key"]
        assert fake.requests[-1] == f"GET {ONE}"


async def test_nobody_there_is_unavailable(tmp_path: Path, unused_port: int) -> None:
    """A create that never left is not unclear."""
    config = mux_config(tmp_path, f"http://127.0.0.1:{unused_port}", max_retries=1)
    async with MuxClient(config, jitter=lambda: 0) as mux:
        with pytest.raises(MuxUnavailable, match="cannot be reached") as caught:
            await mux.create(OPTIONS, "ours")
        assert not isinstance(caught.value, MuxUnclear)


async def test_the_deadline_is_for_all_attempts_together(tmp_path: Path) -> None:
    async with client(tmp_path, timeout=5.0, deadline=0.3) as (fake, mux):
        fake.fault(f"GET {ONE}", "hang")
        with pytest.raises(MuxUnavailable, match=r"mux.deadline, 0.3 s"):
            await mux.get("live-1")


async def test_a_wait_beyond_the_deadline_is_not_begun(tmp_path: Path) -> None:
    """The caller hears at once how long Mux asked for."""
    async with client(tmp_path, deadline=30.0) as (fake, mux):
        fake.fault(f"GET {ONE}", status=429, retry_after="45")
        with pytest.raises(MuxUnavailable) as caught:
            await mux.get("live-1")
        assert caught.value.retry_after == 45


async def test_what_mux_refuses_is_refused_in_its_words(tmp_path: Path) -> None:
    """And not sent again."""
    async with client(tmp_path) as (fake, mux):
        with pytest.raises(MuxRefused, match="Mux answered 400: reconnect_window must be between 0 and 1800"):
            await mux.create(attrs.evolve(OPTIONS, reconnect_window=1801.0), "ours")
        assert fake.requests == [CREATE]


async def test_a_refusal_does_not_repeat_what_may_be_secret(tmp_path: Path) -> None:
    """The fake repeats the URL that it was given, as servers do."""
    async with client(tmp_path) as (_, mux):
        made = await mux.create(OPTIONS, "ours")
        with pytest.raises(MuxRefused, match="Invalid url •••") as caught:
            await mux.create_simulcast_target(made.id, "http://user:hidden@x/y", "their-key", "t")
        assert "hidden" not in str(caught.value)


async def test_a_wrong_token_is_for_the_operator(tmp_path: Path) -> None:
    """The file that was mended is read with the next call."""
    async with client(tmp_path) as (_, mux):
        (tmp_path / "secret").write_text("wrong-and-hidden")
        with pytest.raises(MuxUnauthorised, match=r"401.*Mux Video read and write") as caught:
            await mux.get("live-1")
        assert "hidden" not in f"{caught.value!r}{caught.value}"
        (tmp_path / "secret").unlink()
        with pytest.raises(MuxUnauthorised, match=r"mux.token_secret_file: cannot read"):
            await mux.get("live-1")
        (tmp_path / "secret").write_text(TOKEN_SECRET)
        with pytest.raises(MuxNotFound):
            await mux.get("live-1")


async def test_without_a_token_nothing_is_sent(tmp_path: Path) -> None:
    async with client(tmp_path, token_secret_file="") as (fake, mux):
        with pytest.raises(MuxUnauthorised, match="are not set"):
            await mux.get("live-1")
        assert fake.requests == []


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(302, headers=(("Location", "http://127.0.0.1:1/"),)), "302; is mux.api right"),
        (Reply(200, b"<html>"), "without JSON"),
        (Reply(200, b"[1]"), "without JSON"),
        (Reply(200, b'{"data": []}'), "expected a live stream"),
        (Reply(200, b'{"data": {"id": ""}}'), "expected an id"),
        (Reply(200, b'{"data": {"id": "x", "status": 1}}'), "status"),
        (Reply(200, b'{"data": {"id": "x", "status": "idle"}}'), "stream key"),
        (Reply(200, b" " * (2**20 + 1)), "longer than 1048576 bytes"),
        (Reply(200, b"\x1f\x8b", headers=(("Content-Encoding", "gzip"),)), "without JSON"),
    ],
)
async def test_answers_that_are_not_mux_s_are_told_apart(reply: Reply, says: str, tmp_path: Path) -> None:
    """No redirect is followed, no answer is read without end."""

    async def handler(_request: Request) -> Reply:
        return reply

    async with serve(handler) as api, MuxClient(mux_config(tmp_path, api, max_retries=0)) as mux:
        with pytest.raises(MuxUnavailable, match=says):
            await mux.get("x")


async def test_ids_cannot_leave_their_path(tmp_path: Path) -> None:
    async with client(tmp_path) as (fake, mux):
        with pytest.raises(MuxNotFound):
            await mux.get("../assets?x=1")
        assert fake.requests == ["GET /video/v1/live-streams/..%2Fassets%3Fx%3D1"]


def test_no_two_ids_that_we_give_are_the_same() -> None:
    """They say whose they are, and fit into Mux's 255 characters."""
    made = {passthrough_of("s" * 64) for _ in range(100)}
    assert len(made) == 100
    assert all(each.startswith("ingestd:ssss") and len(each) <= 255 for each in made)


# How long it waits, by a clock that does not


class Scripted:
    """In place of `Http`: the failures of a script, then an answer; and when each was sent."""

    def __init__(self, *script: Failed) -> None:
        self.script = list(script)
        self.sent: list[float] = []

    async def send(self, *_request: object) -> Answer:
        await trio.lowlevel.checkpoint()
        self.sent.append(trio.current_time())
        if self.script:
            raise self.script.pop(0)
        return Answer(200, {"id": "x", "status": "idle", "stream_key": "k"}, None)

    async def aclose(self) -> None:
        pass


def scripted(script: Scripted, **changes: Any) -> MuxClient:
    config = MuxConfig(**{"deadline": 300.0, "max_retries": 20, **changes})
    return MuxClient(config, http=script, jitter=lambda: 0.5)  # type: ignore[arg-type]


async def test_waits_double_up_to_a_bound(autojump_clock: MockClock) -> None:
    """Half of 0.5, 1, 2, 4, 8, 8 seconds, as the jitter here is always a half."""
    script = Scripted(*[Failed("x", done=True) for _ in range(6)])
    await scripted(script).get("x")
    waits = [later - sooner for sooner, later in zip(script.sent, script.sent[1:], strict=False)]
    assert waits == pytest.approx([0.25, 0.5, 1, 2, 4, 4])


async def test_retry_after_is_waited_for(autojump_clock: MockClock) -> None:
    """With the jitter on top, and never longer than a minute."""
    script = Scripted(*[Failed("x", done=False, retry_after=seconds) for seconds in (7.0, 3600.0)])
    await scripted(script).get("x")
    waits = [later - sooner for sooner, later in zip(script.sent, script.sent[1:], strict=False)]
    assert waits == pytest.approx([7.25, 60.5])


async def test_the_last_wait_ends_before_the_deadline(autojump_clock: MockClock) -> None:
    script = Scripted(*[Failed("x", done=True) for _ in range(99)])
    with pytest.raises(MuxUnavailable):
        await scripted(script, deadline=10.0).get("x")
    assert script.sent[-1] - script.sent[0] <= 10


async def test_a_date_is_a_time_to_come_back_at(tmp_path: Path) -> None:
    """``Retry-After`` as a date that has passed: at once."""
    async with client(tmp_path) as (fake, mux):
        made = await mux.create(OPTIONS, "ours")
        fake.fault(f"GET {ONE}", status=503, retry_after=formatdate(0, usegmt=True))
        assert (await mux.get(made.id)).id == made.id


@pytest.mark.parametrize(
    ("kind", "status", "outcome"),
    [
        ("status", 503, "failed"), ("status", 408, "failed"), ("status", 429, "throttled"),
        ("status", 401, "unauthorised"), ("status", 404, "refused"), ("status", 302, "failed"),
        ("garbage", 0, "failed"), ("huge", 0, "failed"), ("hang", 0, "lost"), ("hang_up_after", 0, "lost"),
    ],
)  # fmt: skip
async def test_each_request_is_counted_by_its_outcome(
    tmp_path: Path, kind: Any, status: int, outcome: str
) -> None:
    """One that fails, then one that is answered: for Prometheus."""
    async with client(tmp_path, timeout=0.2) as (fake, mux):
        made = await mux.create(OPTIONS, "ours")
        fake.fault(f"GET {ONE}", kind, status=status)
        with suppress(MuxError):
            await mux.get(made.id)
        assert mux.outcomes[outcome] == 1  # type: ignore[index]
        assert sum(mux.outcomes.values()) == len(fake.requests)


async def test_what_is_not_reached_or_given_up_is_counted(tmp_path: Path, unused_port: int) -> None:
    """Nobody listens; and a call that is cancelled under way."""
    async with client(tmp_path) as (fake, mux):
        fake.fault(".*", "hang")
        with trio.move_on_after(0.2):
            await mux.get("live-1")
        assert {key: count for key, count in mux.outcomes.items() if count} == {"lost": 1}
    config = mux_config(tmp_path, f"http://127.0.0.1:{unused_port}", max_retries=1)
    async with MuxClient(config, jitter=lambda: 0) as mux:
        with pytest.raises(MuxUnavailable):
            await mux.get("live-1")
        assert {key: count for key, count in mux.outcomes.items() if count} == {"unreachable": 2}


Call = Callable[[MuxClient], Awaitable[LiveStream | None]]


@pytest.mark.parametrize(
    "call", [lambda mux: mux.get("live-1"), lambda mux: mux.create(OPTIONS, "p"), lambda mux: mux.find("p")]
)
async def test_it_can_be_cancelled_anywhere(call: Call, tmp_path: Path) -> None:
    async with client(tmp_path) as (fake, mux):
        fake.fault(".*", "hang")
        with trio.move_on_after(0.1) as scope:
            await call(mux)
        assert scope.cancelled_caught


def test_each_error_is_one_of_ours() -> None:
    for kind in (MuxUnavailable, MuxUnclear, MuxUnauthorised, MuxNotFound, MuxRefused):
        assert issubclass(kind, MuxError)
