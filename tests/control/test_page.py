"""``/docs`` in a browser: it can be used by keyboard, on a phone, with a token, and in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Page, open_chromium
from tests.support.daemon import Daemon, daemon

PATH = "document.querySelector('details[data-words^=\"get /v1/streams list\"]')"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("daemon"), '[[sinks]]\ntype = "hls"\n') as made:
        yield made


async def opened(page: Page, running: Daemon) -> None:
    await page.goto(f"http://{running.control}/docs")
    await page.evaluate(
        "new Promise(done => { const look = () => document.querySelector('details') ? done()"
        " : setTimeout(look, 20); look(); })"
    )


async def test_an_operation_can_be_tried(running: Daemon) -> None:
    """Opening it, sending, and reading the answer; the command shows no token."""
    async with open_chromium() as browser:
        page = await browser.new_page()
        await opened(page, running)
        count = await page.evaluate("document.querySelectorAll('details').length")
        assert count > 30
        await page.evaluate("document.getElementById('token').value = 'my-secret-token'")
        await page.evaluate(f"{PATH}.querySelector('summary').click()")
        await page.evaluate(f"{PATH}.querySelector('button.send').click()")
        answer = await page.evaluate(
            "new Promise(done => { const look = () => {"
            f" const shown = {PATH}.querySelector('.inside pre + h3 ~ div pre');"
            " shown?.textContent.includes('cam') ? done(shown.textContent) : setTimeout(look, 20);"
            " }; look(); })"
        )
        assert '"name": "cam"' in answer
        command = await page.evaluate(f"{PATH}.querySelector('pre').textContent")
        assert command.startswith("curl -H")
        assert "my-secret-token" not in command


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
