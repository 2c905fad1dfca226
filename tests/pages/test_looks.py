"""Every page, as it is when one comes to it: for everybody, on every screen, by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.support.daemon import Daemon
from tests.support.visitor import PHONE, WIDE, Visitor, barriers, overflow, visitor

#: What a page shows when it is ready.
PAGES: dict[str, str] = {
    "/": "Off air",
    "/broadcast": "Fake Default Audio Input",
    "/watch/cam": "Waiting for the broadcaster",
    "/check": "Tested with it",
    "/login": "asks nobody for a token",
}
#: So long that axe takes its time: one look is enough while one works.
DOCS = {"/docs": "List streams"}
LOOKS = [
    (WIDE, "light", PAGES),
    (PHONE, "dark", PAGES),
    pytest.param(WIDE, "dark", PAGES | DOCS, marks=pytest.mark.full),
    pytest.param(PHONE, "light", PAGES | DOCS, marks=pytest.mark.full),
]


def seen(who: Visitor, path: str, text: str) -> Page:
    """The page at *path*, once *text* is on it."""
    page = who.open(path)
    expect(page.locator("body")).to_contain_text(text)
    return page


@pytest.mark.parametrize(("viewport", "scheme", "pages"), LOOKS)
def test_every_page_is_for_everybody(
    running: Daemon, browser: Browser, viewport: ViewportSize, scheme: str, pages: dict[str, str]
) -> None:
    """axe finds no barrier, nothing is wider than the screen, the console is empty, the policy holds."""
    with visitor(browser, f"http://{running.control}", viewport=viewport, scheme=scheme) as who:
        for path, text in pages.items():
            page = seen(who, path, text)
            assert barriers(page) == [], path
            assert overflow(page) == [], path
            dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, ground[4:-1].split(", "))) < 384) == dark == (scheme == "dark"), path
            page.close()
        assert who.complaints == []


@pytest.mark.full
def test_a_page_that_was_there_before_the_daemon_goes_on_by_itself(running: Daemon, browser: Browser) -> None:
    """It says that nothing answers; and nothing of that is left when something does."""
    lost = re.compile("does not answer|cannot be read")
    with visitor(browser, f"http://{running.control}") as who:
        who.context.route("**/v1/**", lambda route: route.abort())
        pages = {path: seen(who, path, "") for path in PAGES | DOCS}
        for page in pages.values():
            expect(page.locator("main")).to_contain_text(lost)
        who.context.unroute_all()
        for path, page in pages.items():
            expect(page.locator("main")).to_contain_text((PAGES | DOCS)[path])
            expect(page.locator("main")).not_to_contain_text(lost)


def test_the_keyboard_is_enough(running: Daemon, browser: Browser) -> None:
    """Tab leads past the head and to every control, a dialog keeps it and gives it back."""
    with visitor(browser, f"http://{running.control}", viewport=WIDE) as who:
        page = seen(who, "/", PAGES["/"])

        def pressed(key: str) -> str:
            page.keyboard.press(key)
            return str(page.evaluate("document.activeElement.textContent.trim()"))

        assert pressed("Tab") == "Skip to the streams"
        assert [pressed("Tab") for _ in range(6)] == [
            "ingestd", "Streams", "Broadcast", "Check", "API", "New stream",
        ]  # fmt: skip
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog", name="New stream")).to_be_visible()
        assert page.evaluate("document.activeElement.id") == "new-name"
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert page.evaluate("document.activeElement.id") == "create"
        # Who has pressed a button that goes stays at the stream.
        page.get_by_role("button", name="Disable: cam").focus()
        page.keyboard.press("Enter")
        assert pressed("Shift+Tab") == "Disable it"
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Enable: cam")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Disable: cam")).to_be_focused()
        assert who.complaints == []


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        ("Object.defineProperty(globalThis, 'isSecureContext', {value: false})", "was not loaded over HTTPS"),
        ("delete globalThis.MediaRecorder", "has no MediaRecorder"),
        ("navigator.mediaDevices.getUserMedia = async () => "
         "{ throw new DOMException('', 'NotAllowedError'); }",
         "were not allowed"),
    ],
)  # fmt: skip
def test_what_keeps_a_browser_from_broadcasting_is_said(
    running: Daemon, browser: Browser, prepare: str, text: str
) -> None:
    """In words, with what to do, where the picture would be."""
    with visitor(browser, f"http://{running.control}") as who:
        who.context.add_init_script(prepare)
        page = seen(who, "/broadcast", text)
        expect(page.locator("#curtain-text")).not_to_be_empty()
        # All of it, on a phone as well.
        page.set_viewport_size(PHONE)
        inner, outer = page.locator("#curtain").bounding_box(), page.locator(".stage").bounding_box()
        assert inner is not None
        assert inner == outer
        assert page.evaluate("document.querySelector('#curtain').scrollHeight") <= inner["height"] + 1
        expect(page.get_by_role("button", name="Go live")).to_be_disabled()


def test_a_stream_that_is_none_is_said_to_be_none(running: Daemon, browser: Browser) -> None:
    with visitor(browser, f"http://{running.control}") as who:
        seen(who, "/watch/nobody", "There is no such stream")


def test_a_page_that_nobody_sees_holds_no_connection(running: Daemon, browser: Browser) -> None:
    """Browsers allow six of them a host: the seventh tab would not load. What was missed comes afterwards."""
    counted = """globalThis.followed = [];
    globalThis.EventSource = class extends EventSource {
      constructor(url) { super(url); followed.push(this); }
    };
    globalThis.unseen = false;
    Object.defineProperty(document, 'hidden', { get: () => unseen });
    globalThis.look = (away) => { unseen = away; document.dispatchEvent(new Event('visibilitychange')); };"""
    with visitor(browser, f"http://{running.control}") as who:
        who.context.add_init_script(counted)
        who.context.clock.install()
        page = seen(who, "/", PAGES["/"])
        expect(page.get_by_role("article", name="cam")).to_be_visible()
        expect(page.locator("#summary")).to_contain_text("Nothing on air")

        def connections() -> list[str]:
            page.wait_for_timeout(200)
            states = ["connecting", "open", "closed"]
            return [states[each] for each in page.evaluate("followed.map((each) => each.readyState)")]

        while connections() != ["open"]:
            pass
        page.evaluate("look(true)")
        who.context.clock.run_for(9_000)
        page.evaluate("look(false)")
        who.context.clock.run_for(9_000)
        assert connections() == ["open"]
        page.evaluate("look(true)")
        who.context.clock.run_for(11_000)
        assert connections() == ["closed"]
        page.request.post(f"{who.base}/v1/streams/cam/disable")
        page.evaluate("look(false)")
        expect(page.get_by_role("article", name="cam")).to_contain_text("Disabled")
        assert connections() == ["closed", "open"]
        page.request.post(f"{who.base}/v1/streams/cam/enable")
        assert who.complaints == []
