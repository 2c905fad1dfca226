"""How late viewers see what was drawn: the daemon's relay beside a plain relay and beside HLS, in one run.

A page draws the time of day into its picture and publishes it with our library. Another browser shows the
stream: by a relay that passes chunks on as they come (a stand-in made here, between the page and the daemon),
then by our `Player`, then by the daemon's HLS. One at a time: several decoders in one browser would slow
each other down. Each frame that is displayed is read back: now, less what stands in it, is its age. Then
viewers come late, one after another, and the time from opening the page to its first frame is taken.

    python -m benchmarks.latency [--slices 100 250] [--seconds 30] [--joins 10] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import trio
from attrs import define, field
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    open_websocket_url,
    serve_websocket,
)

from tests.support import pages
from tests.support.browser import Page, open_chromium
from tests.support.daemon import Daemon, daemon

PAGE = Path("tests/support/publisher.html").resolve()  # it has a canvas that draws the time of day
PIPELINE = """
[video]
codec = "h264"
size = "320x180"
fps = 30
bitrate = "400k"
preset = "ultrafast"
[[sinks]]
type = "hls"
segment = "2s"
"""
HEADER = 12  # bytes of `ingestd.v1` before a chunk's data
BACKLOG = 4096
MAX_MESSAGE = 2**24
SETTLE = 6.0  # seconds; HLS takes three segments

PUBLISH = """
(async () => {{
  const {{ Publisher }} = await import("{library}");
  window.canvas = numberedCanvas({{ fps: 30 }});
  const stream = await canvas.stream({{ width: 320, height: 180, video: true, audio: true }});
  window.live = new Publisher({{
    url: "{url}", key: "cam-key", stream, bitrate: 400_000, lowLatency: {low}, codec: "vp8",
  }});
  live.addEventListener("error", event => console.error(JSON.stringify(event.detail)));
  await live.start();
}})()
"""

WATCH = """
(async () => {{
  const {{ Player }} = await import("{library}");
  const age = video => {{
    const samples = [], canvas = new OffscreenCanvas(340, 8);
    const pen = canvas.getContext("2d", {{ willReadFrequently: true }});
    const seen = (_, {{ expectedDisplayTime }}) => {{
      pen.drawImage(video, 0, 0, video.videoWidth, video.videoHeight * 0.08, 0, 0, 340, 8);
      const {{ data }} = pen.getImageData(0, 4, 340, 1);
      const cells = Array.from({{ length: 34 }}, (_, i) => data[(i * 10 + 5) * 4 + 1] > 127);
      if (cells[0] && !cells[33]) {{
        const drawn = cells.slice(1, 33).reduce((sum, on) => sum * 2 + (on ? 1 : 0), 0);
        const shown = Math.round(performance.timeOrigin + expectedDisplayTime) % 2 ** 32;
        samples.push((shown - drawn + 2 ** 32) % 2 ** 32);
      }}
      video.requestVideoFrameCallback(seen);
    }};
    video.requestVideoFrameCallback(seen);
    return samples;
  }};
  const video = () => {{
    const made = document.createElement("video");
    return document.body.appendChild(Object.assign(made, {{
      muted: true, autoplay: true, width: 320, crossOrigin: "anonymous",
    }}));
  }};
  const shown = video();
  window.samples = age(shown);
  if ("{kind}" === "relay") {{
    window.player = new Player(shown, {{ url: "{url}", latency: {latency} }});
    player.start();
  }} else if ("{kind}" === "plain") {{
    const source = new MediaSource(), queue = [];
    shown.src = URL.createObjectURL(source);
    await new Promise(done => source.addEventListener("sourceopen", done));
    const buffer = source.addSourceBuffer('video/webm;codecs="vp8,opus"');
    const feed = () => {{ if (queue.length && !buffer.updating) buffer.appendBuffer(queue.shift()); }};
    buffer.addEventListener("updateend", feed);
    const socket = Object.assign(new WebSocket("{url}"), {{ binaryType: "arraybuffer" }});
    socket.onmessage = ({{ data }}) => {{ queue.push(data); feed(); }};
  }} else {{
    shown.src = "{url}";
    shown.play();
  }}
}})()
"""

FIRST_FRAME = """
window.firstFrame = new Promise(done => {
  const look = () => {
    const video = document.querySelector("video");
    if (!video) return setTimeout(look, 1);
    video.requestVideoFrameCallback(() => done(performance.now()));
  };
  look();
});
"""


@define(eq=False)
class PlainRelay:
    """What people write first: each chunk goes to each viewer as it comes; who is late gets the first one."""

    upstream: str
    first: bytes | None = None
    _viewers: set[trio.MemorySendChannel[bytes]] = field(factory=set)

    async def host(self, *, task_status: trio.TaskStatus[Any]) -> None:
        """Serve both sides on a free port, until cancelled."""
        await serve_websocket(
            self.connection, "127.0.0.1", 0, ssl_context=None, max_message_size=MAX_MESSAGE,
            task_status=task_status,
        )  # fmt: skip

    async def connection(self, request: WebSocketRequest) -> None:
        if request.path.startswith("/watch"):
            await self._watch(await request.accept())
        else:
            await self._publish(await request.accept(subprotocol="ingestd.v1"))

    async def _watch(self, socket: WebSocketConnection) -> None:
        send, receive = trio.open_memory_channel[bytes](BACKLOG)
        if self.first is not None:
            send.send_nowait(self.first)
        self._viewers.add(send)
        try:
            async for chunk in receive:
                await socket.send_message(chunk)
        except ConnectionClosed:
            pass
        finally:
            self._viewers.discard(send)

    async def _publish(self, socket: WebSocketConnection) -> None:
        self.first = None
        async with (
            open_websocket_url(
                self.upstream, subprotocols=["ingestd.v1"], max_message_size=MAX_MESSAGE
            ) as server,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_pass, server, socket)
            try:
                while True:
                    message = await socket.get_message()
                    await server.send_message(message)
                    if isinstance(message, bytes):
                        self._tell(message[HEADER:])
            except ConnectionClosed:
                nursery.cancel_scope.cancel()

    def _tell(self, chunk: bytes) -> None:
        if self.first is None:
            self.first = chunk
        for viewer in self._viewers:
            viewer.send_nowait(chunk)


async def _pass(source: WebSocketConnection, sink: WebSocketConnection) -> None:
    try:
        while True:
            await sink.send_message(await source.get_message())
    except ConnectionClosed:
        await sink.aclose()


async def measure(running: Daemon, slice_ms: int, seconds: float, joins: int) -> dict[str, Any]:
    """Ages of frames and times to the first one, at slices of *slice_ms*."""
    relay = PlainRelay(f"ws://{running.ingest}/stream/live")
    library = f"http://{running.control}/lib/ingestd.js"
    found: dict[str, Any] = {"slice_ms": slice_ms, "age_ms": {}}
    async with trio.open_nursery() as nursery, open_chromium() as browser, open_chromium() as other:
        plain = f"ws://127.0.0.1:{(await nursery.start(relay.host)).port}"
        blank = await pages.serve(nursery, PAGE)
        page, watch = await browser.new_page(), await other.new_page()

        async def look(kind: str, url: str) -> None:
            await watch.goto(blank)
            latency = 2 * slice_ms / 1000
            await watch.evaluate(WATCH.format(library=library, kind=kind, url=url, latency=latency))

        async def publish() -> None:
            await page.goto(blank)
            low = "true" if slice_ms < 250 else "false"
            await page.evaluate(PUBLISH.format(library=library, url=f"{plain}/publish", low=low))

        # Before the publisher: who comes to the plain relay later sees nothing.
        await look("plain", f"{plain}/watch")
        await publish()
        found["age_ms"]["plain"] = _summary(await _ages(watch, seconds))
        await page.evaluate("live.stop()")
        await running.wait_ended()
        await look("relay", f"ws://{running.ingest}/stream/watch/cam")
        await publish()
        found["age_ms"]["relay"] = _summary(await _ages(watch, seconds))
        found["player"] = await watch.evaluate("player.statistics")
        found["first_frame_ms"] = _summary([await _join(watch, running) for _ in range(joins)])
        await look("hls", running.playlist_url)
        found["age_ms"]["hls"] = _summary(await _ages(watch, seconds))
        await page.evaluate("live.stop()")
        nursery.cancel_scope.cancel()
    return found


async def _ages(page: Page, seconds: float) -> list[float]:
    """Ages (ms) of the frames that are displayed within *seconds*, once the viewer has settled."""
    await trio.sleep(SETTLE)
    await page.evaluate("samples.length = 0")
    await trio.sleep(seconds)
    ages: list[float] = await page.evaluate("samples")
    return ages


async def _join(page: Page, running: Daemon) -> float:
    """Milliseconds from opening ``/watch/cam`` to its first frame."""
    await page.command("Page.enable")
    script = await page.command("Page.addScriptToEvaluateOnNewDocument", source=FIRST_FRAME)
    try:
        await page.goto(f"http://{running.control}/watch/cam")
        with trio.fail_after(20):
            found = await page.evaluate("firstFrame")
    finally:
        await page.command("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
    return float(found)


def _summary(values: list[float]) -> dict[str, float] | None:
    if len(values) < 2:
        return None
    return {
        "frames": len(values),
        "p50": round(statistics.median(values)),
        "p95": round(statistics.quantiles(values, n=20, method="inclusive")[-1]),
        "max": round(max(values)),
    }


def _show(result: dict[str, Any]) -> None:
    names = {
        "relay": "ingestd, /stream/watch",
        "plain": "a plain relay",
        "hls": "ingestd, HLS (2 s segments)",
    }
    base = (result["age_ms"]["relay"] or {}).get("p50")
    print(f"\n{result['slice_ms']} ms slices: draw → display")
    for name in names:
        found = result["age_ms"][name]
        if found is None:
            print(f"  {names[name]:28} nothing was shown")
            continue
        ratio = f"{found['p50'] / base:5.1f}×" if base else ""
        print(f"  {names[name]:28} p50 {found['p50']:6} ms   p95 {found['p95']:6} ms   {ratio}")
    first = result["first_frame_ms"]
    if first:
        print(f"  opening /watch → first frame  p50 {first['p50']:5} ms   p95 {first['p95']:6} ms")


async def main(slices: list[int], seconds: float, joins: int) -> list[dict[str, Any]]:
    results = []
    for slice_ms in slices:
        print(f"measuring {slice_ms} ms slices for {seconds:g} s …", file=sys.stderr)
        with tempfile.TemporaryDirectory() as directory, daemon(Path(directory), PIPELINE) as running:
            results.append(await measure(running, slice_ms, seconds, joins))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--slices", type=int, nargs="+", default=[100, 250], metavar="MS", help="slice lengths"
    )
    parser.add_argument("--seconds", type=float, default=30, help="of watching each (default: 30)")
    parser.add_argument("--joins", type=int, default=10, help="late viewers each (default: 10)")
    parser.add_argument("--json", action="store_true", help="print all that was found as JSON")
    arguments = parser.parse_args()
    found = trio.run(main, arguments.slices, arguments.seconds, arguments.joins)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        for each in found:
            _show(each)
