"""`Publisher` in Chromium, against the real daemon."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.daemon.tools import COPY, HLS, MKV, RAW
from tests.support.browser import open_chromium
from tests.support.counting import assert_same_frames, decode_errors, read_video
from tests.support.daemon import Daemon, daemon
from tests.support.library import LibraryPage, open_library
from tests.support.proxy import proxy

pytestmark = pytest.mark.usefixtures("no_processes_left")

#: Begin to publish numbered pictures: `publisher`, what it `said`, and its `source`.
START = """
  window.source = numberedCanvas({ fps: 30, first });
  window.make = more => source.stream({ width: 320, height: 180, video: true, audio: true, ...more });
  window.publisher = new Publisher({ url, key: 'cam-key', stream: make(), bitrate: 600_000, ...options });
  window.said = heard(publisher);
  await publisher.start();
"""


async def start(page: LibraryPage, url: str, *, first: int = 0, **options: Any) -> None:
    await page.run(START, url=url, first=first, options=options)


def url_of(running: Daemon, port: int | None = None) -> str:
    return f"ws://{running.ingest}/stream/live" if port is None else f"ws://127.0.0.1:{port}/stream/live"


def raw(running: Daemon) -> list[Path]:
    """The raw recordings of all recorders, in order."""
    return [path for path in running.recordings if "-source-" in path.name]


def hashes(running: Daemon) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in raw(running)]


async def codes(page: LibraryPage) -> list[str]:
    """The codes of all warnings and errors, in order."""
    told: list[str] = await page.run("return [...said.warning, ...said.error].map(({ code }) => code)")
    return told


async def test_everything_arrives_once_through_breaks_and_changes(tmp_path: Path) -> None:
    """By a library of another origin: two breaks, another source, another bitrate; the journal has it all."""
    with daemon(tmp_path, COPY + RAW + MKV) as running:
        async with (
            proxy(int(running.ingest.rpartition(":")[2])) as way,
            open_library(of=running.control) as page,
        ):
            await start(page, url_of(running, way.port), name="camera 1")
            assert await page.run("return publisher.state") == "live"
            assert running.wait_event("publisher_connected")["client"] == "camera 1"
            for reconnects in (1, 2):
                way.cut()
                await page.until(f"publisher.statistics.reconnects === {reconnects}")
                await page.until("publisher.state === 'live'")
                acknowledged = await page.run("return publisher.statistics.acknowledged")
                await page.until(f"publisher.statistics.acknowledged > {acknowledged + 2}")
            await page.run("await publisher.replace(make({ width: 480, height: 270 }))")
            await page.until("recorders[1]?.given.length > 3")
            assert (await page.run("return publisher.statistics"))["width"] == 480
            await page.run("await publisher.setBitrate(300_000)")
            await page.until("recorders[2]?.given.length > 3")
            await page.run("await publisher.stop()")
            told = await page.run("return { ...said, statistics: publisher.statistics, all: await hashes() }")
            bits = await page.run("return recorders.map(({ bits }) => bits)")
        status = await running.wait_ended()
        assert hashes(running) == told["all"]
        assert bits == [600_000, 600_000, 300_000]
        assert (status["gap_count"], status["cause"]) == (0, None)
        assert status["resumes"] == 2
        states = [change["state"] for change in told["statechange"]]
        again = ["reconnecting", "live"]
        assert states == ["connecting", "starting", "live", *again, *again, "ending", "ended"]
        assert [hello["resumed"] for hello in told["hello"]] == [False, True, True]
        assert told["error"] == []
        assert {warning["code"] for warning in told["warning"]} == {"connection_lost", "reconnected"}
        statistics = told["statistics"]
        assert statistics["acknowledged"] == status["chunks"]
        assert (statistics["waitingChunks"], statistics["droppedChunks"]) == (0, 0)
        files = [path for path in running.recordings if path.suffix == ".mkv"]
        files.sort(key=lambda path: len(path.name))
        assert len(files) == 2  # another size is another file
        assert [number for path in files for _, number in read_video(path)] == [
            number for path in raw(running) for _, number in read_video(path)
        ]
        # A busy browser gives two pictures the same millisecond at times: FFmpeg says so of both.
        first, *others = (len(decode_errors(path)) for path in raw(running))
        assert [len(decode_errors(path)) for path in files] == [first, sum(others)]


async def test_what_the_pipeline_copies_is_h264(tmp_path: Path) -> None:
    """With `codec: "h264"` the HLS output shows, without an encoder, every frame that was recorded."""
    with daemon(tmp_path, '[video]\ncodec = "auto"\n' + RAW + HLS) as running, trio.fail_after(60):
        async with open_library() as page:
            await start(page, url_of(running), codec="h264", lowLatency=True)
            await page.until("recorders[0].given.length > 30")
            assert "avc1" in await page.run("return publisher.statistics.recorderType")
            await page.run("await publisher.stop()")
        await running.wait_ended()
        assert running.wait_event("session_plan")["video"] == "copy"
        [recording] = raw(running)
        shown = read_video(running.playlist)
        assert_same_frames(shown, read_video(recording), 0.002, align=True)
        assert len(shown) > 60


async def test_waits_for_the_network_and_then_takes_less_of_it(tmp_path: Path) -> None:
    """Above 5 MB it pauses, below 1 MB it goes on; the second time with a new recorder of a lower bitrate."""
    buffered = "window.buffered = bytes"
    with daemon(tmp_path, COPY + RAW) as running:
        async with open_library() as page:
            await page.run(
                "Object.defineProperty(WebSocket.prototype, 'bufferedAmount',"
                " { get: () => window.buffered ?? 0 })"
            )
            await start(page, url_of(running))
            await page.run(buffered, bytes=5_000_000)
            given = await page.run("return recorders[0].given.length")
            await page.until(f"recorders[0].given.length > {given + 1}")
            assert await page.run("return publisher.state") == "live"
            await page.run(buffered, bytes=5_000_001)
            await page.until("publisher.state === 'paused'")
            assert await page.run("return publisher.cause.code") == "buffer_full"
            await page.run(buffered, bytes=1_000_000)
            assert await page.run("return recorders[0].state") == "paused"
            await page.run(buffered, bytes=999_999)
            await page.until("publisher.state === 'live'")
            assert await page.run("return recorders[0].log") == ["pause", "resume"]
            await page.run(buffered, bytes=5_000_001)
            await page.until("publisher.state === 'paused'")
            await page.run(buffered, bytes=0)
            await page.until("recorders[1]?.given.length > 2")
            assert await page.run("return recorders[1].bits") == 360_000
            assert await page.run("return publisher.statistics.bitrate") == 360_000
            await page.run("await publisher.stop()")
            expected = await page.run("return await hashes()")
            assert await codes(page) == ["buffer_full", "buffer_full", "bitrate_lowered"]
        status = await running.wait_ended()
        assert hashes(running) == expected
        [gap] = status["gaps"]  # a pause within a recorder is none
        assert (gap["chunks"], gap["seconds"] > 0) == (1, True)


async def test_goes_on_after_a_reload(tmp_path: Path) -> None:
    """With `remember` the session goes on under the same name; without a key it could not."""
    with daemon(tmp_path, COPY + RAW + MKV) as running:
        async with open_library() as page:
            await start(page, url_of(running), remember=True)
            await page.until("recorders[0].given.length > 4")
            [before] = await page.run("return said.hello")
            await page.load(await page.run("return location.href"))
            await start(page, url_of(running), first=2000, remember=True)
            await page.until("recorders[0].given.length > 4")
            [after] = await page.run("return said.hello")
            await page.run("await publisher.stop()")
            [expected] = await page.run("return await hashes()")
            assert await page.run("return sessionStorage.length") == 0
        status = await running.wait_ended()
        assert (before["session"], before["resumed"]) == (after["session"], False)
        assert after["resumed"]
        assert (len(raw(running)), hashes(running)[1]) == (2, expected)
        assert status["resumes"] == 1


async def test_a_source_that_ends_is_told_and_can_be_replaced(tmp_path: Path) -> None:
    """All tracks end: the publisher pauses, and goes on with another stream.

    A recorder that stops by itself is followed by another; what happens to devices and page is told.
    """
    with daemon(tmp_path, COPY + RAW) as running:
        async with open_library() as page:
            await start(page, url_of(running))
            await page.run(
                "recorders[0].stop();"  # as when it fails
                "navigator.mediaDevices.dispatchEvent(new Event('devicechange'));"
                "Object.defineProperty(document, 'hidden', { get: () => true });"
                "document.dispatchEvent(new Event('visibilitychange'))"
            )
            await page.until("recorders[1]?.given.length > 2")
            await page.run(
                "for (const track of publisher.stream.getTracks()) {"
                " track.stop(); track.dispatchEvent(new Event('ended')); }"  # stop() itself says nothing
            )
            await page.until("publisher.state === 'paused'")
            assert await page.run("return publisher.cause.code") == "source_ended"
            await page.run("source.end()")
            await page.run(
                "window.source = numberedCanvas({ fps: 30 });"
                "await publisher.replace("
                "source.stream({ width: 320, height: 180, video: true, audio: false }))"
            )
            await page.until("publisher.state === 'live' && recorders[2]?.given.length > 2")
            await page.run("await publisher.stop()")
            expected = await page.run("return await hashes()")
            assert await codes(page) == [
                "devices_changed", "hidden_tab", "recorder_stopped",
                "track_ended", "track_ended", "source_ended",
            ]  # fmt: skip
        await running.wait_ended()
        assert hashes(running) == expected


async def test_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    """A wrong key, another publisher, no server, no address, and devices that are denied or not there."""
    failing = """
      const publisher = new Publisher({ stream: new MediaStream(), ...options });
      const said = heard(publisher);
      const error = await publisher.start().catch(error => error);
      const { code, text, advice, close } = error;
      return { code, text, advice, close, name: error.name, state: publisher.state, said };
    """
    with daemon(tmp_path, COPY + RAW) as running:
        async with open_library() as page:
            wrong = await page.run(failing, options={"url": url_of(running), "key": "of-another"})
            assert (wrong["code"], wrong["close"], wrong["state"]) == ("unknown_key", 4401, "failed")
            assert wrong["name"] == "IngestdError"
            assert wrong["said"]["error"][0]["advice"].startswith("Check the stream key")
            assert "of-another" not in str(wrong)
            nowhere = await page.run(failing, options={"url": "nowhere://", "key": "k"})
            assert (nowhere["code"], nowhere["state"]) == ("bad_address", "failed")
            await start(page, url_of(running))
            second = await page.run(failing, options={"url": url_of(running), "key": "cam-key"})
            assert (second["code"], second["close"]) == ("already_live", 4409)
            await page.run("await publisher.stop()")
            assert await codes(page) == []

            denied = "return await getMedia(wanted).then(() => null, ({ code, advice }) => [code, advice])"
            huge = {"video": {"width": {"exact": 99_999}}}
            assert (await page.run(denied, wanted=huge))[0] == "device_constraints"
            assert await page.run(denied, wanted={"video": True, "audio": True}) is None
            assert await page.run("return Publisher.check()") == []
            framed = """
              const allow = "camera 'none'; microphone 'none'";
              const frame = Object.assign(document.createElement('iframe'), { allow, src: location.href });
              document.body.append(frame);
              await until(() => frame.contentWindow.loaded);
              return frame.contentWindow.Publisher.check().map(({ code }) => code);
            """
            assert await page.run(framed) == ["no_capture"]
    refusing = "--use-fake-ui-for-media-stream=deny"
    async with open_chromium(refusing) as browser, open_library(browser) as page:
        [code, advice] = await page.run(denied, wanted={"video": True})
        assert code == "permission_denied"
        assert advice.startswith("Allow both")
        await page.run(
            "window.publisher = new Publisher({ url, stream: new MediaStream() });"
            "window.said = heard(publisher); publisher.start().catch(() => {});",
            url="ws://127.0.0.1:9/stream/live",
        )
        await page.until("said.statechange.filter(({ cause }) => cause?.code === 'unreachable').length > 1")
        assert await page.run("return publisher.state") == "connecting"
        await page.run("await publisher.stop()")
        assert await page.run("return publisher.state") == "ended"


#: Pictures that no encoder makes small, so that much is to be sent.
NOISE = """
  const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 360 });
  const pen = canvas.getContext('2d');
  const pictures = Array.from({ length: 5 }, () => {
    const picture = pen.createImageData(640, 360);
    for (let at = 0; at < picture.data.length; at += 65536) {
      crypto.getRandomValues(picture.data.subarray(at, at + 65536));
    }
    return picture;
  });
  let drawn = 0;
  setInterval(() => pen.putImageData(pictures[drawn++ % 5], 0, 0), 100);
  window.noise = canvas.captureStream(10);
"""


@pytest.mark.full
async def test_a_network_that_stalls(tmp_path: Path) -> None:
    """A proxy takes nothing for a while: the recorder pauses and goes on, and nothing of it is lost."""
    with daemon(tmp_path, COPY + RAW) as running:
        async with proxy(int(running.ingest.rpartition(":")[2])) as way, open_library() as page:
            await page.run(NOISE)
            options = {"url": url_of(running, way.port), "key": "cam-key", "bitrate": 20_000_000}
            await page.run(
                "window.publisher = new Publisher({ ...options, stream: noise });"
                "window.said = heard(publisher); window.most = 0;"
                "setInterval(() => { most = Math.max(most, publisher.statistics.waitingChunks); }, 20);"
                "await publisher.start()",
                options=options,
            )
            for log in (["pause", "resume"], ["pause", "resume", "pause", "stop"]):
                way.freeze()
                await page.until("publisher.state === 'paused'")
                assert await page.run("return publisher.cause.code") == "buffer_full"
                assert await page.run("return publisher.statistics.bufferedBytes") > 1_000_000
                way.thaw()
                await page.until("publisher.state === 'live'")
                assert await page.run("return recorders[0].log") == log
            await page.until("recorders[1]?.given.length > 2")
            assert await page.run("return recorders[1].bits") == 12_000_000
            await page.run("await publisher.stop()")
            expected = await page.run("return await hashes()")
            assert await page.run("return most") <= 60
        await running.wait_ended()
        assert hashes(running) == expected


@pytest.mark.full
async def test_a_long_outage(tmp_path: Path) -> None:
    """Sixty chunks wait, no more; what was recorded arrives; then a recorder of a lower bitrate begins."""
    with daemon(tmp_path, COPY + RAW) as running:
        async with proxy(int(running.ingest.rpartition(":")[2])) as way, open_library() as page:
            await start(page, url_of(running, way.port))
            await page.run(
                "window.most = 0;"
                "setInterval(() => { most = Math.max(most, publisher.statistics.waitingChunks); }, 20)"
            )
            await page.until("recorders[0].given.length > 3")
            way.refusing = True
            cut = time.monotonic()
            way.cut()
            await page.until("said.warning.some(({ code }) => code === 'queue_full')", within=40)
            assert await page.run("return publisher.state") == "reconnecting"
            await trio.sleep(1)  # nothing is recorded any more
            assert 58 <= await page.run("return most") <= 60
            assert await page.run("return recorders.length") == 1
            way.refusing = False
            await page.until("recorders[1]?.given.length > 3", within=30)
            away = time.monotonic() - cut
            assert await page.run("return recorders[1].bits") == 360_000
            await page.run("await publisher.stop()")
            expected = await page.run("return await hashes()")
            statistics = await page.run("return publisher.statistics")
            assert statistics["droppedChunks"] == 0
        status = await running.wait_ended()
        assert hashes(running) == expected
        [gap] = status["gaps"]
        assert 1 < gap["seconds"] < away - 10  # most of the time something was recorded, and has arrived
        assert gap["reason"] == "nothing was recorded while too much waited"
        assert statistics["acknowledged"] == status["chunks"]
