"""``/check``: green where all is well; and what is wrong is named with its cause and its cure."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.daemon.tools import ENCODE, HLS, MP4
from tests.e2e.test_nginx import behind
from tests.support.daemon import Daemon, daemon
from tests.support.visitor import PHONE, barriers, overflow, visitor

LONG = 60_000


def checked(page: Page) -> str:
    """Run the check to its end; the result as text."""
    page.get_by_role("button", name="Start the check").click()
    expect(page.get_by_role("button", name="Check again")).to_be_visible(timeout=LONG)
    return page.locator("#text").text_content() or ""


def left(running: Daemon) -> list[str]:
    """What checks have made and not removed."""
    made, removed = (len(running.events(f"stream_{what}")) for what in ("created", "deleted"))
    assert made > 0
    return [
        *("a stream" for _ in range(made - removed)),
        *map(str, running.state_dir.glob("recordings/check*/*")),
    ]


def test_all_is_well(running: Daemon, browser: Browser) -> None:
    """Every step passes, the result can be copied, and nothing is left behind."""
    with visitor(browser, f"http://{running.control}", viewport=PHONE) as who:
        who.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=who.base)
        page = who.open("/check")
        text = checked(page)
        assert "All of it works. From this browser" in text
        assert re.findall(r"^([✓✗–]) ([^(:\n]*[A-Za-z0-9])", text, re.MULTILINE) == [
            ("✓", title)
            for title in (
                "This browser", "API", "Recorder types", "A stream for the check", "Socket", "Publishing",
                "Init segment", "FFmpeg", "Sink hls", "Sink mp4", "Playback", "Video element",
            )
        ]  # fmt: skip
        page.get_by_role("button", name="Copy the result").click()
        expect(page.locator("#copied")).to_have_text("Copied.")
        assert page.evaluate("navigator.clipboard.readText()") == text
        assert barriers(page) == []
        assert overflow(page) == []
        assert who.complaints == []
    assert left(running) == []


def test_a_blocked_socket_is_named(running: Daemon, browser: Browser) -> None:
    """What comes after it is left out, and its stream is removed all the same."""
    blocked = """globalThis.WebSocket = class extends WebSocket {
      constructor(url, ...more) { super(url.replace(/:[0-9]+/, ':1'), ...more); }
    }"""
    with visitor(browser, f"http://{running.control}") as who:
        who.context.add_init_script(blocked)
        text = checked(who.open("/check"))
    assert "Socket failed." in text
    assert re.search(
        rf"✗ Socket .*No WebSocket could be opened to ws://{running.ingest}\.\n +→ That port must be", text
    )
    assert "– Publishing: Not reached" in text
    assert left(running) == []


@pytest.mark.full
def test_a_missing_ffmpeg_is_named(tmp_path: Path, browser: Browser) -> None:
    """It was there when the daemon started; the player works without it."""
    program = tmp_path / "ffmpeg"
    program.symlink_to(shutil.which("ffmpeg") or "")
    config = f'[ffmpeg]\npath = "{program}"\n'
    with daemon(tmp_path, ENCODE + HLS + MP4, config=config) as made:
        program.unlink()
        with visitor(browser, f"http://{made.control}") as who:
            text = checked(who.open("/check"))
    assert "FFmpeg failed." in text
    assert re.search(r"✗ FFmpeg .*does not encode: .*\n +→ Run `ingestd doctor` on the server", text)


@pytest.mark.full
def test_a_pipeline_without_sinks_and_a_limit(tmp_path: Path, browser: Browser) -> None:
    """Without sinks nothing has to be encoded; where there may be no more streams, that is said."""
    with (
        daemon(tmp_path, ENCODE, control='pipeline = "test"\nmax_streams = 2\n') as made,
        visitor(browser, f"http://{made.control}") as who,
    ):
        page = who.open("/check")
        assert "✓ FFmpeg (0.0 s): Not needed: the pipeline has no sinks." in checked(page)
        assert who.context.request.post(f"{who.base}/v1/streams", data={"name": "more"}).ok
        page.reload()
        text = checked(page)
    assert re.search(
        r"✗ A stream for the check .*control\.max_streams.*\n +→ Delete streams that nobody needs", text
    )


@pytest.mark.full
def test_all_is_well_behind_nginx(tmp_path: Path, browser: Browser) -> None:
    """At the one address of `control.public_url`: pages, API, events, and both ends of the media."""
    with behind(tmp_path) as (_, address), visitor(browser, f"http://{address}") as who:
        board = who.open("/")
        expect(board.locator("#summary")).to_contain_text("0 viewers")
        who.context.set_default_timeout(LONG)
        text = checked(who.open("/check"))
        assert "All of it works." in text, text
        expect(board.locator("#summary")).to_contain_text("1 stream ")
        expect(board.get_by_role("article", name="check")).to_have_count(0)
        assert who.complaints == []
