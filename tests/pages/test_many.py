"""Twenty who watch the same stream in a browser."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

from tests.daemon.tools import COPY, HLS
from tests.support.browser import open_chromium
from tests.support.captures import capture
from tests.support.daemon import daemon, publish
from tests.support.library import open_library

VIEWERS = 20
CAPTURE = capture("cv-vp8-250.webm")

WATCH = """
window.players = Array.from({ length: VIEWERS }, () => {
  const video = Object.assign(document.createElement("video"), { muted: true, width: 160, height: 90 });
  document.body.append(video);
  const player = new Player(video, { url });
  player.video = video;
  player.ended = new Promise(done => player.on("statechange", ({ state }) => state === "ended" && done()));
  player.start();
  return player;
});
"""


async def test_twenty_viewers_see_all_of_it(tmp_path: Path) -> None:
    """One page with twenty players that came first: each gets every frame, from one muxing."""
    chunks, times = CAPTURE.chunks(), CAPTURE.times()
    with daemon(tmp_path, COPY + HLS) as running:
        async with open_chromium() as browser, open_library(browser) as page:
            url = f"ws://{running.ingest}/stream/watch/cam"
            await page.run(WATCH, url=url, VIEWERS=VIEWERS)
            await page.until("players.every(player => player.state === 'waiting')")
            await running.wait_until(lambda status: status["viewers"] == VIEWERS)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(publish, running.publish_url, chunks, at=times))
                await page.until("players.every(player => player.state === 'playing')", within=60)
            await page.run("await Promise.all(players.map(player => player.ended));")
            found = await page.run(
                "return players.map(({ statistics, video }) => [statistics.skipped, statistics.reconnects,"
                " statistics.decodedFrames, video.buffered.length, video.buffered.end(0)]);"
            )
        await running.wait_until(lambda status: status["viewers"] == 0)
    ends = {round(end, 3) for *_, end in found}
    assert len(found) == VIEWERS
    assert all((skipped, reconnects, ranges) == (0, 0, 1) for skipped, reconnects, _, ranges, _ in found)
    assert all(frames > 30 for _, _, frames, *_ in found)
    # All of it, to the last frame, and the same for all.
    assert len(ends) == 1
