"""The log: one JSON object a line, constant event names, and no secret at any level."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path

import pytest
import structlog

from ingestd import logs
from ingestd.config import LogConfig
from tests.daemon.tools import (
    ENCODE,
    HLS,
    MKV,
    MP4,
    RAW,
    card,
    closed_with,
    connect,
    lines,
    live,
    request,
)
from tests.support.daemon import CONFIG, daemon
from tests.support.processes import free_port
from tests.support.rtmps_server import RtmpServer

PUBLISH_KEY = "pk-Never4BeShown"
RTMP_KEY = "sk-Never4BeShown"
PUSH = '[[sinks]]\ntype = "rtmp"\nname = "{name}"\nurl = "{url}"\nkey = "{key}"\n'
_OPEN = r"\((?:\s|#[^\n]*\n)*"
SOURCES = Path(__file__).parents[2] / "ingestd"


def names_in_code() -> set[str]:
    """Every event name that the code logs."""
    text = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
    return set(re.findall(rf"log\.(?:debug|info|warning|error|critical|exception){_OPEN}\"([^\"]*)\"", text))


def test_events_have_constant_names() -> None:
    """Each log call in the code begins with a plain snake_case name: no f-string, no variable."""
    text = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
    calls = re.findall(r"\blog\.(?:debug|info|warning|error|critical|exception)\(", text)
    variable = re.findall(r"log\.info\(event,", text)  # the receiver's two refusals, constants both
    assert len(names_in_code()) > 15
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in names_in_code())
    named = re.findall(rf"log\.(?:debug|info|warning|error|critical|exception){_OPEN}\"[a-z_]+\"", text)
    assert len(calls) == len(named) + len(variable)


@pytest.mark.usefixtures("no_processes_left")
async def test_a_session_at_debug_level_logs_json_and_no_secret(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push, a push that fails, refusals and a full session: every line parses, no key is in any."""
    monkeypatch.setattr("tests.support.daemon.CONFIG", CONFIG.replace("cam-key", PUBLISH_KEY))
    pipeline = ENCODE + RAW + MKV + MP4 + HLS
    pipeline += PUSH.format(name="good", url=rtmp_server.rtmp_url, key=RTMP_KEY)
    pipeline += PUSH.format(name="closed", url=f"rtmp://127.0.0.1:{free_port()}/app", key=RTMP_KEY + "-2")
    with daemon(tmp_path, pipeline) as running:
        assert request(running.ingest, f"/{PUBLISH_KEY}")[0] == 426
        assert request(running.ingest, f"/elsewhere/{PUBLISH_KEY}")[0] == 404
        async with live(running, await card(ffmpeg, 4), key=PUBLISH_KEY):
            await running.wait_until(
                lambda s: (
                    any(x["name"] == "closed" and x["last_error"] for x in s["sinks"])
                    and any(x["name"] == "good" and x["state"] == "running" for x in s["sinks"])
                )
            )
            async with connect(running, PUBLISH_KEY) as second:
                assert (await closed_with(second))[0] == 4409
            async with connect(running, PUBLISH_KEY + "x") as unknown:
                assert (await closed_with(unknown))[0] == 4401
            told = json.dumps(running.status())
        told += json.dumps(await running.wait_ended())
        request(running.control, f"/v1/streams/{PUBLISH_KEY[:2]}")
    text = running.log.read_text()
    for secret in (PUBLISH_KEY, RTMP_KEY):
        assert secret not in text
        assert secret not in told
    events = lines(running.log)
    assert all(isinstance(event["timestamp"], str) and event["level"] for event in events)
    names = {event["event"] for event in events}
    assert names <= names_in_code() | {"upgrade_refused", "handshake_timeout", "library_says"}
    assert names >= {
        "daemon_starting", "daemon_ready", "publisher_connected", "session_started", "session_plan",
        "stream_state", "child_started", "child_says", "child_restarting", "child_ended", "child_state",
        "publisher_refused",
        "upgrade_refused", "publisher_gone", "recording_ready", "session_ended", "signal_received",
        "daemon_stopping", "daemon_stopped",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variables(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception is logged with its stack, but what variables held, keys among them, is left out."""
    found = configured(form, monkeypatch)

    def fail(key: str) -> None:
        raise ValueError(f"{len(key)} characters")

    try:
        fail(PUBLISH_KEY)
    except ValueError:
        structlog.get_logger("x").exception("it_failed", stream="cam")
        found.warning("a library said %s", "so")
    said = capsys.readouterr().err
    assert PUBLISH_KEY not in said
    assert "16 characters" in said
    assert "it_failed" in said
    assert "a library said so" in said
    if form == "json":
        ours, theirs = [json.loads(line) for line in said.splitlines()]
        assert (ours["event"], ours["stream"], ours["level"]) == ("it_failed", "cam", "error")
        assert ours["exception"][0]["exc_type"] == "ValueError"
        assert (theirs["event"], theirs["message"], theirs["logger"]) == (
            "library_says",
            "a library said so",
            "lib",
        )


@pytest.fixture(autouse=True)
def _logging_as_before() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)


def configured(form: str, monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """Configure logging anew, on the stderr of the moment, and return a library's logger."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    logs.configure(LogConfig(level="debug", format=form))  # type: ignore[arg-type]  # one of the two
    return logging.getLogger("lib")
