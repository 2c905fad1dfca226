"""Chromium's Media Source as the judge: what a late viewer gets plays, by the type that it is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from playwright.sync_api import Page

from ingestd.live.ring import Message
from tests.live.test_segmenter import cut, published
from tests.media.mse import append, browser_page


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser_page() as opened:
        yield opened


async def messages(name: str) -> list[Message]:
    return cut(published(name))


@pytest.mark.parametrize(
    "name",
    [
        "cv-vp8-250.webm",
        "cv-av1-250.webm",
        "cv-h264webm-100.mkv",
        pytest.param("cv-vp9-250.webm", marks=pytest.mark.full),
        pytest.param("cv-mp4avc-250.mp4", marks=pytest.mark.full),
    ],
)
def test_a_late_viewer_plays_from_its_first_message(name: str, page: Page) -> None:
    """In one range, from the time that it is told on, without an error."""
    made = trio.run(messages, name)
    start = max(index for index, message in enumerate(made) if message.starts)
    first = made[start]
    assert first.init is not None
    portions = [first.init.segment, *(bytes(message.payload) for message in made[start:])]
    result = append(page, first.init.media, portions)
    assert result["error"] is None
    ((begin, end),) = result["ranges"]
    assert begin == pytest.approx(first.time / 1000, abs=0.1)
    assert end > begin


@pytest.mark.parametrize("name", ["cv-vp8-250.webm", "cv-h264webm-100.mkv"])
def test_nothing_is_cut_off_from_the_sound(name: str, page: Page) -> None:
    """Chromium would say so. By what it cuts off it runs dry before its buffer is empty."""
    made = trio.run(messages, name)
    assert made[0].init is not None
    devtools = page.context.new_cdp_session(page)
    told: list[str] = []
    devtools.on(
        "Media.playerMessagesLogged",
        lambda event: told.extend(message["message"] for message in event["messages"]),
    )
    devtools.send("Media.enable")
    append(page, made[0].init.media, [made[0].init.segment, *(bytes(message.payload) for message in made)])
    page.wait_for_timeout(1500)  # it tells once a second
    devtools.detach()
    assert any("ChunkDemuxer" in message for message in told)
    assert not [message for message in told if "splice" in message or "gap" in message]
