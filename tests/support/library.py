"""A page that has the browser library, and numbered pictures to publish with it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import frozen

from tests.support.browser import Chromium, Page, open_chromium
from tests.support.pages import serve

PAGE = Path(__file__).with_name("library.html")


@frozen
class LibraryPage:
    """The page: scripts may use ``Publisher``, ``Player``, ``heard``, ``until``, ``recorders``, ``video``."""

    page: Page

    async def run(self, script: str, **values: object) -> Any:
        """Run the statements of *script* with *values* as constants; what it returns, which must be JSON."""
        constants = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
        return await self.page.evaluate(f"(async () => {{ {constants} {script} }})()")

    async def until(self, condition: str, within: float = 20.0) -> None:
        """Block until the expression *condition* is true."""
        await self.page.evaluate(f"until(() => {condition}, {within * 1000})")

    async def load(self, url: str) -> None:
        """Load *url*, or the page again."""
        await self.page.goto(url)
        await self.page.evaluate(
            "new Promise(done => {"
            " const look = () => window.loaded ? done() : setTimeout(look, 20); look(); })"
        )


@asynccontextmanager
async def open_library(
    browser: Chromium | None = None, *, of: str | None = None
) -> AsyncIterator[LibraryPage]:
    """Serve the page, open it in *browser* (default: one of its own), and yield it.

    With *of*, a daemon's control address, the library is the daemon's: of another origin than the page.
    """
    async with AsyncExitStack() as stack:
        browser = browser or await stack.enter_async_context(open_chromium())
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        url = await serve(nursery, PAGE)
        library = f"http://{of}/lib/" if of else "./lib/"
        page = LibraryPage(await browser.new_page())
        await page.load(f"{url}?library={library}")
        yield page
