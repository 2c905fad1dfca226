"""``/docs`` in a browser: by keyboard, on a phone, in the dark, with a token, and signed in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.auth.serving import TOKENS, give
from tests.support.browser import Page, open_chromium
from tests.support.daemon import Daemon, daemon
from tests.support.visitor import chromium, visitor

PATH = "document.querySelector('details[data-words^=\"get /v1/streams list\"]')"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that asks for tokens."""
    directory = tmp_path_factory.mktemp("daemon")
    give(directory, "somebody", "read")
    with daemon(directory, '[[sinks]]\ntype = "hls"\n', config=TOKENS) as made:
        yield made


async def opened(page: Page, running: Daemon) -> None:
    await page.goto(f"http://{running.control}/docs")
    await page.evaluate(
        "new Promise(done => { const look = () => document.querySelector('details') ? done()"
        " : setTimeout(look, 20); look(); })"
    )


async def test_an_operation_can_be_tried(running: Daemon) -> None:
    """Finding and opening it, sending, and reading the answer; the command shows no token."""
    token = give(running.directory, "reader", "read")
    async with open_chromium() as browser:
        page = await browser.new_page()
        await opened(page, running)
        count = await page.evaluate("document.querySelectorAll('details').length")
        assert count > 30
        await page.evaluate(
            "{ const find = document.getElementById('find'); find.value = 'LIST streams';"
            " find.dispatchEvent(new Event('input')); }"
        )
        shown = "document.querySelectorAll('details:not([hidden])').length"
        assert 0 < await page.evaluate(shown) < count
        await page.evaluate(f"document.getElementById('token').value = '{token}'")
        await page.evaluate(f"{PATH}.querySelector('summary').click()")
        await page.evaluate(f"{PATH}.querySelector('button[type=submit]').click()")
        answer = await page.evaluate(
            "new Promise(done => { const look = () => {"
            f" const shown = {PATH}.querySelector('.inside pre + h3 ~ div pre');"
            " shown?.textContent.includes('cam') ? done(shown.textContent) : setTimeout(look, 20);"
            " }; look(); })"
        )
        assert '"name": "cam"' in answer
        command = await page.evaluate(f"{PATH}.querySelector('pre').textContent")
        assert command.startswith('curl -H "Authorization: Bearer $TOKEN"')
        assert token not in command


def test_who_is_signed_in_types_no_token(running: Daemon) -> None:
    """A write passes by cookie; curl has none, so its command shows a token where one is needed."""
    token = give(running.directory, "ann", "admin")
    bearer = '-H "Authorization: Bearer $TOKEN"'
    base = f"http://{running.control}"
    with chromium() as browser, visitor(browser, base) as ann:
        page = ann.open("/docs")
        page.get_by_role("link", name="Sign in").click()
        expect(page).to_have_url(f"{base}/login#next=%2Fdocs")
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{base}/docs")
        expect(page.locator("#who")).to_have_text("ann")

        def opened(words: str) -> Locator:
            found = page.locator(f'details[data-words^="{words} "]')
            found.locator("summary").click()
            return found

        def answered(asked: Locator, status: str) -> str:
            asked.get_by_role("button", name="Send").click()
            expect(asked.get_by_role("status")).to_contain_text(status)
            return asked.locator("pre").first.inner_text()

        change = opened("patch /v1/streams/{name}")
        change.get_by_label("name *").fill("cam")
        change.get_by_label("Body, JSON").fill('{"title": "The hall"}')
        assert bearer in answered(change, "200")
        expect(change.locator("pre").last).to_contain_text('"title": "The hall"')
        assert answered(opened("get /v1/about"), "200") == f"curl '{base}/v1/about'"
        # Whoever signs out by an operation is nobody to the page, too.
        answered(opened("delete /v1/session"), "204")
        expect(page.get_by_role("link", name="Sign in")).to_be_visible()
        expect(page.locator("#who")).to_be_empty()
        assert ann.complaints == []
        assert bearer not in answered(change, "401")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_phone(running: Daemon, scheme: str, tmp_path: Path) -> None:
    """Nothing is wider than the screen, and the text can be read, in both schemes."""
    async with open_chromium() as browser:
        page = await browser.new_page()
        await page.command(
            "Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True
        )
        await page.command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        await opened(page, running)
        await page.evaluate(f"{PATH}.querySelector('summary').click()")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(", "))) > 384) == (scheme == "light")
        assert (await page.screenshot())[:4] == b"\x89PNG"


async def test_it_is_used_by_keyboard(running: Daemon) -> None:
    """The first stop of Tab leads past the header; every operation can be reached and opened."""
    async with open_chromium() as browser:
        page = await browser.new_page()
        await opened(page, running)

        async def press(key: str, code: int) -> None:
            text = {"text": "\r"} if key == "Enter" else {}
            await page.command(
                "Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text
            )
            await page.command("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

        await press("Tab", 9)
        assert await page.evaluate("document.activeElement.className") == "skip"
        await press("Enter", 13)
        await press("Tab", 9)
        assert await page.evaluate("document.activeElement.tagName") == "SUMMARY"
        await press("Enter", 13)
        assert await page.evaluate("document.activeElement.parentElement.open")
