"""The application is asked over real HTTP: its yes, its no, and all the ways in which it can fail."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from ingestd.auth import application
from ingestd.auth.application import Application, ApplicationDown, Question
from ingestd.config import Auth
from tests.auth.serving import Answer, Server, http_server
from tests.daemon.tools import AT_ONCE, COPY, MKV, browser_chunks, closed_with, connect, live
from tests.support.daemon import Daemon, daemon

KEY = "Sk_secret-0123456789"
PUBLISH = Question("publish", "cam", "192.0.2.1", KEY)


@asynccontextmanager
async def asking(status: int = 200, **options: Any) -> AsyncIterator[tuple[Application, Server]]:
    """An application that answers with *status*, and who asks it."""

    async def answer(path: str, body: bytes) -> Answer:
        return status, {}, b"{}"

    with trio.fail_after(20):
        async with http_server(answer) as made, httpx.AsyncClient(trust_env=False, timeout=5) as http:
            config = Auth(url=options.pop("url", made.url("/may")), **options)
            yield Application(config, http), made


@pytest.mark.parametrize(("status", "may"), [(200, True), (204, True), (401, False), (403, False)])
async def test_yes_and_no(status: int, may: bool) -> None:
    """It gets who asks for what, and says it by its status alone."""
    async with asking(status) as (app, made):
        assert await app.may(PUBLISH) is may
        assert made.asked[0][0] == "/may"
        asked = {"action": "publish", "stream": "cam", "remote": "192.0.2.1", "key": KEY}
        assert made.questions == [asked]
        await app.may(Question("watch", "cam", "192.0.2.1"))
        assert made.questions[1] == {"action": "watch", "stream": "cam", "remote": "192.0.2.1"}


@pytest.mark.parametrize("status", [500, 503, 404, 302, 400])
@pytest.mark.parametrize("when_down", ["deny", "allow"])
async def test_what_is_neither_is_no_answer(status: int, when_down: Any) -> None:
    """when_down holds then; the log says why, without the key; it is asked again the next time."""
    async with asking(status, when_down=when_down) as (app, made):
        for _ in range(2):
            with capture_logs() as logs:
                if when_down == "allow":
                    assert await app.may(PUBLISH)
                else:
                    with pytest.raises(ApplicationDown):
                        await app.may(PUBLISH)
            assert (logs[0]["event"], logs[0]["cause"]) == ("application_down", f"status {status}")
            assert KEY not in str(logs)
        assert len(made.asked) == 2


async def test_a_redirect_is_not_followed() -> None:
    """The key goes where the operator said, and nowhere else."""

    async def other(path: str, body: bytes) -> Answer:
        return 200, {}, b""

    async def redirect(path: str, body: bytes) -> Answer:
        return 307, {"Location": elsewhere.url()}, b""

    async with http_server(other) as elsewhere, http_server(redirect) as made:
        async with httpx.AsyncClient(trust_env=False) as http:
            with pytest.raises(ApplicationDown):
                await Application(Auth(url=made.url()), http).may(PUBLISH)
        assert (len(made.asked), len(elsewhere.asked)) == (1, 0)


async def test_one_that_refuses_connections_is_down() -> None:
    async with asking() as (_, made):
        url = made.url()
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(ApplicationDown):
            await Application(Auth(url=url), http).may(PUBLISH)


async def test_one_that_is_slow_is_down() -> None:
    """After the timeout, wherever it stalls: before its answer, or in the middle of it."""

    async def silent(path: str, body: bytes) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    async def drip(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some(65536)
            await stream.send_all(b"HTTP/1.1 200 OK\r\n")
            while True:
                await stream.send_all(b"X-More: 1\r\n")
                await trio.sleep(0.05)
        except trio.BrokenResourceError:
            pass

    async with http_server(silent) as made, trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, drip, listeners)
        port = listeners[0].socket.getsockname()[1]
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            for url in (made.url(), f"http://127.0.0.1:{port}/"):
                with pytest.raises(ApplicationDown), trio.fail_after(3):
                    await Application(Auth(url=url, timeout=0.2), http).may(PUBLISH)
        nursery.cancel_scope.cancel()


async def test_a_huge_answer_is_not_read() -> None:
    """What is more than 64 KiB of a body is left; the status has said it already."""

    async def huge(path: str, body: bytes) -> Answer:
        return 200, {}, b"x" * 50_000_000

    async with http_server(huge) as made, httpx.AsyncClient(trust_env=False) as http:
        with trio.fail_after(3):
            assert await Application(Auth(url=made.url()), http).may(PUBLISH)


async def test_answers_are_remembered_for_their_time() -> None:
    """Yes and no each for their own, by all that was asked: another key, client or stream is asked anew."""
    async with asking(200, cache=0.3, cache_refused=0.3) as (app, made):
        for _ in range(3):
            assert await app.may(PUBLISH)
        assert len(made.asked) == 1
        others = [
            Question("watch", "cam", "192.0.2.1", KEY),
            Question("publish", "cam2", "192.0.2.1", KEY),
            Question("publish", "cam", "192.0.2.2", KEY),
            Question("publish", "cam", "192.0.2.1", "other"),
            Question("publish", "cam", "192.0.2.1"),
            Question("publish", "cam", "192.0.2.1", ""),
        ]
        for other in others:
            assert await app.may(other)
        assert len(made.asked) == 7
        await trio.sleep(0.35)
        assert await app.may(PUBLISH)
        assert len(made.asked) == 8
    async with asking(403, cache=0.0, cache_refused=60.0) as (app, made):
        assert [await app.may(PUBLISH) for _ in range(3)] == [False] * 3
        assert len(made.asked) == 1
    async with asking(200, cache=0.0) as (app, made):
        assert [await app.may(PUBLISH) for _ in range(3)] == [True] * 3
        assert len(made.asked) == 3


async def test_what_is_remembered_is_bounded_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "MAX_ANSWERS", 2)
    async with asking() as (app, made):
        for stream in ("a", "b", "a", "c", "a", "b"):
            await app.may(Question("publish", stream, "192.0.2.1", KEY))
        assert [question["stream"] for question in made.questions] == ["a", "b", "c", "b"]
        assert len(app._answers) == 2
        assert KEY not in repr(app._answers) + repr(PUBLISH)


async def test_questions_at_a_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more waits, and its waiting counts."""
    monkeypatch.setattr(application, "MAX_QUESTIONS", 2)
    answering = trio.Event()

    async def slow(path: str, body: bytes) -> Answer:
        await answering.wait()
        return 200, {}, b""

    async with http_server(slow) as made, httpx.AsyncClient(trust_env=False, timeout=5) as http:
        app = Application(Auth(url=made.url(), timeout=0.3), http)
        down: list[str] = []

        async def ask(stream: str) -> None:
            try:
                await app.may(Question("watch", stream, "192.0.2.1"))
            except ApplicationDown:
                down.append(stream)

        async with trio.open_nursery() as nursery:
            for i in range(5):
                nursery.start_soon(ask, str(i))
        answering.set()
        assert len(down) == 5
        assert len(made.asked) <= 2


# Whose key it is

WHOSE = Question("publish", None, "192.0.2.1", KEY)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"stream": "cam"}', "cam"),
        (200, b'{"stream": "cam", "more": [1]}', "cam"),
        (403, b'{"stream": "cam"}', None),
        (200, b"{}", ApplicationDown),
        (200, b"", ApplicationDown),
        (204, b"", ApplicationDown),
        (200, b'["cam"]', ApplicationDown),
        (200, b'{"stream": "../cam"}', ApplicationDown),
        (200, b'{"stream": 1}', ApplicationDown),
        (200, b'{"stream": "cam"}' + b" " * 70_000, ApplicationDown),
        (200, b"[" * 60_000, ApplicationDown),
        (500, b'{"stream": "cam"}', ApplicationDown),
    ],
)
@pytest.mark.parametrize("when_down", ["deny", "allow"])
async def test_whose_a_key_is(status: int, body: bytes, expected: Any, when_down: Any) -> None:
    """The name that it says, or none; while it does not say, nobody is let in, whatever when_down says."""

    async def answer(path: str, asked: bytes) -> Answer:
        return status, {}, body

    async with http_server(answer) as made, httpx.AsyncClient(trust_env=False) as http:
        app = Application(Auth(url=made.url(), when_down=when_down), http)
        if expected is ApplicationDown:
            with pytest.raises(ApplicationDown), capture_logs() as logs:
                await app.whose(WHOSE)
            assert KEY not in str(logs)
        else:
            assert [await app.whose(WHOSE) for _ in range(2)] == [expected] * 2
            assert made.questions == [{"action": "publish", "remote": "192.0.2.1", "key": KEY}]


async def test_the_application_may_have_keys_of_its_own(tmp_path: Path) -> None:
    """A key that is none of ours is the stream's that it names; a wrong one counts as a wrong one of ours."""

    async def answer(path: str, body: bytes) -> Answer:
        asked = json.loads(body)
        if "stream" in asked:
            return 204, {}, b""
        stream = {"theirs": "cam", "lost": "nowhere"}.get(asked["key"])
        return (200, {}, json.dumps({"stream": stream}).encode()) if stream else (403, {}, b"")

    config = '[auth]\nurl = "{}"\nunknown_keys = "ask"\nfailures = "3/1h"\n'
    config += 'cache = "0s"\ncache_refused = "0s"\n'
    async with http_server(answer) as made:
        with daemon(tmp_path, COPY + AT_ONCE + MKV, config=config.format(made.url())) as running:
            async with live(running, browser_chunks(), key="theirs"):
                await running.wait_until(lambda status: status["state"] == "live")
            assert made.questions == [{"action": "publish", "remote": "127.0.0.1", "key": "theirs"}]
            await running.wait_ended()
            async with live(running, browser_chunks()):
                await running.wait_until(lambda status: status["state"] == "live")
            assert made.questions[-1]["stream"] == "cam"
            await running.wait_ended()
            codes = [await refused(running, key) for key in ("lost", "nobodys", "nobodys", "theirs")]
            assert codes == [4401, 4401, 4401, 4429]
            assert len(made.questions) == 5
        assert "theirs" not in running.log.read_text()


async def refused(running: Daemon, key: str) -> int | None:
    async with connect(running, key) as publisher:
        code, _ = await closed_with(publisher)
        return code


async def test_many_guesses_at_a_time_are_not_tried_for_the_price_of_one(tmp_path: Path) -> None:
    """They are all under way before the first is known to be wrong: the right one among them is held back."""
    thinking = trio.Event()

    async def answer(path: str, body: bytes) -> Answer:
        if json.loads(body)["key"] == "right":
            await thinking.wait()
            return 200, {}, b'{"stream": "cam"}'
        return 403, {}, b""

    config = '[auth]\nurl = "{}"\nunknown_keys = "ask"\nfailures = "3/1h"\n'
    codes: list[int | None] = []
    async with http_server(answer) as made:
        with daemon(tmp_path, COPY + AT_ONCE + MKV, config=config.format(made.url())) as running:

            async def guess(key: str) -> None:
                codes.append(await refused(running, key))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(guess, "right")
                with trio.fail_after(10):
                    while not made.asked:  # noqa: ASYNC110  there is no event
                        await trio.sleep(0.01)
                for number in range(3):
                    await guess(f"wrong{number}")
                thinking.set()
    assert codes == [4401, 4401, 4401, 4429]
