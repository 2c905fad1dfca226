"""A page that publishes with ``ingestd.v1``, survives its reload, and keeps a ledger of what it sent.

The ledger says of each load of the page which chunks it sent (their hashes), what was acknowledged, and where
the server said that it went on; `Load.assert_recorded` compares it with a raw recording.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trio
from attrs import field, frozen

from tests.support.browser import BrowserError, Page, open_chromium
from tests.support.pages import serve
from tests.support.publisher import Recording

PAGE = Path(__file__).with_name("resuming.html")


@frozen
class Sent:
    """A chunk, as it was sent."""

    number: int
    recorder: int
    size: int
    hash: str


@frozen
class Load:
    """One load of the page: its *hellos*, what it *sent*, and the first number that is not *acknowledged*."""

    hellos: list[dict[str, Any]]
    sent: list[Sent] = field(repr=False)
    acknowledged: int

    @property
    def begun(self) -> int:
        """The number of its first chunk."""
        begun: int = self.hellos[0]["next"]
        return begun

    def assert_recorded(self, data: bytes, count: int) -> None:
        """Fail unless *data* is the first *count* of its chunks, each once, and nothing more."""
        at = 0
        for chunk in self.sent[:count]:
            piece = data[at : at + chunk.size]
            where = f"chunk {chunk.number} of recorder {chunk.recorder}, at byte {at} of {len(data)}"
            assert hashlib.sha256(piece).hexdigest() == chunk.hash, where
            at += chunk.size
        assert at == len(data), f"{len(data) - at} bytes more than {count} chunks that were sent"


class ResumingPublisher:
    """The page. `start` once, `reload` as often as wanted, `stop`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.loads = 0

    async def start(self, url: str, key: str, **recording: Any) -> None:
        """Publish to *url* with *key*; *recording* are the fields of `Recording`."""
        options = {"url": url, "key": key, **asdict(Recording(**recording))}
        await self.page.evaluate(f"publisher.start({json.dumps(options)})")
        self.loads = 1
        await self.wait("publisher.ready")

    async def reload(self, loaded: Callable[[], None] = lambda: None) -> None:
        """Reload the page, as a person does, and wait until the session goes on.

        *loaded* is called when the new page is there, and wants to connect.
        """
        await self.page.command("Page.reload")
        self.loads += 1
        await self.wait(f"publisher.load === {self.loads}")
        loaded()
        await self.wait("publisher.ready")

    async def wait(self, condition: str, within: float = 20.0) -> None:
        """Until the JavaScript *condition* is true, whatever page the tab has meanwhile."""
        with trio.move_on_after(within):
            while True:
                with suppress(BrowserError):  # between two documents
                    if await self.page.evaluate(f"typeof publisher === 'object' && Boolean({condition})"):
                        return
                await trio.sleep(0.02)
        raise AssertionError(f"not within {within} s: {condition}; {await self.errors()}")

    async def errors(self) -> list[str]:
        """What should not have happened, of all loads."""
        errors: list[str] = await self.page.evaluate("ledger.get('errors') || []")
        return errors

    async def stop(self) -> list[Load]:
        """Stop the recorder, wait until all is acknowledged and the session's end is told; the ledger."""
        await self.page.evaluate("publisher.stop()")
        assert await self.errors() == []
        told: dict[str, str] = await self.page.evaluate("({...sessionStorage})")
        ledger = {key: json.loads(value) for key, value in told.items()}
        return [_load(ledger, number) for number in range(1, self.loads + 1)]


def _load(ledger: dict[str, Any], number: int) -> Load:
    hellos = ledger[f"hellos/{number}"]
    prefix = f"chunk/{number}/"
    keys = sorted(int(key.removeprefix(prefix)) for key in ledger if key.startswith(prefix))
    sent = [Sent(key, *ledger[f"{prefix}{key}"]) for key in keys]
    assert keys == list(range(hellos[0]["next"], hellos[0]["next"] + len(keys)))
    return Load(hellos, sent, ledger.get(f"acknowledged/{number}", hellos[0]["next"]))


@asynccontextmanager
async def open_resuming_publisher() -> AsyncIterator[ResumingPublisher]:
    """Serve the page on loopback, open it in a browser of its own, and yield it."""
    async with open_chromium() as browser, trio.open_nursery() as nursery:
        yield ResumingPublisher(await browser.new_page(await serve(nursery, PAGE)))
        nursery.cancel_scope.cancel()
