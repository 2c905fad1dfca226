"""What people see when something breaks: it goes on, and nobody has to reload a page."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.test_nginx import behind, nginx
from tests.pages.test_live import LONG, go_live, moved
from tests.support.visitor import Visitor, another, visitor

#: What a browser itself writes in the console while it cannot connect.
OFFLINE = re.compile(r"ERR_|WebSocket connection|502 \(Bad Gateway\)|Failed to load resource")
STILL: dict[str, Any] = {"frames": 0, "at": 0.0}


def shown(page: Page) -> Locator:
    """The video of a watch page that is live."""
    expect(page.locator("#badge")).to_have_text("Live", timeout=LONG)
    return page.locator("video")


def goes_on(page: Page) -> None:
    """Its pictures move, from now on."""
    video = shown(page)
    now = video.evaluate("(video) => ({frames: video.getVideoPlaybackQuality().totalVideoFrames})")
    moved(video, {"frames": now["frames"], "at": video.evaluate("(video) => video.currentTime")})


def well(*people: Visitor) -> None:
    for who in people:
        assert [said for said in who.complaints if not OFFLINE.search(said)] == []


@pytest.mark.timeout(240)
def test_nobody_has_to_reload(tmp_path: Path, browser: Browser) -> None:
    """FFmpeg dies, the broadcaster reloads, the proxy goes and comes back, a viewer's network is slow."""
    with behind(tmp_path, window="20s") as (running, address), another(browser) as other:
        base = f"http://{address}"
        with (
            visitor(browser, base) as ann,
            visitor(other, base, camera=False) as bob,
            visitor(other, base, camera=False) as cid,
            visitor(other, base, camera=False) as dan,
        ):
            first = bob.open("/watch/cam")
            expect(first.locator("#curtain-title")).to_have_text("Waiting for the broadcaster")
            studio = ann.open("/broadcast")
            studio.get_by_label("Quality").select_option("360")
            go_live(studio, "cam-key")
            goes_on(first)
            late = cid.open("/watch/cam")
            goes_on(late)
            board = dan.open("/")
            card = board.get_by_role("article", name="cam")
            session = running.status()["session"]

            # FFmpeg dies: viewers see the source, and nothing of that; the operator sees why.
            os.kill(running.status()["encoder"]["pid"], signal.SIGKILL)
            card.get_by_text("Events and restarts").click()
            expect(card.locator(".events")).to_contain_text(re.compile("[Ee]ncoder"), timeout=LONG)
            expect(card.locator(".events")).to_contain_text("SIGKILL", timeout=LONG)
            for page in (first, late):
                goes_on(page)

            # The broadcaster reloads: the page asks before, and then goes on by itself.
            studio.on("dialog", lambda dialog: dialog.accept())
            studio.reload()
            expect(studio.locator("#badge")).to_have_text("Live", timeout=LONG)
            for page in (first, late):
                goes_on(page)
            assert running.status()["session"] == session

            # A viewer's network is slow: it is shown less, and the other one everything.
            narrow = cid.context.new_cdp_session(late)
            narrow.send("Network.enable")
            limits = {"offline": False, "latency": 0, "uploadThroughput": -1}
            narrow.send("Network.emulateNetworkConditions", {**limits, "downloadThroughput": 4000})
            expect(late.locator("#badge")).not_to_have_text("Live", timeout=LONG)
            goes_on(first)
            narrow.send("Network.emulateNetworkConditions", {**limits, "downloadThroughput": -1})
            goes_on(late)
            well(ann, bob, cid, dan)

            # nginx, and with it every connection, goes and comes back.
            port = int(address.rpartition(":")[2])
            folder = running.directory / "nginx"
            os.kill(int((folder / "nginx.pid").read_text()), signal.SIGTERM)
            expect(studio.locator("#badge")).to_have_text("Reconnecting", timeout=LONG)
            with nginx(folder / "nginx.conf", port):
                expect(studio.locator("#badge")).to_have_text("Live", timeout=LONG)
                for page in (first, late):
                    goes_on(page)
                expect(card.locator(".badge").first).to_have_text("Live", timeout=LONG)
                found = running.status()
                assert (found["session"], found["viewers"]) == (session, 2)
                studio.get_by_role("button", name="End broadcast").click()
                expect(studio.locator("#badge")).to_have_text("Ended", timeout=LONG)
                for page in (first, late):
                    expect(page.locator("#curtain-title")).to_have_text(
                        "The broadcast has ended", timeout=LONG
                    )
                    page.goto("about:blank")
                well(ann, bob, cid, dan)
