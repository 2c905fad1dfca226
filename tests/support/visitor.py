"""People at our pages: Chromium by Playwright, which notes what a page complains of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import define, field
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

from tests.support.packages import program

_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--auto-select-desktop-capture-source=Entire screen",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    # Whatever a page asks for, nothing leaves this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)
#: What axe calls that bad is a barrier for somebody.
_BARRIERS = ("serious", "critical")
WIDE: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 360, "height": 740}


@define
class Visitor:
    """One person's browser, with cookies of its own; *complaints* is what its pages wrote in the console."""

    context: BrowserContext
    base: str
    complaints: list[str] = field(factory=list)

    def open(self, path: str) -> Page:
        """A tab at *path*."""
        page = self.context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("console", lambda message: self._note(page, message))
        page.goto(f"{self.base}{path}")
        return page

    def _note(self, page: Page, message: Any) -> None:
        # What the policy refuses is an error in the console, too.
        if message.type in ("error", "warning"):
            self.complaints.append(f"{page.url}: {message.text}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium with a fake camera and microphone."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=_ARGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def another(browser: Browser) -> Iterator[Browser]:
    """A second Chromium beside *browser*."""
    made = browser.browser_type.launch(executable_path=program("chromium"), args=_ARGS)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def visitor(
    browser: Browser,
    base: str,
    *,
    viewport: ViewportSize = WIDE,
    scheme: Any = "light",
    camera: bool = True,
    **more: Any,
) -> Iterator[Visitor]:
    """Somebody who comes to *base*, and leaves at the end of the block."""
    context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce", **more)
    if camera:
        context.grant_permissions(["camera", "microphone"], origin=base)
    try:
        yield Visitor(context, base)
    finally:
        context.close()


def barriers(page: Page) -> list[str]:
    """What axe finds on *page* that keeps somebody out."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html']}: {node['failureSummary']}"
        for each in found
        if each["impact"] in _BARRIERS
        for node in each["nodes"]
    ]


def overflow(page: Page) -> list[str]:
    """What on *page* is wider than the screen."""
    found: list[str] = page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? []
        : [...document.querySelectorAll('body *')]
            .filter((each) => each.getBoundingClientRect().right > innerWidth + 1)
            .map((each) => each.outerHTML.slice(0, 120))"""
    )
    return found
