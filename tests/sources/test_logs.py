"""Each cause has its log event, and no log, error or repr ever holds the stream key."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from ingestd.errors import PublishRefused
from ingestd.sources.secrets import Secrets
from ingestd.sources.upgrade import read_upgrade
from tests.sources.receiving import (
    BINARY,
    CLOSE,
    KEY,
    PING,
    TEXT,
    Client,
    Door,
    Receiver,
    frame,
    receiver,
    request,
)

Scenario = Callable[[Receiver], Awaitable[Any]]


async def unknown_path(r: Receiver) -> None:
    assert await (await r.connect()).upgrade(f"/stream/watch/{KEY}") == 404


async def no_upgrade(r: Receiver) -> None:
    assert await (await r.connect()).upgrade(Upgrade=None) == 426


async def endless_handshake(r: Receiver) -> None:
    client = await r.connect()
    await client.send(request(f"/{KEY}")[:-4])
    assert await client.status() == 408


async def refused(r: Receiver) -> None:
    r.door.refusal = PublishRefused(4409, f"stream already live, and a careless reason: {KEY}")
    await (await r.publisher()).close_code()


async def unknown_key(r: Receiver) -> None:
    await (await r.publisher(f"/{KEY[:-1]}")).close_code()


def publishing(*frames: bytes) -> Scenario:
    async def scenario(r: Receiver) -> None:
        client = await r.publisher()
        await client.send(b"".join(frames))
        await client.close_code(reply=False)

    return scenario


async def aborted(r: Receiver) -> None:
    client = await r.publisher()
    await client.send(frame(BINARY, b"x"))
    await r.door.receive()
    client.reset()
    with pytest.raises(trio.EndOfChannel):
        await r.door.receive()


async def stalled(r: Receiver) -> None:
    client = await r.publisher()
    await client.send(frame(BINARY, bytes(5000))[:100])
    while (received := await client.frame()) is not None and received[0] == PING:
        await client.send(b"\x00")


async def session_ends(r: Receiver) -> None:
    client = await r.publisher()
    r.door.publications[0].close(4415, "byte 0: not WebM")
    await client.close_code()


async def bug(r: Receiver) -> None:
    def broken(key: str) -> None:
        raise KeyError(key)

    r.door.on_admit = broken
    await (await r.publisher()).close_code()


async def daemon_stops(r: Receiver) -> None:
    client = await r.publisher()
    r.scope.cancel()
    await client.close_code()


def said(code: int, reason: str) -> bytes:
    return frame(CLOSE, code.to_bytes(2) + reason.encode())


@pytest.mark.parametrize(
    ("scenario", "event", "told"),
    [
        (unknown_path, "upgrade_refused", {"status": 404}),
        (no_upgrade, "upgrade_refused", {"status": 426}),
        (endless_handshake, "handshake_timeout", {"status": 408}),
        (unknown_key, "publisher_refused", {"code": 4401, "reason": "unknown stream key"}),
        (refused, "publisher_refused", {"code": 4409}),
        (publishing(frame(TEXT, KEY.encode())), "publisher_gone", {"by": "ingestd", "code": 1003}),
        (publishing(frame(BINARY, bytes(2**17))), "publisher_gone", {"by": "ingestd", "code": 1009}),
        (publishing(request(f"/{KEY}")), "publisher_gone", {"by": "ingestd", "code": 1002}),
        (publishing(frame(BINARY, b"x")), "publisher_gone", {"by": "ingestd", "code": 4410, "chunks": 1}),
        (stalled, "publisher_gone", {"by": "ingestd", "code": 4408, "chunks": 0}),
        (
            publishing(frame(PING, KEY.encode()), frame(BINARY), said(1001, f"bye {KEY}")),
            "publisher_gone",
            {"by": "publisher", "code": 1001, "reason": "bye [key]", "chunks": 0, "empty": 1},
        ),
        (publishing(frame(CLOSE)), "publisher_gone", {"by": "publisher", "code": 1005}),
        (aborted, "publisher_gone", {"by": "network", "code": 1006, "chunks": 1}),
        (session_ends, "publisher_gone", {"by": "ingestd", "code": 4415, "reason": "byte 0: not WebM"}),
        (bug, "connection_failed", {"log_level": "critical"}),
        (daemon_stops, "publisher_gone", {"by": "ingestd", "code": 1001}),
    ],
)
async def test_each_cause_is_logged_and_the_key_is_not(
    scenario: Scenario, event: str, told: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Everything at DEBUG, the standard library's loggers included."""
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        async with receiver(
            Door(), ping_interval=0.1, ping_timeout=0.3, handshake_timeout=0.3, max_message=2**16
        ) as r:
            with caplog.at_level(logging.DEBUG):
                await scenario(r)
                await trio.sleep(0.02)
    (record,) = [log for log in logs if log["event"] == event]
    assert told.items() <= record.items()
    assert record["remote"].startswith("127.0.0.1:")
    if event == "publisher_gone":
        assert record["stream"] == "demo"
    text = repr(logs) + caplog.text + repr(caplog.records) + repr(r.door.publications)
    assert KEY[:-1] not in text


async def test_objects_that_hold_the_key_do_not_show_it() -> None:
    """Neither the handshake's object nor the request that trio-websocket is given."""
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(request(f"/{KEY}"))
    upgrade = await read_upgrade(ours)
    assert upgrade is not None
    assert upgrade.key == KEY
    assert KEY not in repr(upgrade)
    assert KEY.encode() not in upgrade.request
    secrets = Secrets(upgrade.key, None, "", KEY[:-2])
    assert secrets.redact(f"KeyError('{KEY}')") == "KeyError('[key]')"
    assert KEY[:-2] not in repr(secrets)


async def test_traffic_of_a_long_run_is_not_logged() -> None:
    """Two events a publisher, however many chunks."""
    with capture_logs() as logs:
        async with receiver(Door(capacity=1000)) as r:
            client: Client = await r.publisher()
            await client.send(frame(BINARY, b"x") * 500 + frame(CLOSE))
            assert len(await r.door.all_chunks()) == 500
            await client.end()
    assert [log["event"] for log in logs] == ["publisher_connected", "publisher_gone"]
