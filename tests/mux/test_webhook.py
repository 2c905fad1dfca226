"""``POST /webhooks/mux`` on the daemon's own HTTP server: what is taken, and what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from attrs import frozen
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from ingestd.address import Address
from ingestd.control import mux as control_mux
from ingestd.control import server
from ingestd.control.errors import http_problem
from ingestd.mux.events import MuxEvent
from ingestd.mux.inbox import Outcome
from ingestd.mux.receiver import Receiver
from tests.mux.tools import mux_config
from tests.support.fake_mux import WEBHOOK_SECRET, FakeMux


@frozen
class Hook:
    """A listener for webhooks, a fake that sends them, and what came through."""

    url: str
    fake: FakeMux
    taken: list[MuxEvent]
    directory: Path

    async def post(self, body: bytes | AsyncIterator[bytes], header: str | None) -> httpx.Response:
        headers = {} if header is None else {"Mux-Signature": header}
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.post(self.url, content=body, headers=headers)


@asynccontextmanager
async def hook(directory: Path, **changes: Any) -> AsyncIterator[Hook]:
    taken: list[MuxEvent] = []

    def receive(event: MuxEvent) -> Outcome:
        taken.append(event)
        return "applied"

    app = QuartTrio("test")
    app.register_error_handler(HTTPException, http_problem)
    app.register_blueprint(
        control_mux.blueprint(Receiver(mux_config(directory, "http://x", **changes), receive))
    )
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(server.serve, app, Address(host="127.0.0.1", port=0), trio.Event())
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/webhooks/mux"
        fake = FakeMux(webhook_url=url)
        yield Hook(url, fake, taken, directory)
        nursery.cancel_scope.cancel()


def problem(response: httpx.Response) -> str:
    """What a refusal says, which must be RFC 9457's."""
    assert response.headers["Content-Type"] == "application/problem+json"
    found = response.json()
    assert found["status"] == response.status_code
    return str(found["detail"])


async def test_what_mux_sends_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With 204, nothing in the answer, and no error behind it."""
    async with hook(tmp_path) as made:
        assert await made.fake.deliver(made.fake.event("video.live_stream.idle", "L1")) == 204
        assert await made.fake.deliver(made.fake.event("video.new.thing", "L1")) == 204
        assert [event.id for event in made.taken] == ["event-000001", "event-000002"]
    assert not caplog.records


async def test_forged_and_old_ones_are_refused(tmp_path: Path) -> None:
    """Another secret, and one that was recorded six minutes ago."""
    async with hook(tmp_path) as made:
        event = made.fake.event("video.live_stream.idle", "L1")
        assert await made.fake.deliver(event, secret="guessed") == 401
        assert await made.fake.deliver(event, signed_at=time.time() - 360) == 401
        assert await made.fake.deliver(event, signed_at=time.time() + 360) == 401
        assert made.taken == []


@pytest.mark.parametrize("header", [None, "", "t=1", "v1=x", "t=1,v1=" + "0" * 63, "x" * 3000])
async def test_without_a_signature_it_is_a_bad_request(header: str | None, tmp_path: Path) -> None:
    async with hook(tmp_path) as made:
        response = await made.post(b"{}", header)
        assert response.status_code == 400
        assert "Mux-Signature" in problem(response)


async def test_a_refusal_tells_no_secret(tmp_path: Path) -> None:
    async with hook(tmp_path) as made:
        response = await made.post(b"{}", f"t={int(time.time())},v1={'0' * 64}")
        assert response.status_code == 401
        assert WEBHOOK_SECRET not in problem(response)


async def test_the_signature_is_over_the_raw_body(tmp_path: Path) -> None:
    """The same JSON with other spaces is another body."""
    async with hook(tmp_path) as made:
        event = made.fake.event("video.live_stream.idle", "L1")
        signature = made.fake.sign(json.dumps(event).encode())
        assert (await made.post(json.dumps(event).encode(), signature)).status_code == 204
        assert (await made.post(json.dumps(event, indent=1).encode(), signature)).status_code == 401


async def test_signed_but_no_event_is_a_bad_request(tmp_path: Path) -> None:
    async with hook(tmp_path) as made:
        response = await made.post(b"[]", made.fake.sign(b"[]"))
        assert response.status_code == 400
        assert "JSON object" in problem(response)


@pytest.mark.parametrize(("size", "status"), [(1024, 400), (1025, 413)])
async def test_a_body_has_its_limit(size: int, status: int, tmp_path: Path) -> None:
    """To the byte, whether its length is told before or not."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size):
            yield b" "

    async with hook(tmp_path, max_webhook=1024) as made:
        body = b" " * size
        assert (await made.post(body, made.fake.sign(body))).status_code == status
        response = await made.post(chunks(), made.fake.sign(body))
        assert response.status_code == status
        assert ("mux.max_webhook" in problem(response)) == (status == 413)


async def test_two_secrets_while_one_replaces_the_other(tmp_path: Path) -> None:
    """Both lines of the file are good."""
    async with hook(tmp_path) as made:
        (tmp_path / "webhook").write_text(f"the-new-one\n{WEBHOOK_SECRET}\n")
        event = made.fake.event("video.live_stream.idle", "L1")
        assert await made.fake.deliver(event) == 204
        assert await made.fake.deliver(event, secret="the-new-one") == 204
        assert await made.fake.deliver(event, secret="a-third-one") == 401


async def test_an_unreadable_secret_is_ours_to_mend(tmp_path: Path) -> None:
    """503: Mux sends it again. The answer does not tell where the file is."""
    async with hook(tmp_path) as made:
        (tmp_path / "webhook").unlink()
        response = await made.post(b"{}", made.fake.sign(b"{}"))
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "60"
        assert str(tmp_path) not in problem(response)


async def test_not_set_up_is_not_found(tmp_path: Path) -> None:
    async with hook(tmp_path, webhook_secret_file="") as made:
        response = await made.post(b"{}", made.fake.sign(b"{}"))
        assert response.status_code == 404
        assert "mux.webhook_secret_file" in problem(response)


async def test_only_post(tmp_path: Path) -> None:
    async with hook(tmp_path) as made, httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(made.url)
        assert response.status_code == 405
        assert set(response.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}
