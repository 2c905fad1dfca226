"""docs/browser.md says what the library has, and its examples run."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import trio

from tests.daemon.tools import COPY, RAW
from tests.support.browser import Page, open_chromium
from tests.support.daemon import Daemon, daemon
from tests.support.packages import program
from tests.support.pages import LIBRARY, serve

MANUAL = Path(__file__).parents[2] / "docs" / "browser.md"


def typed(module: str, name: str) -> set[str]:
    """The properties of a JSDoc type."""
    text = (LIBRARY / module).read_text()
    [body] = re.findall(rf"@typedef {{object}} {name}\n(.*?)\*/", text, re.DOTALL)
    return set(re.findall(r"@property \{.*?\} \[?(\w+)\]?", body))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("options.js", "PublisherOptions"),
        ("publisher.js", "PublisherStatistics"),
        ("publisher.js", "PublisherEvents"),
        ("player.js", "PlayerOptions"),
        ("player.js", "PlayerStatistics"),
        ("player.js", "PlayerEvents"),
    ],
)
def test_every_option_figure_and_event_is_explained(module: str, name: str) -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", MANUAL.read_text(), re.MULTILINE)
    explained = {word for row in rows for word in re.findall(r"`(\w+)", row)}
    assert typed(module, name)
    assert typed(module, name) - explained == set()


def test_every_state_is_explained() -> None:
    for module, name in (("publisher.js", "PublisherState"), ("player.js", "PlayerState")):
        text = (LIBRARY / module).read_text()
        [states] = re.findall(rf'@typedef {{((?:"\w+"|[\s|*])+)}} {name}', text)
        for state in re.findall(r'"(\w+)"', states):
            assert re.search(rf"^\| .*`{state}`", MANUAL.read_text(), re.MULTILINE), state


def test_every_problem_is_there_in_its_words() -> None:
    script = (
        f'import {{ CODES, problem }} from "{(LIBRARY / "advice.js").as_uri()}";'
        "console.log(JSON.stringify(CODES.map(code => problem(code))))"
    )
    argv = [program("node"), "--input-type=module", "--eval", script]
    told = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    rows = [f"| `{each['code']}` | {each['text']} | {each['advice']} |" for each in told]
    table = MANUAL.read_text().partition("| Code | Text | Advice |\n|---|---|---|\n")[2].partition("\n\n")[0]
    assert table.splitlines() == rows


async def open_example(number: int, running: Daemon, folder: Path, nursery: trio.Nursery, page: Page) -> Page:
    """Show an example of the manual, with this daemon's addresses; the library is the page's own."""
    example = re.findall(r"^```html\n(.*?)^```$", MANUAL.read_text(), re.MULTILINE | re.DOTALL)[number]
    assert len(example.split("<script", 1)[1].splitlines()) <= 20
    text = example.replace("127.0.0.1:8081", running.ingest).replace("/watch/demo", "/watch/cam")
    file = folder / f"example-{number}.html"
    file.write_text(text.replace("http://127.0.0.1:8080/lib/", "/lib/"))
    await page.goto(await serve(nursery, file))
    return page


async def test_the_examples_run(tmp_path: Path) -> None:
    """One page publishes Chromium's camera, the other shows it."""
    with daemon(tmp_path, COPY + RAW) as running:
        async with open_chromium() as browser, trio.open_nursery() as nursery:
            sender = await open_example(0, running, tmp_path, nursery, await browser.new_page())
            watcher = await open_example(1, running, tmp_path, nursery, await browser.new_page())
            await sender.evaluate("key.value = 'wrong', form.requestSubmit()")
            await wait(sender, "state.value.includes('does not know this stream key')")
            await sender.evaluate("key.value = 'cam-key', form.requestSubmit()")
            await wait(sender, "state.value.startsWith('live')")
            await wait(watcher, "state.value.startsWith('playing') && video.videoWidth > 0")
            await wait(watcher, "/^[0-9]+ ms late/.test(video.title)")
            nursery.cancel_scope.cancel()


async def wait(page: Page, condition: str) -> None:
    """Until the expression *condition* is true."""
    with trio.fail_after(20):
        await page.evaluate(
            "new Promise(done => {"
            f" const look = () => ({condition}) ? done() : setTimeout(look, 50); look(); }})"
        )
