"""Before a publisher's session: the origin of its page, wrong keys, and the application's word."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from ingestd.auth.application import Application
from ingestd.auth.gate import Gate
from ingestd.auth.pages import Pages
from ingestd.auth.proxies import Proxies
from ingestd.auth.rates import Rates
from ingestd.config import Auth
from ingestd.errors import PublishRefused
from tests.auth.serving import Answer, http_server
from tests.sources.receiving import BINARY, KEY, QUIET, Door, Receiver, frame, receiver
from tests.sources.speaking import text

NONE = (0, 0.0)


def gate(
    *,
    public_url: str = "",
    origins: tuple[str, ...] = (),
    proxies: tuple[str, ...] = (),
    failures: Any = NONE,
    in_all: Any = NONE,
    application: Application | None = None,
) -> Gate:
    return Gate(
        Pages.of(QUIET.bind, public_url, origins), Proxies.of(proxies), Rates(failures, in_all), application
    )


async def refused(r: Receiver, key: str = "wrong", **headers: str | None) -> tuple[int, str]:
    """The close code and reason that a publisher with *key* gets."""
    client = await r.connect()
    assert await client.upgrade(f"/stream/live/{key}", **headers) == 101
    return await client.close_code()


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("http://127.0.0.1:8080", 101),
        ("http://localhost:3000", 101),
        ("https://live.example.org", 101),
        ("https://app.example.org", 101),
        ("https://evil.example", 403),
        ("http://live.example.org", 403),
        ("null", 403),
        ("", 403),
        ("http://127.0.0.1:8080, https://evil.example", 403),
    ],
)
async def test_which_pages_may_publish(origin: str | None, status: int) -> None:
    """Those of this host, the public URL's and the listed; a client that is no page is not asked."""
    door = gate(public_url="https://live.example.org", origins=("https://app.example.org",))
    async with receiver(gate=door) as r:
        client = await r.connect()
        assert await client.upgrade(f"/stream/live/{KEY}", Host="127.0.0.1:8081", Origin=origin) == status
        if status == 403:
            assert "origins in [ingest]" in await client.body()
            assert r.door.asked == 0


async def test_a_refused_page_is_logged_by_its_origin() -> None:
    """So that the operator sees what to list; odd text is not repeated."""
    with capture_logs() as logs:
        async with receiver() as r:
            for origin in ("https://app.example.org", f"https://app.example.org/{KEY}"):
                client = await r.connect()
                assert await client.upgrade(f"/stream/live/{KEY}", Origin=origin) == 403
    found = [entry for entry in logs if entry["event"] == "upgrade_refused"]
    assert [entry["origin"] for entry in found] == ["https://app.example.org", "null"]
    assert KEY not in str(logs)


async def test_wrong_keys_are_limited_by_address() -> None:
    """4429 before the key is looked at; the right key from another address never waits."""
    door = gate(proxies=("127.0.0.1",), failures=(3, 60.0), in_all=(5, 60.0))
    async with receiver(gate=door) as r:
        for i in range(3):
            assert (await refused(r, f"wrong-{i}", X_Forwarded_For="192.0.2.1"))[0] == 4401
        asked = r.door.asked
        code, reason = await refused(r, KEY, X_Forwarded_For="192.0.2.1")
        assert (code, "try again in" in reason) == (4429, True)
        assert r.door.asked == asked
        for i in range(6):
            await refused(r, "wrong", X_Forwarded_For=f"198.51.100.{i}")
        client = await r.connect()
        assert await client.upgrade(f"/stream/live/{KEY}", X_Forwarded_For="203.0.113.5") == 101
        await client.send(frame(BINARY, b"x"))
        while not r.door.publications:  # noqa: ASYNC110  across a real socket
            await trio.sleep(0.001)
        assert await r.door.receive() == b"x"
        assert r.door.publications[-1].remote == "203.0.113.5"


async def test_right_keys_are_not_counted() -> None:
    async with receiver(gate=gate(failures=(1, 60.0))) as r:
        for _ in range(5):
            await r.publisher()


async def test_other_refusals_are_not_counted() -> None:
    """A right key whose stream is live already is no guess."""
    door = Door(refusal=PublishRefused(4409, "this stream is already live"))
    async with receiver(door, gate(failures=(1, 60.0))) as r:
        for _ in range(3):
            assert (await refused(r, KEY))[0] == 4409


async def test_wrong_keys_in_the_first_message_count_too() -> None:
    """A publisher of ingestd.v1 may have its key there."""
    async with receiver(gate=gate(failures=(2, 60.0))) as r:
        codes = []
        for _ in range(3):
            client = await r.connect()
            await client.upgrade("/stream/live", Sec_WebSocket_Protocol="ingestd.v1")
            await client.send(text("open", key="wrong"))
            codes.append((await client.close_code())[0])
        assert codes == [4401, 4401, 4429]


@pytest.mark.parametrize(
    ("status", "when_down", "code"),
    [
        (204, "deny", None),
        (403, "deny", 4401),
        (403, "allow", 4401),
        (500, "deny", 4500),
        (500, "allow", None),
    ],
)
async def test_the_application_has_its_say(status: int, when_down: Any, code: int | None) -> None:
    """Only about publishers with a right key; it gets key and address, and no session begins without it."""

    async def answer(path: str, body: bytes) -> Answer:
        return status, {}, b""

    async with http_server(answer) as made, httpx.AsyncClient(trust_env=False) as http:
        asks = Application(Auth(url=made.url(), when_down=when_down), http)
        async with receiver(gate=gate(application=asks)) as r:
            assert (await refused(r))[0] == 4401
            assert made.asked == []
            asked = r.door.asked
            if code is None:
                await r.publisher()
            else:
                assert (await refused(r, KEY))[0] == code
                assert r.door.asked == asked
            question = {"action": "publish", "stream": "demo", "remote": "127.0.0.1", "key": KEY}
            assert made.questions == [question]


async def test_a_publisher_that_leaves_while_the_application_thinks() -> None:
    """It is nobody's error, and the next one is served."""
    thinking = trio.Event()

    async def answer(path: str, body: bytes) -> Answer:
        if len(made.asked) == 1:
            thinking.set()
            await trio.sleep(0.2)
        return 204, {}, b""

    async with http_server(answer) as made, httpx.AsyncClient(trust_env=False) as http:
        door = gate(application=Application(Auth(url=made.url(), cache=0.0), http))
        async with receiver(gate=door) as r:
            client = await r.connect()
            await client.upgrade()
            await thinking.wait()
            client.reset()
            await r.publisher()
