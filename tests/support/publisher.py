"""A browser that publishes: a throw-away page with MediaRecorder, served on loopback.

``source="canvas"`` draws the numbered picture of the captures, with beeps and flashes at every full second
of the page's audio clock (see ``counting.py``); ``source="camera"`` is Chromium's fake camera and microphone.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import trio

from tests.support.browser import Chromium, Page, open_chromium
from tests.support.pages import serve

VP8 = "video/webm;codecs=vp8,opus"
PAGE = Path(__file__).with_name("publisher.html")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one recorder sent: the *mime* type that it really used, and its messages in order."""

    mime: str
    chunks: list[bytes]

    @property
    def data(self) -> bytes:
        """Its messages, back to back: a file."""
        return b"".join(self.chunks)


@dataclass(frozen=True, slots=True)
class Published:
    """What a page sent, recorder by recorder, and how the socket ended.

    *close_code* is None while the socket is open.
    """

    recorders: list[Recorded]
    close_code: int | None
    close_reason: str
    errors: list[str]

    @property
    def mime(self) -> str:
        """The type that the first recorder really used; empty if it sent nothing."""
        return self.recorders[0].mime if self.recorders else ""

    @property
    def chunks(self) -> list[bytes]:
        """The messages in order."""
        return [chunk for recorder in self.recorders for chunk in recorder.chunks]

    @property
    def sizes(self) -> list[int]:
        """Bytes in each chunk."""
        return [len(chunk) for chunk in self.chunks]

    @property
    def data(self) -> bytes:
        """All that was sent, back to back: the control run's input."""
        return b"".join(self.chunks)


@dataclass(frozen=True, slots=True)
class Recording:
    """What a recorder is to record: of what size, which tracks, and how."""

    mime: str = VP8
    width: int = 640
    height: int = 360
    fps: int = 30
    video: bool = True
    audio: bool = True
    timeslice_ms: int = 250
    keyframe_ms: int | None = None
    bits_per_second: int = 1_500_000


class Publisher:
    """A page that can record. One recorder at a time: ``start``, ``change`` as often as wanted, ``stop``."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def start(
        self, ws_url: str, *, source: Literal["canvas", "camera"] = "canvas", **recording: Any
    ) -> None:
        """Connect to *ws_url* and begin to record; returns when the socket is open, or refused.

        *recording* are the fields of `Recording`.
        """
        options = {"url": ws_url, "source": source, **asdict(Recording(**recording))}
        await self.page.evaluate(f"publisher.start({json.dumps(options)})")

    async def change(self, **recording: Any) -> None:
        """End the recorder, send its last chunk, and begin another one (see `Recording`) on the same socket.

        The picture's numbers and the beeps go on; a canvas keeps the frame rate that it was started with.
        """
        await self.page.evaluate(f"publisher.change({json.dumps(asdict(Recording(**recording)))})")

    async def sending(self) -> None:
        """Block until the recorder has sent more than once, or the socket is closed."""
        await self.page.evaluate("publisher.sending()")

    async def wait_closed(self) -> None:
        """Block until the socket is closed, by whomever."""
        await self.page.evaluate("publisher.closed")

    async def stop(self) -> Published:
        """End the recorder, send its last chunk, close the socket with 1000 and return what was sent."""
        await self.page.evaluate("publisher.stop()")
        return await self.result()

    async def reload(self) -> None:
        """Reload the page, as a person does: the recorder ends without a word."""
        await self.page.goto(await self.page.evaluate("location.href"))

    async def result(self) -> Published:
        """Return what was sent up to now."""
        told: dict[str, Any] = await self.page.evaluate("publisher.result()")
        data = io.BytesIO(base64.b64decode(told["bytes"]))
        recorders: list[Recorded] = []
        for part in told["parts"]:
            mime = part[0]["type"] if part else ""
            recorders.append(Recorded(mime, [data.read(chunk["size"]) for chunk in part]))
        return Published(
            recorders=recorders,
            close_code=told["closeCode"],
            close_reason=told["closeReason"],
            errors=told["errors"],
        )


@asynccontextmanager
async def open_publisher(browser: Chromium | None = None) -> AsyncIterator[Publisher]:
    """Serve the page on loopback, open it in *browser* (default: one of its own), and yield it."""
    async with AsyncExitStack() as stack:
        if browser is None:
            browser = await stack.enter_async_context(open_chromium())
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        yield Publisher(await browser.new_page(await serve(nursery, PAGE)))


async def publish(ws_url: str, seconds: float, mime: str = VP8, **options: Any) -> Published:
    """Publish for *seconds* in a browser of its own, or until the server closes, and return what was sent.

    *options* are those of ``Publisher.start``. A refused handshake is no error: *close_code* is then 1006.
    """
    async with open_publisher() as publisher:
        await publisher.start(ws_url, mime=mime, **options)
        with trio.move_on_after(seconds):
            await publisher.wait_closed()
        return await publisher.stop()
