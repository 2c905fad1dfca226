"""Signing in: asked for where it is needed, back to where one was, and out again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.auth.serving import TOKENS, give
from tests.daemon.tools import COPY, MKV
from tests.support.daemon import Daemon, daemon
from tests.support.visitor import PHONE, barriers, overflow, visitor


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, dict[str, str]]]:
    """A daemon that asks, and a token for each scope."""
    directory: Path = tmp_path_factory.mktemp("daemon")
    tokens = {scope: give(directory, scope, scope) for scope in ("read", "admin")}
    with daemon(directory, COPY + MKV, config=TOKENS, control='pipeline = "test"\n') as made:
        yield made, tokens


def test_one_signs_in_comes_back_and_signs_out(
    guarded: tuple[Daemon, dict[str, str]], browser: Browser
) -> None:
    """The token is in no address and in no storage; the cookie is out of scripts' reach."""
    running, tokens = guarded
    base = f"http://{running.control}"
    with visitor(browser, base, viewport=PHONE) as ann:
        page = ann.open("/check")
        expect(page).to_have_url(f"{base}/login#next=%2Fcheck")
        assert barriers(page) == []
        assert overflow(page) == []
        assert ann.complaints == []
        page.get_by_label("Token").fill("no-token-at-all")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("This token is not good.")
        ann.complaints.clear()  # a browser notes each 401
        page.get_by_label("Token").fill(tokens["admin"])
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{base}/check")
        expect(page.locator("#who")).to_have_text("admin")
        expect(page.get_by_role("button", name="Start the check")).to_be_enabled()
        (cookie,) = ann.context.cookies()
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        assert page.evaluate("document.cookie + JSON.stringify([localStorage, sessionStorage])") == "[{},{}]"

        page.goto(f"{base}/")
        page.get_by_role("button", name="New stream").click()
        page.get_by_role("button", name="Create", exact=True).click()
        expect(page.get_by_role("dialog", name="Stream key of")).to_be_visible()
        page.get_by_role("button", name="Done").click()
        # A page that is being left asks for nothing more, however slow the way out is.
        page.route("**/v1/session", lambda route: _late(page, route))
        page.evaluate("document.querySelector('#find').dispatchEvent(new Event('input'))")
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(f"{base}/login")
        assert ann.context.cookies() == []
        assert ann.complaints == []
    assert tokens["admin"] not in running.log.read_text()


def _late(page: Page, route: Route) -> None:
    answer = route.fetch()
    page.wait_for_timeout(1000)
    route.fulfill(response=answer)


@pytest.mark.parametrize("next_", ["https://elsewhere.example/", "//elsewhere.example/", "data:,"])
def test_the_sign_in_leads_to_pages_of_this_daemon_alone(
    guarded: tuple[Daemon, dict[str, str]], browser: Browser, next_: str
) -> None:
    running, tokens = guarded
    with visitor(browser, f"http://{running.control}") as ann:
        page = ann.open(f"/login#next={next_}")
        page.get_by_label("Token").fill(tokens["read"])
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{ann.base}/")
        expect(page.get_by_text("Off air").first).to_be_visible()
        # Who may only read is offered nothing else.
        expect(page.get_by_role("button", name="New stream")).to_be_hidden()
        expect(page.get_by_role("button", name="Disable")).to_have_count(0)


def test_a_session_that_ends_leads_to_the_sign_in(
    guarded: tuple[Daemon, dict[str, str]], browser: Browser
) -> None:
    """A token that is revoked ends what was signed in with it: the page says where to go."""
    running, _ = guarded
    token = give(running.directory, "guest", "read")
    with visitor(browser, f"http://{running.control}") as ann:
        page = ann.open("/login")
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        expect(page.get_by_text("Off air").first).to_be_visible()
        tokens = running.directory / "tokens"
        kept = [line for line in tokens.read_text().splitlines() if not line.startswith("guest:")]
        tokens.write_text("\n".join(kept) + "\n")
        page.evaluate("document.querySelector('#find').dispatchEvent(new Event('input'))")
        expect(page).to_have_url(f"{ann.base}/login#next=%2F")


def test_another_tab_signs_out_and_in_again(guarded: tuple[Daemon, dict[str, str]], browser: Browser) -> None:
    """What a page asks for afterwards is done, and needs no reload."""
    running, tokens = guarded
    with visitor(browser, f"http://{running.control}") as ann:
        page = ann.open("/login")
        page.get_by_label("Token").fill(tokens["admin"])
        page.keyboard.press("Enter")
        card = page.get_by_role("article", name="cam")
        expect(card.get_by_role("button", name="Disable")).to_be_visible()
        session = f"{ann.base}/v1/session"
        assert ann.context.request.post(session, data={"token": tokens["admin"]}).ok
        card.get_by_role("button", name="Disable").click()
        page.get_by_role("button", name="Disable it").click()
        card.get_by_role("button", name="Enable").click()
        expect(card.get_by_role("button", name="Disable")).to_be_visible()
        expect(page.locator("#refusal")).to_be_empty()


def test_viewers_and_publishers_need_not_sign_in(
    guarded: tuple[Daemon, dict[str, str]], browser: Browser
) -> None:
    """A link and a key are all that they have, and their pages ask for no more."""
    running, _ = guarded
    with visitor(browser, f"http://{running.control}") as ann:
        watch = ann.open("/watch/cam")
        expect(watch.locator("#curtain-title")).to_have_text("Waiting for the broadcaster")
        studio = ann.open("/broadcast")
        studio.get_by_label("Stream key").fill(f"ws://{running.ingest}/stream/live/cam-key")
        expect(studio.get_by_label("Camera")).to_be_enabled()
        studio.get_by_role("button", name="Go live").click()
        expect(watch.locator("#badge")).to_have_text("Live", timeout=30_000)
        studio.get_by_role("button", name="End broadcast").click()
        expect(watch.locator("#curtain-title")).to_have_text("The broadcast has ended", timeout=30_000)
        assert ann.complaints == []
