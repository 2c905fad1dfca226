"""Chromium's Media Source as a judge of what we mux: what it buffers, and what it complains of."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.support.packages import program

_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
]

_APPEND = """async ({mime, portions}) => {
  const video = document.createElement('video');
  video.muted = true;
  document.body.append(video);
  const source = new MediaSource();
  video.src = URL.createObjectURL(source);
  await new Promise((resolve) => source.addEventListener('sourceopen', resolve, {once: true}));
  const buffer = source.addSourceBuffer(mime);
  for (const portion of portions) {
    const bytes = Uint8Array.from(atob(portion), (c) => c.charCodeAt(0));
    await new Promise((resolve, reject) => {
      buffer.addEventListener('updateend', resolve, {once: true});
      buffer.addEventListener('error', () => reject(new Error('append refused')), {once: true});
      buffer.appendBuffer(bytes);
    }).catch((error) => { throw new Error(error.message + ': ' + (video.error && video.error.message)); });
  }
  const ranges = [];
  const buffered = buffer.buffered;
  for (let i = 0; i < buffered.length; i++) ranges.push([buffered.start(i), buffered.end(i)]);
  source.endOfStream();
  video.playbackRate = 4;
  for (const [start, end] of ranges) {
    video.currentTime = start;
    await video.play();
    await new Promise((resolve, reject) => {
      const arrived = () => { if (video.ended || video.currentTime > end - 0.3) resolve(); };
      video.addEventListener('timeupdate', arrived);
      video.addEventListener('error', () => reject(new Error(video.error.message)), {once: true});
      setTimeout(() => reject(new Error('playback stalled at ' + video.currentTime)), 20000);
    });
  }
  const frames = video.getVideoPlaybackQuality().totalVideoFrames;
  const result = {ranges, frames, width: video.videoWidth, error: video.error && video.error.message};
  video.remove();
  return result;
}"""


@contextmanager
def browser_page() -> Iterator[Page]:
    """A page of a headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=_ARGS)
        try:
            page = browser.new_page()
            page.set_content("<!doctype html><title>Media Source</title>")
            yield page
        finally:
            browser.close()


def append(page: Page, mime: str, portions: Sequence[bytes]) -> dict[str, Any]:
    """Append *portions*, play each buffered range to its end; return the ranges, frames, width and error."""
    encoded = [base64.b64encode(portion).decode() for portion in portions]
    result: dict[str, Any] = page.evaluate(_APPEND, {"mime": mime, "portions": encoded})
    return result
