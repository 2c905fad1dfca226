"""The whole daemon tells a real receiver."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.daemon.tools import AT_ONCE, COPY, MKV, browser_chunks, live, request
from tests.notify.tools import Receiver, Reply, eventually, receiving, secret_file
from tests.support.daemon import daemon

pytestmark = pytest.mark.usefixtures("no_processes_left")

CONFIG = """
[[webhooks]]
name = "app"
url = "{url}"
secret_file = "{secret}"
allow_private = true
[notify]
backoff = ["100ms"]
"""


def told(receiver: Receiver) -> list[str]:
    """The types of what was told of ``cam``, each event once, in the order in which they came."""
    seen = {request.id: request.verified()["type"] for request in receiver.requests}
    return list(seen.values())


async def test_the_life_of_a_stream(tmp_path: Path) -> None:
    """Live, its recording, its end; and the log of deliveries has them."""
    async with receiving(receiver := Receiver()) as url:
        config = CONFIG.format(url=url, secret=secret_file(tmp_path))
        with daemon(tmp_path, COPY + AT_ONCE + MKV, config=config) as running:
            async with live(running, browser_chunks()[:8]):
                await receiver.wait_for(1)
                await running.wait_until(lambda status: status["chunks"] == 8)
            await receiver.wait_for(3)
            assert told(receiver) == ["stream.live", "recording.ready", "stream.ended"]
            ready = receiver.requests[1].verified()["data"]
            assert [path.name for path in running.recordings] == [ready["file"]]
            assert running.recordings[0].stat().st_size == ready["size"]
            assert len({event.verified()["data"]["session"] for event in receiver.requests}) == 1
            delivered = 0
            while delivered < 3:  # The answer to the last one is still to be noted.
                status, _, body = await trio.to_thread.run_sync(
                    request, running.control, "/v1/webhooks/deliveries?state=delivered"
                )
                assert status == 200
                delivered = body.count(b'"event_id"')
            assert delivered == 3


async def test_the_end_of_the_daemon_is_told(tmp_path: Path) -> None:
    """Streams that end because of SIGTERM are told before the process is gone."""
    async with receiving(receiver := Receiver()) as url:
        config = CONFIG.format(url=url, secret=secret_file(tmp_path))
        with daemon(tmp_path, COPY + MKV, config=config) as running:
            async with live(running, browser_chunks()):
                await receiver.wait_for(1)
                assert await trio.to_thread.run_sync(running.stop) == 0
                assert told(receiver)[0] == "stream.live"
                assert set(told(receiver)[1:]) >= {"stream.ended", "recording.ready"}


async def test_a_daemon_that_is_killed(tmp_path: Path) -> None:
    """Nobody takes events while it lives; the next life delivers what it had, and the rest."""
    async with receiving(receiver := Receiver(lambda _request: Reply(503))) as url:
        config = CONFIG.format(url=url, secret=secret_file(tmp_path))
        with daemon(tmp_path, COPY + AT_ONCE + MKV, config=config) as running:
            async with live(running, browser_chunks()):
                await receiver.wait_for(2)
                running.kill()
            refused = set(receiver.ids)
            receiver.requests.clear()
            receiver.reply = lambda _request: Reply()
            running.start_again()
            await trio.to_thread.run_sync(running.wait_ready)
            await eventually(lambda: refused <= set(receiver.ids) and "stream.ended" in told(receiver))
            assert told(receiver)[0] == "stream.live"
