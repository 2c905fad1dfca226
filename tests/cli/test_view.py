"""What people see of a stream's status, from one canned status."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console, RenderableType

from ingestd.cli.rates import Rates, Window
from ingestd.cli.view import plain_line, stream_view, streams_table
from ingestd.cli.wording import clock, ending, rate, size, without_key

NOW = datetime(2026, 1, 2, 3, 4, 45, tzinfo=UTC)
RATES = {"publisher": 412_300.0, "sink:hls": 2_498_000.0, "sink:file": 2_498_000.0, "sink:mux": 0.0}
VIDEO = {"kind": "video", "codec": "vp8", "width": 640, "height": 360}
AUDIO = {"kind": "audio", "codec": "opus", "sample_rate": 48000, "channels": 2}


def sink(name: str, kind: str, state: str = "running", **more: Any) -> dict[str, Any]:
    """A sink's status."""
    return {
        "name": name, "type": kind, "state": state, "since": "2026-01-02T03:04:06.000Z", "attempts": 1,
        "restarts": 0, "pid": 4711, "last_error": None, "sent_frames": 2900, "sent_bytes": 12_345_678,
        "dropped_frames": 0,
    } | more  # fmt: skip


def status(**more: Any) -> dict[str, Any]:
    """A live stream's, as the API gives it."""
    return {
        "name": "demo", "state": "live", "since": "2026-01-02T03:04:05.000Z", "pipeline": "simulcast",
        "publisher": {"remote": "192.0.2.7:51234"}, "viewers": 0, "chunks": 133, "bytes": 2_061_000,
        "session": "20260102T030403.123Z", "started": "2026-01-02T03:04:03.123Z", "cause": None,
        "source": {"tracks": [VIDEO, AUDIO]},
        "encoder": {
            "state": "running", "since": "2026-01-02T03:04:05.100Z", "attempts": 1, "restarts": 0,
            "pid": 4710, "last_error": None, "fps": 30.02, "speed": 1.004, "frames": 1190,
            "dropped": 3, "duplicated": 0,
        },
        "sinks": [
            sink("hls", "hls", fps=30.1, speed=1.0, last_segment="20260102T030403.123Z-000019.ts",
                 last_segment_age=0.4),
            sink("file", "file", file="20260102T030403.123Z.mkv"),
            sink("mux", "mux", "backing_off", fps=0.0, speed=0.0, restarts=2, dropped_frames=61,
                 since="2026-01-02T03:04:43.000Z", last_error="connection refused"),
        ],
    } | more  # fmt: skip


def drawn(view: RenderableType, width: int) -> str:
    """*view* as a terminal of *width* columns shows it, without colours."""
    file = io.StringIO()
    Console(file=file, width=width, highlight=False).print(view)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


LIVE = """\
demo  ● live 0:40   pipeline simulcast   session 20260102T030403.123Z
source    vp8 640×360 · opus 48 kHz · 412 kbit/s · 2.1 MB · 133 chunks
encoder   ● running · 30.0 fps · 1.00x · 3 dropped
sink  state          for   bitrate     fps   output                restarts
hls   ● running      0:39  2.5 Mbit/s  30.1  000019.ts, 0.4 s ago  0
file  ● running      0:39  2.5 Mbit/s  –     12.3 MB               0
mux   ● backing off  0:02  0 kbit/s    –     12.3 MB               2
          mux: 61 frames dropped; last error: connection refused"""


@pytest.mark.parametrize("width", [80, 120])
def test_a_live_stream(width: int) -> None:
    """All of it fits 80 columns, and more columns change nothing."""
    assert drawn(stream_view(status(), RATES, NOW), width) == LIVE


def test_an_idle_stream() -> None:
    """One that has never run has a title only."""
    idle = status(state="idle", since=None, session=None, publisher=None, encoder=None, sinks=[], bytes=0)
    assert drawn(stream_view(idle, {}, NOW), 80) == "demo  ● idle   pipeline simulcast"


def test_a_failed_stream() -> None:
    """Its cause is said, and how long it ran."""
    failed = status(state="failed", since="2026-01-02T03:04:30.000Z", cause="the encoder failed: killed")
    lines = drawn(stream_view(failed, {}, NOW), 80).splitlines()
    assert lines[0].startswith("demo  ● failed after 0:26, 0:15 ago")
    assert lines[-1] == "failed: the encoder failed: killed"


def test_streams_in_a_table() -> None:
    """A row a stream, with its sinks counted by state."""
    idle = status(name="cam", state="idle", since=None, session=None, publisher=None, sinks=[], bytes=0)
    assert (
        drawn(streams_table([idle, status()], NOW), 100)
        == """\
stream  state   for   pipeline   publisher        received  sinks
cam     ● idle        simulcast  –                –
demo    ● live  0:40  simulcast  192.0.2.7:51234  2.1 MB    2 running, 1 backing off"""
    )


def test_a_plain_line() -> None:
    """One line with everything, for logs."""
    assert plain_line(status(), RATES, NOW) == (
        "demo live 0:40 · in 412 kbit/s · encoder running 30.0 fps 1.00x"
        " · hls running 2.5 Mbit/s 000019.ts, 0.4 s ago · file running 2.5 Mbit/s 12.3 MB"
        " · mux backing_off 0 kbit/s 12.3 MB 2 restarts (connection refused)"
    )


def test_rates_are_those_of_the_last_seconds() -> None:
    """The window moves on; a sink that is new has no rate yet."""
    window = Window(seconds=5)
    assert window.take({"a": 0}, 0) == {}
    assert window.take({"a": 1000, "b": 5}, 2) == {"a": 4000}
    assert window.take({"a": 1000, "b": 5}, 7) == {"a": 0, "b": 0}


def test_rates_begin_anew_with_a_session() -> None:
    """Another session's counts start at 0: no rate is negative. Without a publisher there is none."""
    rates = Rates()
    rates.take(status(), 0)
    assert rates.take(status(bytes=2_061_000 + 1000), 1)["publisher"] == 8000
    assert rates.take(status(session="another", bytes=10), 2) == {}
    assert rates.take(status(session="another", publisher=None, state="ended"), 3) == {}


def test_words() -> None:
    """Times, rates and sizes at the edges of their units."""
    assert [clock(seconds) for seconds in (-1, 7.9, 725, 3725)] == ["0:00", "0:07", "12:05", "1:02:05"]
    assert [rate(bits) for bits in (None, 999_499, 999_500)] == ["–", "999 kbit/s", "1.0 Mbit/s"]
    assert [size(count) for count in (999, 999_949, 999_950, 1e12)] == [
        "999 B",
        "999.9 kB",
        "1.0 MB",
        "1.0 TB",
    ]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ws://host:8081/stream/live/secret", "ws://host:8081/stream/live/***"),
        ("wss://user:secret@host/secret", "wss://host/***"),
        ("wss://[::1]:1/a/secret?token=secret#secret", "wss://[::1]:1/a/***"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """Neither key nor user nor query."""
    assert without_key(url) == shown


def test_an_ending_of_an_unknown_code() -> None:
    """A code that we do not know is shown with the server's reason."""
    assert ending(4999, "because") == "closed with 4999: because"


def test_a_stream_that_mux_and_its_owner_have_something_to_say_of() -> None:
    """That it is disabled, what Mux says and what it warns of; an idle one is "disabled" in the table."""
    mux = {"stream_id": "x", "status": "idle", "since": "2026-01-02T03:04:35.000Z", "warning": "not_active"}
    lines = drawn(stream_view(status(mux=mux, enabled=False), RATES, NOW), 80).splitlines()
    assert lines[0].startswith("demo  ● live 0:40  disabled   pipeline simulcast")
    assert lines[1] == "Mux warns: not_active (docs/mux.md says what to do)"
    assert "Mux       idle 0:10" in lines
    idle = status(state="idle", since=None, session=None, publisher=None, sinks=[], bytes=0, enabled=False)
    assert "● disabled" in drawn(streams_table([idle], NOW), 100)
    assert "● live" in drawn(streams_table([status(enabled=False)], NOW), 100)
