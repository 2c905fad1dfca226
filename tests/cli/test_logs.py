"""``ingestd logs`` and ``/v1/logs`` against the real daemon."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingestd.cli.logs import event_line
from tests.cli.tools import command, environment, ingestd
from tests.daemon.tools import closed_with, connect, request
from tests.support import daemon as support
from tests.support.captures import capture
from tests.support.daemon import Daemon, daemon, publish
from tests.support.processes import free_port

RAW = '[[sinks]]\ntype = "file"\nformat = "raw"\n'
SECRET = "not-anybodys-key"

pytestmark = pytest.mark.usefixtures("no_processes_left")


def url(running: Daemon) -> str:
    return f"http://{running.control}"


def said(text: str) -> list[dict[str, Any]]:
    """The events of ``--json``."""
    return [json.loads(line) for line in text.splitlines()]


def unnumbered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in event.items() if key != "number"} for event in events]


def get(running: Daemon, query: str = "") -> dict[str, Any]:
    status, headers, body = request(running.control, f"/v1/logs{query}")
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (
        200,
        "application/json",
        "no-store",
    )
    found: dict[str, Any] = json.loads(body)
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def following(directory: Path, *args: str) -> Iterator[tuple[subprocess.Popen[str], Path, Path]]:
    """``ingestd logs --follow --json`` with its stdout and stderr in files; killed at the end."""
    out, notes = directory / "out.jsonl", directory / "notes"
    with out.open("w") as stdout, notes.open("w") as stderr:
        process = subprocess.Popen(
            command("logs", "--follow", "--json", *args), cwd=directory, env=environment(), text=True,
            stdout=stdout, stderr=stderr,
        )  # fmt: skip
    try:
        yield process, out, notes
    finally:
        process.kill()
        process.wait()


async def test_the_last_events_are_those_of_the_log(tmp_path: Path) -> None:
    """Event by event what went to stderr; a stream's, a level's, and so many of them; no key in any."""
    with daemon(tmp_path, RAW) as running:
        async with connect(running, SECRET) as socket:
            assert (await closed_with(socket))[0] == 4401
        await publish(running.publish_url, capture("cv-vp8-250.webm").chunks()[:4])
        await running.wait_ended()
        # What belongs to the connection may still follow the session's end.
        wait_for(lambda: bool(running.events("publisher_gone")) and bool(running.events("session_ended")))
        everything = ingestd("logs", "--json", "--url", url(running), cwd=tmp_path)
        cam = ingestd(
            "logs", "cam", "--json", "--level", "info", "-n", "3", "--url", url(running), cwd=tmp_path
        )
        people = ingestd("logs", "--level", "warning", "--url", url(running), cwd=tmp_path)
    assert everything.returncode == 0, everything.stderr
    events = said(everything.stdout)
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert unnumbered(events) == running.events()[: len(events)]
    expected = [e for e in events if e.get("stream") == "cam" and e["level"] != "debug"]
    assert said(cam.stdout) == expected[-3:]
    refused = r"^\d\d:\d\d:\d\d\.\d{3} warning +publisher_refused .*code=4401 reason=\"unknown stream key\""
    assert re.search(refused, people.stdout, re.MULTILINE), people.stdout
    assert " info " not in people.stdout
    assert SECRET not in everything.stdout + people.stdout
    assert "cam-key" not in everything.stdout


async def test_following_shows_each_event_once(tmp_path: Path) -> None:
    """From the first on, while they come, until Ctrl-C, which is no failure."""
    with (
        daemon(tmp_path, RAW) as running,
        following(tmp_path, "--url", url(running)) as (process, out, notes),
    ):
        wait_for(lambda: bool(out.read_text()))
        await publish(running.publish_url, capture("cv-vp8-250.webm").chunks()[:4])
        await running.wait_ended()
        wait_for(lambda: '"session_ended"' in out.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    events = said(out.read_text())
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert unnumbered(events) == running.events()[: len(events)]
    assert notes.read_text() == ""


def test_following_finds_a_restarted_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the daemon is gone, waits, and goes on with the first event of the next one."""
    address = f"127.0.0.1:{free_port()}"
    bind = f'[control]\nbind = "{address}"'
    monkeypatch.setattr(support, "CONFIG", support.CONFIG.replace('[control]\nbind = "127.0.0.1:0"', bind))
    with ExitStack() as stack:
        with daemon(tmp_path / "one", RAW):
            args = ("-n", "1", "--url", f"http://{address}")
            process, out, notes = stack.enter_context(following(tmp_path, *args))
            wait_for(lambda: bool(out.read_text()))
        wait_for(lambda: "waiting for it" in notes.read_text())
        seen = len(out.read_text())
        with daemon(tmp_path / "two", RAW) as second:
            wait_for(lambda: '"daemon_ready"' in out.read_text()[seen:])
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            events = said(out.read_text()[seen:])
            assert unnumbered(events) == second.events()[: len(events)]
    assert "-- the daemon was restarted\n" in notes.read_text()


def test_a_full_ring_says_what_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[log] keep is how many there are; one who comes late is told how many are gone."""
    monkeypatch.setattr(support, "CONFIG", support.CONFIG.replace("[log]\n", "[log]\nkeep = 10\n"))
    with daemon(tmp_path, RAW) as running:
        for _ in range(15):  # each a refusal in the log
            request(running.ingest, "/nowhere")
        page = get(running, "?after=1&limit=1000")
        newest = get(running, "?limit=0")
    numbers = [event["number"] for event in page["events"]]
    assert len(numbers) == 10
    assert (page["lost"], page["next"]) == (numbers[0] - 2, numbers[-1])
    assert (newest["events"], newest["lost"]) == ([], 0)
    assert newest["next"] >= page["next"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=-1", "limit: expected a whole number from 0 to 10000"),
        ("limit=10001", "limit: expected a whole number"),
        ("limit=%D9%A1", "limit: expected a whole number"),
        ("after=x", "after: expected a whole number"),
        ("after=99999999999999999999", "after: expected a whole number"),
        ("level=loud", "level: expected one of debug, info, warning, error, critical"),
    ],
)
def test_a_wrong_parameter_is_answered_with_what_was_expected(
    query: str, expected: str, running: Daemon
) -> None:
    status, headers, body = request(running.control, f"/v1/logs?{query}")
    assert (status, headers["Content-Type"]) == (400, "application/problem+json")
    assert json.loads(body)["detail"].startswith(expected)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon without a session."""
    with daemon(tmp_path_factory.mktemp("daemon"), RAW) as made:
        yield made


def test_an_unknown_stream_is_answered_with_those_there_are(running: Daemon, tmp_path: Path) -> None:
    """404 and exit status 1, with the nearest name."""
    assert request(running.control, "/v1/logs?stream=nobody")[0] == 404
    done = ingestd("logs", "cm", "--url", url(running), cwd=tmp_path)
    assert done.returncode == 1
    assert 'has no stream "cm", did you mean "cam"?' in done.stderr


def test_no_daemon_is_said_with_what_to_do(tmp_path: Path) -> None:
    for option in ("--json", "--follow"):
        done = ingestd("logs", option, "--url", f"http://127.0.0.1:{free_port()}", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Is the daemon running?" in done.stderr


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_a_reader_that_has_enough_ends_it_quietly(running: Daemon, tmp_path: Path, follow: list[str]) -> None:
    """As with ``| head -1``: no traceback, and it does not go on."""
    argv = command("logs", *follow, "--url", url(running))
    with subprocess.Popen(
        argv, cwd=tmp_path, env=environment(PYTHONUNBUFFERED="1"), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert "daemon_starting" in process.stdout.readline()
        process.stdout.close()
        wait_for(lambda: bool(request(running.ingest, "/nowhere")) and process.poll() is not None)
        assert process.stderr.read() == ""


def test_what_peers_say_commands_no_terminal() -> None:
    """Control characters are shown as escapes, and values with spaces in quotes."""
    error = {"exc_type": "ValueError", "exc_value": "no\x07 good"}
    event = {
        "number": 1,
        "timestamp": "x\x1b[2J",
        "level": "error",
        "event": "publisher_gone",
        "reason": "\x1b[2Jhi \x9b5n",
        "k\ney": ["\x1b"],
        "count": 3,
        "who": None,
        "text": "grüße an alle",
        "empty": "",
        "exception": [{**error, "frames": [{"filename": "a.py", "lineno": 7}]}],
    }
    line = event_line(event).plain
    assert all(character.isprintable() or character == "\n" for character in line)
    assert line.endswith('\n    "ValueError: no\\u0007 good" (a.py:7)')
    assert r'reason="\u001b[2Jhi \u009b5n"' in line
    assert 'count=3 who=null text="grüße an alle" empty=""' in line
