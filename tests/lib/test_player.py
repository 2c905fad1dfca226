"""`Player` in Chromium: against the real daemon, and a stand-in for what that does not do on command."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.daemon.tools import COPY, HLS, RAW
from tests.lib.test_publisher import START, url_of
from tests.support.daemon import Daemon, daemon
from tests.support.fake_watch import H264, VP9, Viewer, fake_watch
from tests.support.library import LibraryPage, open_library

pytestmark = pytest.mark.usefixtures("no_processes_left")

PLAY = """
  window.player = new Player(video, { url, ...options });
  window.told = heard(player);
  player.start();
"""
#: The number of the picture that a video shows, from its bars (see sources.js).
SHOWN = """
  window.shown = video => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 18, height: 50 });
    const pen = canvas.getContext('2d');
    pen.drawImage(video, 0, 0, 18, 50);
    const row = pen.getImageData(0, 6, 18, 1).data;
    const bits = Array.from({ length: 16 }, (_, at) => row[4 * (at + 1)] > 127 ? 1 : 0);
    return bits.reduce((number, bit) => 2 * number + bit, 0);
  };
"""
#: How long after each flash of the picture its beep is heard (see sources.js), in ms.
HEARD = """
  video.muted = false;
  const sound = new AudioContext({ sampleRate: 48000 });
  const worklet = `registerProcessor("onset", class extends AudioWorkletProcessor {
    quiet = 0;
    process([[samples = []]]) {
      samples.forEach((sample, at) => {
        const loud = Math.abs(sample) > 0.02;
        if (loud && this.quiet > 4800) this.port.postMessage(currentTime + at / sampleRate);
        this.quiet = loud ? 0 : this.quiet + 1;
      });
      return true;
    }
  })`;
  await sound.audioWorklet.addModule(URL.createObjectURL(new Blob([worklet], { type: 'text/javascript' })));
  const onset = new AudioWorkletNode(sound, 'onset');
  sound.createMediaElementSource(video).connect(onset).connect(sound.destination);
  const flashes = [];
  window.offsets = [];
  onset.port.onmessage = ({ data }) => {
    const { contextTime, performanceTime } = sound.getOutputTimestamp();
    const heard = performanceTime + 1000 * (data - contextTime);
    // Both are seen a moment after they were; a beep may be told before its flash.
    setTimeout(() => {
      const near = flashes.map(flash => heard - flash).sort((a, b) => Math.abs(a) - Math.abs(b));
      if (Math.abs(near[0]) < 500) offsets.push(near[0]);
    }, 600);
  };
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
  const pen = canvas.getContext('2d', { willReadFrequently: true });
  let was = false;
  const look = (_, { expectedDisplayTime }) => {
    pen.drawImage(video, 2, video.videoHeight - 10, 8, 8, 0, 0, 1, 1);
    const on = pen.getImageData(0, 0, 1, 1).data[0] > 200;
    if (on && !was) flashes.push(expectedDisplayTime);
    was = on;
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
"""
#: The picture alone.
SILENT = "gum-vp8-videoonly-250.webm"


async def play(page: LibraryPage, url: str, **options: Any) -> None:
    await page.run(PLAY, url=url, options=options)


def watch_url(running: Daemon) -> str:
    return f"ws://{running.ingest}/stream/watch/cam"


async def states(page: LibraryPage) -> list[str]:
    """The states that it had, in order."""
    told: list[str] = await page.run("return told.statechange.map(({ state }) => state)")
    return told


async def codes(page: LibraryPage) -> list[str]:
    told: list[str] = await page.run("return [...told.warning, ...told.error].map(({ code }) => code)")
    return told


async def test_plays_what_is_published(tmp_path: Path) -> None:
    """Comes first; then a late one; other recorders and a new session of another codec; by another origin."""
    with daemon(tmp_path, COPY + RAW) as running:
        async with open_library(of=running.control) as page:
            await page.run(SHOWN)
            await play(page, watch_url(running), latency=0.5)
            await page.until("player.state === 'waiting'")
            await page.run(START, url=url_of(running), first=0, options={"lowLatency": True})
            await page.until("player.state === 'playing' && player.statistics.latencyMs > 0")
            await page.until("shown(video) > 60 && Math.abs(player.statistics.bufferedMs - 500) < 450")
            behind = await page.run("return recorders.length && [player.statistics, shown(video)]")
            assert behind[0]["mode"] == "mse"
            assert behind[0]["decodedFrames"] > 30

            await page.run("await publisher.replace(make({ width: 480, height: 270 }))")
            await page.until("video.videoWidth === 480")
            await page.run(
                "window.late = document.body.appendChild(Object.assign(document.createElement('video'),"
                " { muted: true })); window.second = new Player(late, { url }); second.start()",
                url=watch_url(running),
            )
            await page.until("second.state === 'playing' && shown(late) > 60")
            assert await page.run("return late.buffered.start(0)") > 0.5  # it has nothing of the beginning

            # Both play the same moment, about: the numbers are those of 30 pictures a second.
            first, late = await page.run("return [shown(video), shown(late)]")
            assert abs(first - late) < 90

            await page.run("await publisher.stop()")
            await page.until("player.state === 'ended' && second.state === 'ended'")
            assert "ended" in await page.run("return player.cause.text")
            await running.wait_ended()
            await page.run("source.end(); recorders.length = 0")
            await page.run(START, url=url_of(running), first=1000, options={"codec": "h264"})
            await page.until("player.state === 'playing' && second.state === 'playing'")
            await page.until("shown(video) > 1030 && shown(late) > 1030")
            told = await page.run("return { init: told.init, statistics: player.statistics }")
            await page.run("player.stop(); second.stop(); await publisher.stop()")
            assert await page.run("return [player.state, video.src]") == ["idle", ""]
            assert await codes(page) == []
        types = [init["media"] for init in told["init"]]
        assert "webm" in types[0]
        assert "mp4" in types[-1]
        assert len({init["session"] for init in told["init"]}) == 2
        assert told["statistics"]["reconnects"] == 0


@pytest.mark.full
async def test_sound_stays_with_its_picture(tmp_path: Path) -> None:
    """A browser's timestamps stray: were sound cut for that, it would be 250 ms off after 30 s."""
    with daemon(tmp_path, COPY + RAW) as running:
        async with open_library() as page, open_library() as other:
            await play(page, watch_url(running))
            await page.run(HEARD)
            await other.run(START, url=url_of(running), first=0, options={"lowLatency": True})
            await page.until("offsets.length >= 35", within=60)
            offsets = await page.run("return offsets")
            await page.run("player.stop()")
            await other.run("await publisher.stop()")
    first, last = statistics.median(offsets[3:11]), statistics.median(offsets[-8:])
    assert abs(last - first) < 60, offsets


@pytest.mark.full
async def test_a_daemon_that_goes_and_comes_back(tmp_path: Path) -> None:
    """The player and the publisher find it again by themselves."""
    with daemon(tmp_path, COPY + RAW) as running:
        async with open_library() as page:
            await play(page, watch_url(running))
            await page.run(START, url=url_of(running), first=0, options={})
            await page.until("player.state === 'playing'")
            running.kill()
            await page.until("player.state === 'connecting' && publisher.state === 'reconnecting'")
            running.start_again()
            running.wait_ready()
            await page.until("publisher.state === 'live' && player.state === 'playing'", within=30)
            before = await page.run("return video.currentTime")
            await page.until(f"video.currentTime > {before} + 1")
            assert (await page.run("return player.statistics"))["reconnects"] >= 1
            await page.run("await publisher.stop(); player.stop()")
            errors = await page.run("return [...said.error, ...told.error]")
            assert errors == []


async def test_gaps_jumps_and_new_init_segments() -> None:
    """A hole, frames left out, a jump to the live edge, other codecs, other tracks, another session."""
    steps: list[trio.Event] = [trio.Event() for _ in range(5)]
    began = trio.Event()

    async def script(viewer: Viewer) -> None:
        viewer.time = 3_600_000  # an hour after the beginning
        await viewer.say("waiting", state="connecting")
        await viewer.say("news of a later version", more=True)
        await viewer.init()
        await viewer.send(750, pace=0)  # no more than should be buffered
        await began.wait()  # who is late goes to the live edge, beyond the hole
        viewer.time += 175
        await viewer.init(time=viewer.time)  # from a keyframe on
        await viewer.send(2500)
        await steps[0].wait()
        await viewer.say("skipped", frames=30, ms=1000)
        await viewer.init(time=viewer.time + 1000)
        await viewer.send(20_000, pace=0)  # much more than can be caught up with
        await steps[1].wait()
        await viewer.init(VP9)
        await viewer.send(2500)
        await steps[2].wait()
        await viewer.say("interrupted")
        await trio.sleep(2)  # nothing comes, and nobody says that it should
        await viewer.say("resumed")
        await viewer.init(SILENT)
        await viewer.send(2500)
        await steps[3].wait()
        await viewer.say("ended", cause=None, recording=None)
        await viewer.say("waiting", state="idle")
        await steps[4].wait()
        viewer.session, viewer.time = "s2", 7000
        await viewer.init(H264)
        await viewer.stay()

    async with fake_watch(script) as fake, open_library() as page:
        await play(page, fake.url)
        await page.until("video.currentTime > 3600.4")
        began.set()
        await page.until("video.currentTime > 3602")  # beyond the hole, which two ranges are
        statistics = await page.run("return player.statistics")
        assert statistics["jumps"] == 1
        steps[0].set()
        await page.until("player.statistics.jumps >= 2 && video.currentTime > 3620")
        assert (await page.run("return player.statistics"))["skipped"] == 30
        steps[1].set()
        await page.until("told.init.length === 4 && video.currentTime > 3625")
        await page.until("video.buffered.start(0) > 3590 + 5")  # what was played 30 s ago is gone
        stalls = await page.run("return player.statistics.stalls")
        steps[2].set()
        # Without its sound it is another buffer; that the publisher was away is no stall.
        await page.until("told.init.length === 5 && player.state === 'playing'")
        assert await page.run("return player.statistics.stalls") == stalls
        at = await page.run("return video.currentTime")
        await page.until(f"video.currentTime > {at} + 1")
        steps[3].set()
        await page.until("player.state === 'ended'")
        steps[4].set()
        await page.until("player.state === 'playing' && player.statistics.media.includes('avc1')")
        at = await page.run("return video.currentTime")
        await page.until(f"video.currentTime > {at} + 3")
        assert (await page.run("return player.statistics"))["latencyMs"] is not None
        assert await codes(page) == ["too_slow"]
        assert await page.run("return [...new Set(told.statechange.map(({ state }) => state))]") == [
            "connecting", "waiting", "buffering", "playing", "interrupted", "ended",
        ]  # fmt: skip
        assert fake.connections == 1


async def test_a_video_that_does_not_get_ready_is_set_up_again() -> None:
    """Refused media; then sound without the picture that was promised; autoplay with sound is refused."""

    async def script(viewer: Viewer) -> None:
        await viewer.init()
        if viewer.number == 1:
            await viewer.socket.send_message(b"this is no media at all" * 100)
            await trio.sleep_forever()
        if viewer.number == 2:
            await viewer.send_sound(3000)
            await trio.sleep_forever()
        await viewer.stay()

    async with fake_watch(script) as fake, open_library() as page:
        await page.run(
            """video.muted = false;
            const play = video.play;
            video.play = () => video.muted ? play.call(video)
              : Promise.reject(new DOMException('not without a gesture', 'NotAllowedError'));"""
        )
        await play(page, fake.url)
        await page.until("player.state === 'playing'", within=40)
        assert fake.connections == 3
        told = await codes(page)
        assert [code for code in told if code == "not_ready"] == ["not_ready"] * 2
        assert "autoplay_muted" in told
        assert await page.run("return video.muted")


async def test_a_full_buffer_and_a_viewer_that_pauses() -> None:
    """The quota is met by removing what was played; after a pause it goes on at the live edge.

    With a ManagedMediaSource, as on a phone.
    """

    async def script(viewer: Viewer) -> None:
        await viewer.init()
        await viewer.send(3000, pace=0)
        await viewer.stay()

    async with fake_watch(script) as fake, open_library() as page:
        await page.run(
            """[window.ManagedMediaSource, window.MediaSource] = [MediaSource];
            const append = SourceBuffer.prototype.appendBuffer;
            window.full = 0;
            SourceBuffer.prototype.appendBuffer = function (data) {
              const { length } = this.buffered;
              if (length && this.buffered.end(length - 1) - this.buffered.start(0) > 6) {
                full += 1;
                throw new DOMException('full', 'QuotaExceededError');
              }
              return append.call(this, data);
            };"""
        )
        await play(page, fake.url)
        await page.until("full > 0 && player.state === 'playing'")
        at = await page.run("video.pause(); return video.currentTime")
        await page.until(f"video.buffered.end(0) > {at} + 8")
        assert await page.run("return [video.paused, video.currentTime]") == [True, at]
        await page.run("video.play()")
        await page.until(f"video.currentTime > {at} + 7")
        assert set(await codes(page)) == {"buffer_quota"}
        assert await page.run("return player.statistics.mode") == "managed-mse"
        assert fake.connections == 1


async def test_what_cannot_be_watched_is_said() -> None:
    """Close codes, a format that the browser has not, and HLS in its place where there is one."""
    closes = {4401: "may_not_watch", 4404: "no_such_stream", 4423: "disabled"}
    then = {"code": 4401}

    async def script(viewer: Viewer) -> None:
        if then["code"]:
            await viewer.socket.aclose(then["code"], "it is so")
        await viewer.say("init", media='video/quick;codecs="none"', time=0, session="s1", live=0)
        await trio.sleep_forever()

    async with fake_watch(script) as fake, open_library() as page:
        for code, name in closes.items():
            then["code"] = code
            await play(page, fake.url, token="a&b")
            await page.until("player.state === 'failed'")
            problem = await page.run("return player.cause")
            assert (problem["code"], problem["close"]) == (name, code)
            assert "it is so" in problem["text"]
        assert fake.paths[-1].endswith("?token=a%26b")
        then["code"] = 4415
        await play(page, fake.url)
        await page.until("player.state === 'unsupported'")
        assert await page.run("return [player.cause.code, player.statistics.mode]") == ["unplayable", "none"]
        then["code"] = 0
        await play(page, fake.url)
        await page.until("player.state === 'unsupported'")
        assert await page.run("return player.cause.code") == "unsupported_media"
        # No playlist is there: it is asked for, and asked for again.
        await page.run("video.canPlayType = () => 'maybe'")
        await play(page, fake.url, hls="/none/index.m3u8")
        await page.until("player.state === 'waiting' && player.statistics.mode === 'hls'")
        assert set(await codes(page)) == {"unsupported_media", "hls_failed"}
        await page.run("player.stop()")
        then["code"] = 1013
        await play(page, fake.url)
        await page.until("told.statechange.some(({ retryIn }) => retryIn >= 3000)")
        assert await page.run("return player.cause.code") == "too_many_viewers"
        await page.run("player.stop()")
        assert await page.run("return Player.check()") == []


@pytest.mark.full
async def test_a_browser_that_cannot_be_fed_plays_hls(tmp_path: Path) -> None:
    """Its own. A playlist that is not there yet is waited for, and an end is told."""
    with daemon(tmp_path, '[video]\ncodec = "auto"\n' + HLS) as running:
        async with open_library() as page:
            await page.run("window.MediaSource = undefined")
            await play(page, watch_url(running), hls=running.playlist_url)
            await page.until("player.state === 'waiting'")
            await page.run(START, url=url_of(running), first=0, options={"codec": "h264"})
            await page.until("player.state === 'playing' && video.currentTime > 1", within=60)
            assert await page.run("return player.statistics.mode") == "hls"
            assert set(await codes(page)) == {"no_media_source", "hls_failed"}
            await page.run("await publisher.stop()")
            await page.until("player.state === 'ended'", within=60)
            # Who comes now is shown nothing of the past.
            await page.run(
                "window.late = document.body.appendChild(document.createElement('video'));"
                "window.second = new Player(late, { url, hls }); second.start()",
                url=watch_url(running),
                hls=running.playlist_url,
            )
            await page.until("second.state === 'waiting'")
            await trio.sleep(4)  # its playlist is looked at again
            assert await page.run("return [player.state, second.state]") == ["ended", "waiting"]
            await page.run("player.stop(); second.stop()")
