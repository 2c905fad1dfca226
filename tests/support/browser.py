"""Chromium, driven over its DevTools protocol from Trio, and a page in it that publishes.

Debian's Chromium runs headless with a fake camera and microphone. ``open_chromium`` owns the whole process
tree and its profile: both are gone when the block ends, however it ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.support.packages import program

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
    "--mute-audio",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-port=0",
    # Whatever a page asks for, nothing leaves this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)
_MAX_MESSAGE = 256 * 1024 * 1024


class BrowserError(AssertionError):
    """Chromium did not start, a page threw, or a DevTools command failed."""


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session

    async def goto(self, url: str) -> None:
        """Load *url* and wait until its scripts have run."""
        answer = await self.command("Page.navigate", url=url)
        if error := answer.get("errorText"):
            raise BrowserError(f"{url}: {error}")
        await self.evaluate(
            "new Promise(done => document.readyState === 'complete' && location.href !== 'about:blank'"
            " ? done() : addEventListener('load', () => done()))"
        )

    async def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression, awaited if a promise; must be JSON. Raises what it throws."""
        answer = await self.command(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if thrown := answer.get("exceptionDetails"):
            raise BrowserError(thrown.get("exception", {}).get("description") or thrown["text"])
        return answer["result"].get("value")

    async def screenshot(self) -> bytes:
        """What the page looks like now, as PNG."""
        import base64

        return base64.b64decode((await self.command("Page.captureScreenshot"))["data"])

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a DevTools command to this tab and return its result."""
        return await self._browser.command(method, self._session, **params)


class Chromium:
    """A running browser."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self._count = 0
        self._waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}

    async def new_page(self, url: str | None = None) -> Page:
        """Open a tab, at *url* if given."""
        target = (await self.command("Target.createTarget", url="about:blank"))["targetId"]
        session = await self.command("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, session["sessionId"])
        if url is not None:
            await page.goto(url)
        return page

    async def command(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a DevTools command and return its result; BrowserError if Chromium refuses it or dies."""
        self._count += 1
        number = self._count
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        send, receive = trio.open_memory_channel[dict[str, Any]](1)
        self._waiting[number] = send
        try:
            await self._socket.send_message(json.dumps(message))
            answer = await receive.receive()
        except (ConnectionClosed, trio.EndOfChannel) as exc:
            raise BrowserError(f"{method}: Chromium is gone") from exc
        finally:
            self._waiting.pop(number, None)
        if error := answer.get("error"):
            raise BrowserError(f"{method}: {error.get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                message = json.loads(await self._socket.get_message())
                if waiting := self._waiting.get(message.get("id", -1)):
                    waiting.send_nowait(message)
        for waiting in self._waiting.values():
            waiting.close()


@asynccontextmanager
async def running_browser(
    argv: Sequence[str], profile: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[trio.Process]:
    """Run the browser *argv*, whose output is ``log`` in *profile*; both are gone when the block ends."""
    process: trio.Process | None = None
    try:
        with (profile / "log").open("wb") as log:
            process = await trio.lowlevel.open_process(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=env
            )
        yield process
    finally:
        with trio.CancelScope(shield=True):
            if process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            await trio.to_thread.run_sync(lambda: shutil.rmtree(profile, ignore_errors=True))


@asynccontextmanager
async def open_chromium(*flags: str) -> AsyncIterator[Chromium]:
    """Start Chromium with a fresh profile and end it, with all its processes, when the block ends."""
    profile = Path(tempfile.mkdtemp(prefix="chromium-"))
    argv = [program("chromium"), *_FLAGS, f"--user-data-dir={profile}", *flags, "about:blank"]
    async with running_browser(argv, profile) as process:
        port, path = await _devtools_address(profile, process)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
            socket = await wrap_client_stream(
                nursery, stream, f"127.0.0.1:{port}", path, max_message_size=_MAX_MESSAGE
            )
            browser = Chromium(socket)
            nursery.start_soon(browser._read)
            yield browser
            with trio.move_on_after(5), suppress(BrowserError):
                await browser.command("Browser.close")
            with trio.move_on_after(5):
                await process.wait()
            nursery.cancel_scope.cancel()


async def _devtools_address(profile: Path, process: trio.Process) -> tuple[int, str]:
    """Chromium writes its port and path into its profile as soon as it listens."""
    announced = profile / "DevToolsActivePort"
    with trio.move_on_after(60):
        while process.poll() is None:
            lines = announced.read_text().split() if announced.exists() else []
            if len(lines) == 2:
                return int(lines[0]), lines[1]
            await trio.sleep(0.05)
    tail = (profile / "log").read_text(errors="replace")[-1500:]
    raise BrowserError(f"Chromium did not start (exit code {process.poll()}): {tail}")
