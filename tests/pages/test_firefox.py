"""Firefox publishes and watches, by the same pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from tests.daemon.tools import ENCODE, HLS
from tests.support.daemon import daemon
from tests.support.firefox import Firefox, FirefoxPage, open_firefox

UNTIL = """new Promise((done, fail) => {{
  const late = setTimeout(() => fail(new Error("not within 40 s: " + {said})), 40000);
  const look = () => ({what}) ? (clearTimeout(late), done(true)) : setTimeout(look, 50);
  look();
}})"""
FRAMES = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"


async def until(page: FirefoxPage, what: str) -> None:
    """Block until the expression *what* is true."""
    assert await page.evaluate(UNTIL.format(what=what, said=json.dumps(what)))


async def badge(page: FirefoxPage, text: str) -> None:
    await until(page, f"document.querySelector('#badge').textContent === '{text}'")


@pytest.mark.full
@pytest.mark.timeout(240)
async def test_firefox_publishes_and_watches(tmp_path: Path) -> None:
    """From ``/broadcast`` in one Firefox to ``/watch`` in another: the pictures move, and it ends."""
    with daemon(tmp_path, ENCODE + HLS) as running:
        base = f"http://{running.control}"
        async with open_firefox() as ann, open_firefox() as bob:
            watch = await bob.new_page(f"{base}/watch/cam")
            await until(watch, "document.querySelector('#curtain-title').textContent.startsWith('Waiting')")
            studio = await ann.new_page(f"{base}/broadcast")
            await studio.evaluate("document.querySelector('#camera-on').click()")
            await until(studio, "document.querySelector('#preview').videoWidth > 0")
            await studio.evaluate(
                "(() => { const key = document.querySelector('#key'); key.value = 'cam-key';"
                " key.dispatchEvent(new Event('input', { bubbles: true })); })()"
            )
            await until(studio, "!document.querySelector('#go').disabled")
            await studio.evaluate("document.querySelector('#go').click()")
            await badge(studio, "Live")
            await badge(watch, "Live")
            before = await watch.evaluate(FRAMES)
            await until(watch, f"{FRAMES} > {before} + 40")
            tracks = (await trio.to_thread.run_sync(running.status))["source"]["tracks"]
            assert {track["codec"] for track in tracks} == {"vp8", "opus"}
            await studio.evaluate("document.querySelector('#end').click()")
            await badge(studio, "Ended")
            await until(watch, "document.querySelector('#curtain-title').textContent.includes('ended')")
            quiet(ann, bob)


def quiet(*browsers: Firefox) -> None:
    """Nothing in the console."""
    for browser in browsers:
        assert browser.console == []
