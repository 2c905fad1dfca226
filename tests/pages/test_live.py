"""From one browser to another: broadcast, watched, steered, ended; and what is left of it."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect

from tests.support.daemon import Daemon
from tests.support.visitor import PHONE, Visitor, another, barriers, overflow, visitor

LONG = 30_000

_ELEMENT = """(video) => ({
  frames: video.getVideoPlaybackQuality().totalVideoFrames, sound: video.webkitAudioDecodedByteCount,
  muted: video.muted, at: video.currentTime, width: video.videoWidth,
})"""
#: The colour of the fake camera's background, as its page draws it.
_GROUND = """(video) => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 64, height: 36});
  const paper = canvas.getContext('2d');
  paper.drawImage(video, 0, 0, 64, 36);
  return [...paper.getImageData(16, 6, 1, 1).data].slice(0, 3);
}"""


def go_live(page: Page, key: str = "") -> list[str]:
    """Broadcast from *page*; what its state was called on the way."""
    if key:
        page.get_by_label("Stream key").fill(key)
    page.evaluate(
        """() => {
          const state = document.querySelector('#state');
          window.said = [];
          new MutationObserver(() => window.said.push(state.textContent)).observe(state, {childList: true});
        }"""
    )
    page.get_by_role("button", name="Go live").click()
    expect(page.locator("#badge")).to_have_text("Live", timeout=LONG)
    said: list[str] = page.evaluate("window.said")
    return said


def moved(video: Locator, since: dict[str, Any]) -> dict[str, Any]:
    """What *video* has played, once that is a second more than *since*."""
    page = video.page
    for _ in range(100):
        now: dict[str, Any] = video.evaluate(_ELEMENT)
        if now["frames"] > since["frames"] + 15 and now["at"] > since["at"] + 0.8:
            return now
        page.wait_for_timeout(100)
    raise AssertionError(f"it stands still: {since}, {now}")


def well(who: Visitor, *pages: Page) -> None:
    """Nothing in the console, no barrier, nothing too wide."""
    for page in pages:
        assert barriers(page) == [], page.url
        assert overflow(page) == [], page.url
    assert who.complaints == []


def test_one_browser_broadcasts_and_another_watches(running: Daemon, browser: Browser) -> None:
    """The picture moves, the sound is there; at the end the recording is offered, and plays."""
    base = f"http://{running.control}"
    with (
        another(browser) as other,
        visitor(browser, base) as ann,
        visitor(other, base, viewport=PHONE, camera=False) as bob,
    ):
        watch = bob.open("/watch/cam")
        expect(watch.locator("#curtain-title")).to_have_text("Waiting for the broadcaster")
        studio = ann.open("/broadcast")
        expect(studio.get_by_label("Camera")).to_be_enabled()
        said = go_live(studio, "cam-key")
        assert said[0].startswith("Connecting")
        assert "Connected — starting stream." in said
        assert said[-1] == "You are live."
        expect(studio.locator("#clock")).to_have_text(re.compile(r"^0:\d\d$"))
        expect(studio.get_by_label("Watch link")).to_have_value(f"{base}/watch/cam")
        expect(studio.locator("#graphs .now").first).to_have_text(re.compile(r"bit/s"))

        video = watch.locator("video")
        expect(watch.locator("#badge")).to_have_text("Live", timeout=LONG)
        first = moved(video, {"frames": 0, "at": 0})
        assert first["muted"]
        watch.get_by_role("button", name="Turn on sound").click()
        second = moved(video, first)
        assert not second["muted"]
        assert second["sound"] > first["sound"] > 0
        assert second["width"] == 1280
        # Of a picture of this size a player that is not told believes that its colours are HDTV's.
        shown, meant = video.evaluate(_GROUND), studio.locator("video").evaluate(_GROUND)
        assert all(abs(a - b) < 8 for a, b in zip(shown, meant, strict=True)), (shown, meant)
        expect(watch.locator("#latency")).to_contain_text("behind")
        watch.keyboard.press("m")
        assert video.evaluate("(video) => video.muted")
        # Paused, its last picture stays.
        watch.keyboard.press("k")
        expect(watch.locator("#curtain-title")).to_have_text("Paused")
        expect(watch.locator("#still")).to_be_visible()
        assert watch.locator("#still").evaluate("(still) => still.width") == 1280
        watch.keyboard.press("k")
        expect(watch.locator("#badge")).to_have_text("Live", timeout=LONG)
        expect(watch.locator("#still")).to_be_hidden()
        # So it is when a media key has paused it; what is seen is not called live.
        at = video.evaluate("(video) => { video.pause(); return video.currentTime; }")
        expect(watch.locator("#curtain-title")).to_have_text("Paused")
        expect(watch.locator("#badge")).to_be_hidden()
        watch.locator("#volume").evaluate(
            "(slider) => { slider.value = '0'; slider.dispatchEvent(new Event('input')); }"
        )
        watch.keyboard.press("m")
        expect(watch.locator("#volume")).to_have_value("1")
        assert video.evaluate("(video) => video.currentTime") == at
        watch.keyboard.press("k")
        expect(watch.locator("#badge")).to_have_text("Live", timeout=LONG)
        # Another size is what is recorded, not only what the preview is scaled to.
        studio.get_by_label("Quality").select_option("360")
        expect(watch.locator("#technical")).to_contain_text("640×360", timeout=LONG)
        well(ann, studio)
        well(bob, watch)

        studio.get_by_role("button", name="End broadcast").click()
        expect(studio.locator("#badge")).to_have_text("Ended")
        expect(watch.locator("#curtain-title")).to_have_text("The broadcast has ended", timeout=LONG)
        watch.get_by_role("button", name="Watch the recording").click(timeout=LONG)
        moved(video, {"frames": 0, "at": 0})
        well(bob, watch)

        studio.get_by_label("Stream key").fill("cam-kex")
        studio.get_by_role("button", name="Go live").click()
        expect(studio.locator("#key-trouble")).to_contain_text("No stream here has this key")
        assert "cam-ke" not in studio.url
        well(ann, studio)
    assert "cam-key" not in running.log.read_text()


def test_a_stream_is_made_broadcast_and_steered_from_the_dashboard(running: Daemon, browser: Browser) -> None:
    """Its key is shown once and handed over once; the dashboard follows what happens by itself."""
    with visitor(browser, f"http://{running.control}") as ann:
        board = ann.open("/")
        board.get_by_role("button", name="New stream").click()
        board.get_by_label("Name").fill("Übung")
        board.get_by_role("button", name="Create", exact=True).click()
        expect(board.locator("#creating-trouble")).to_contain_text("a character that it cannot have")
        board.get_by_label("Name").fill("lesson")
        board.get_by_label("Title").fill("Lesson one")
        board.get_by_role("button", name="Create", exact=True).click()
        expect(board.get_by_role("dialog", name="Stream key of “lesson”")).to_be_visible()
        key = board.locator("#key").input_value()
        assert len(key) > 15
        assert board.get_by_label("Address for programs").input_value().endswith(key)
        well(ann, board)

        studio = board
        studio.get_by_role("button", name="Broadcast from this browser").click()
        expect(studio.get_by_label("Stream key")).to_have_value(key)
        expect(studio.get_by_label("Camera")).to_be_enabled()
        assert key not in studio.url
        assert studio.evaluate("sessionStorage.length") == 0
        board = ann.open("/")
        card = board.get_by_role("article", name="lesson")
        expect(card).to_contain_text("Off air")
        watch = ann.open("/watch/lesson")
        expect(watch.locator("#title")).to_have_text("Lesson one")
        watch.close()
        go_live(studio)

        expect(card.locator(".badge").first).to_have_text("Live", timeout=LONG)
        picture = card.get_by_role("img", name="What lesson shows now")
        expect(picture).to_be_visible(timeout=LONG)
        assert picture.evaluate("(image) => image.naturalWidth") > 0
        expect(card.locator(".graph .now").first).to_have_text(re.compile(r"bit/s"), timeout=LONG)
        expect(card.locator(".sinks")).to_contain_text(re.compile("hls *running"), timeout=LONG)
        expect(card).to_contain_text("1280×720 VP8")
        card.get_by_text("Events and restarts").click()
        expect(card.locator(".events")).to_contain_text("On air")
        assert key not in board.content()
        well(ann, board)
        # Who comes later sees what was before, whatever their clock says and how many others there are.
        ann.context.add_init_script("const now = Date.now; Date.now = () => now() + 3_600_000;")
        ann.context.route(
            "**/v1/streams?*",
            lambda route: route.continue_(url=route.request.url.replace("limit=100", "limit=1")),
        )
        later = ann.open("/")
        expect(later.get_by_role("button", name="Show more")).to_be_visible()
        card_later = later.get_by_role("article", name="lesson")
        expect(card_later.locator(".facts")).to_contain_text(re.compile(r"On air for0:\d\d"))
        expect(card_later.locator(".graph .now").first).to_have_text(re.compile(r"bit/s"))
        expect(card_later.locator(".events")).to_contain_text("Created")
        later.close()
        ann.context.unroute_all()

        # What was refused is not wiped away by the next look at what is on air.
        ann.context.route(
            "**/v1/streams/lesson/stop",
            lambda route: route.fulfill(status=409, json={"detail": "not now"}),
        )
        card.get_by_role("button", name="Stop").click()
        board.get_by_role("button", name="Stop it").click()
        expect(board.get_by_text("not now")).to_be_visible()
        for _ in range(2):
            board.wait_for_event("requestfinished", lambda request: "state=" in request.url)
        expect(board.get_by_text("not now")).to_be_visible()
        ann.context.unroute_all()
        ann.complaints.clear()  # a browser notes each 409
        card.get_by_role("button", name="Stop").click()
        board.get_by_role("button", name="Stop it").click()
        expect(board.get_by_text("not now")).to_have_count(0)
        expect(studio.locator("#badge")).to_have_text("Ended")
        expect(card).to_contain_text("stopped by the API", timeout=LONG)
        card.get_by_role("button", name="Reset key").click()
        board.get_by_role("button", name="Make a new key").click()
        expect(board.get_by_role("dialog", name="Stream key of “lesson”")).to_be_visible()
        assert board.locator("#key").input_value() not in ("", key)
        board.get_by_role("button", name="Done").click()
        expect(board.locator("#key")).to_have_value("")
        card.get_by_role("button", name="Delete").click()
        board.get_by_role("button", name="Delete it").click()
        expect(card).to_have_count(0)
        well(ann, board)


#: A browser that keeps nothing for pages; and a camera whose plug can be pulled, or that others use.
_UNLUCKY = """
  Object.defineProperty(globalThis, "sessionStorage", {
    get() { throw new DOMException("", "SecurityError"); },
  });
  const taken = [];
  const take = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  globalThis.refusals = [];
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    if (refusals.length) throw new DOMException("", refusals.shift());
    return taken[taken.push(await take(wanted)) - 1];
  };
  globalThis.unplug = (kind = "Video") => {
    const tracks = taken.at(-1)[`get${kind}Tracks`]();
    for (const track of tracks) track.stop();
    for (const track of tracks) track.dispatchEvent(new Event("ended"));
  };
"""


def test_a_broadcast_outlives_clumsy_hands(running: Daemon, browser: Browser) -> None:
    """A double click goes live once, and Enter not again; nothing is stored.

    A camera that was unplugged is chosen again, and one that is busy ends nothing.
    """
    with visitor(browser, f"http://{running.control}") as ann:
        ann.context.add_init_script(_UNLUCKY)
        studio = ann.open("/broadcast")
        cameras, curtain = studio.get_by_label("Camera"), studio.locator("#curtain")
        expect(cameras).to_have_value(re.compile("."))
        studio.get_by_label("Stream key").fill("cam-key")
        studio.get_by_role("button", name="Go live").dblclick()
        expect(studio.locator("#badge")).to_have_text("Live", timeout=LONG)
        studio.evaluate("unplug()")
        expect(curtain).to_contain_text("Sound only")
        expect(studio.locator("#warnings")).to_contain_text("The camera has gone")
        # What is not in use does not look chosen, and so it can be chosen.
        expect(cameras).to_have_value("")
        cameras.select_option("fake_device_0")
        expect(curtain).to_be_hidden()
        expect(studio.locator("#badge")).to_have_text("Live")

        # One that is busy, with that of before let go of, too: it is taken back, and goes on.
        studio.evaluate("refusals.push('NotReadableError', 'NotReadableError')")
        studio.get_by_role("combobox", name="Microphone").select_option(index=1)
        expect(studio.locator("#warnings")).to_contain_text("cannot be read")
        expect(studio.locator("#badge")).to_have_text("Live")
        expect(cameras).to_have_value(re.compile("."))
        studio.get_by_label("Stream key").press("Enter")
        studio.evaluate("unplug('')")
        expect(curtain).to_contain_text("and the camera have gone")
        expect(studio.locator("#state")).to_contain_text("Paused")
        studio.get_by_role("button", name="Turn on camera").press("Enter")
        expect(studio.locator("#badge")).to_have_text("Live")
        expect(studio.locator("#screen")).to_be_focused()
        studio.get_by_role("button", name="End broadcast").press("Enter")
        expect(studio.locator("#badge")).to_have_text("Ended")
        expect(studio.get_by_role("button", name="Go live")).to_be_focused()

        # Who looks at the end, and loses the connection, is told of the end again.
        sockets: list[WebSocketRoute] = []

        def connect(socket: WebSocketRoute) -> None:
            def told(message: str | bytes) -> None:
                sockets.append(socket)
                socket.send(message)

            socket.connect_to_server().on_message(told)

        ann.context.route_web_socket("**/stream/watch/*", connect)
        watch = ann.open("/watch/cam")
        title = watch.locator("#curtain-title")
        expect(title).to_have_text("The broadcast has ended")
        while not sockets:
            watch.wait_for_timeout(50)
        sockets[0].close()
        while sockets[-1] is sockets[0]:
            watch.wait_for_timeout(50)
        expect(title).to_have_text("The broadcast has ended")
        stream = f"{ann.base}/v1/streams/cam"
        assert ann.context.request.post(f"{stream}/disable").ok
        expect(title).to_have_text("The stream is switched off")
        assert ann.context.request.post(f"{stream}/enable").ok
        assert ann.complaints == []
