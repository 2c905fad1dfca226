"""Firefox, driven over WebDriver BiDi from Trio, with a fake camera and microphone.

Debian's ESR runs headless. ``open_firefox`` owns the whole process tree and its profile: both are gone when
the block ends, however it ends. Its pages are used like those of `tests.support.browser`.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.support.browser import BrowserError, running_browser
from tests.support.packages import program

_PREFS: dict[str, bool | int | str] = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.volume_scale": "0.0",
    # Nothing leaves this machine: names lead nowhere, and nobody is told anything.
    "network.dns.forceResolve": "127.0.0.1",
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "app.update.enabled": False,
    "app.normandy.enabled": False,
    "browser.safebrowsing.downloads.remote.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "services.settings.server": "http://127.0.0.1:9/",
    "toolkit.telemetry.enabled": False,
}
_MAX_MESSAGE = 256 * 1024 * 1024


class FirefoxPage:
    """One tab."""

    def __init__(self, browser: Firefox, context: str) -> None:
        self._browser = browser
        self._context = context

    async def goto(self, url: str) -> None:
        """Load *url* and wait until its scripts have run."""
        await self._browser.command(
            "browsingContext.navigate", context=self._context, url=url, wait="complete"
        )

    async def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression, awaited if a promise; must be JSON. Raises what it throws."""
        answer = await self._browser.command(
            "script.evaluate",
            expression=f"Promise.resolve({expression}).then(value => JSON.stringify(value))",
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        if answer["type"] == "exception":
            raise BrowserError(answer["exceptionDetails"]["text"])
        text = answer["result"].get("value")
        return None if text is None else json.loads(text)

    async def screenshot(self) -> bytes:
        """What the page looks like now, as PNG."""
        answer = await self._browser.command("browsingContext.captureScreenshot", context=self._context)
        return base64.b64decode(answer["data"])


class Firefox:
    """A running browser. *console* has what its pages wrote there as warnings and errors."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self._count = 0
        self._waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
        self.console: list[str] = []

    async def new_page(self, url: str | None = None) -> FirefoxPage:
        """Open a tab, at *url* if given."""
        context = (await self.command("browsingContext.create", type="tab"))["context"]
        page = FirefoxPage(self, context)
        if url is not None:
            await page.goto(url)
        return page

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; BrowserError if Firefox refuses it or dies."""
        self._count += 1
        number = self._count
        send, receive = trio.open_memory_channel[dict[str, Any]](1)
        self._waiting[number] = send
        try:
            await self._socket.send_message(json.dumps({"id": number, "method": method, "params": params}))
            answer = await receive.receive()
        except (ConnectionClosed, trio.EndOfChannel) as exc:
            raise BrowserError(f"{method}: Firefox is gone") from exc
        finally:
            self._waiting.pop(number, None)
        if answer["type"] == "error":
            raise BrowserError(f"{method}: {answer.get('error')}: {answer.get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                message = json.loads(await self._socket.get_message())
                if waiting := self._waiting.get(message.get("id") or -1):
                    waiting.send_nowait(message)
                elif message.get("method") == "log.entryAdded" and message["params"]["level"] in (
                    "warn",
                    "error",
                ):
                    self.console.append(str(message["params"].get("text")))
        for waiting in self._waiting.values():
            waiting.close()


@asynccontextmanager
async def open_firefox() -> AsyncIterator[Firefox]:
    """Start Firefox with a fresh profile and end it, with all its processes, when the block ends."""
    profile = Path(tempfile.mkdtemp(prefix="firefox-"))
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFS.items())
    (profile / "user.js").write_text("".join(lines))
    argv = [
        program("firefox-esr"), "--headless", "--no-remote", "--profile", str(profile),
        "--remote-debugging-port=0", "about:blank",
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(profile), "MOZ_CRASHREPORTER_DISABLE": "1"}
    async with running_browser(argv, profile, environment) as process:
        port = await _port(profile, process)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
            socket = await wrap_client_stream(
                nursery, stream, f"127.0.0.1:{port}", "/session", max_message_size=_MAX_MESSAGE
            )
            browser = Firefox(socket)
            nursery.start_soon(browser._read)
            await browser.command("session.new", capabilities={})
            await browser.command("session.subscribe", events=["log.entryAdded"])
            yield browser
            with trio.move_on_after(5), suppress(BrowserError):
                await browser.command("browser.close")
            with trio.move_on_after(5):
                await process.wait()
            nursery.cancel_scope.cancel()


async def _port(profile: Path, process: trio.Process) -> int:
    """Firefox writes where it listens into its profile as soon as it does."""
    announced = profile / "WebDriverBiDiServer.json"
    with trio.move_on_after(90):
        while process.poll() is None:
            with suppress(OSError, ValueError, KeyError):
                return int(json.loads(announced.read_text())["ws_port"])
            await trio.sleep(0.05)
    tail = (profile / "log").read_text(errors="replace")[-1500:]
    raise BrowserError(f"Firefox did not start (exit code {process.poll()}): {tail}")
