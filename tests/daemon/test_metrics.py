"""``/metrics``: Prometheus' format, the names that ``docs/metrics.md`` lists, and values that are true."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ingestd.live.lag import BOUNDS, LoopLag
from tests.daemon.tools import COPY, ENCODE, HLS, MKV, RAW, all_running, card, live, request
from tests.support.daemon import Daemon, daemon
from tests.support.processes import free_port
from tests.support.viewer import watching

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*) ?\| (.+) \|$", re.MULTILINE)
STREAM_STATES = {"idle", "connecting", "live", "interrupted", "ended", "failed"}
CHILD_STATES = {"starting", "running", "backing_off", "stopped", "failed"}

#: Who does not answer.
OUTSIDE = """
[[webhooks]]
name = "app"
url = "http://127.0.0.1:{port}/"
secret_file = "webhook"
allow_private = true
[mux]
token_id_file = "id"
token_secret_file = "secret"
api = "http://127.0.0.1:{port}"
"""

pytestmark = pytest.mark.usefixtures("no_processes_left")


def scrape(running: Daemon) -> dict[str, Metric]:
    """The families by the name that stands in a query."""
    status, headers, body = request(running.control, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    families = text_string_to_metric_families(body.decode())
    return {f"{f.name}_total" if f.type == "counter" else f.name: f for f in families}


def value(families: dict[str, Metric], name: str, **labels: str) -> float | None:
    """The one sample of *name* with *labels*; None if there is none."""
    found = [s.value for s in families[name].samples if s.name == name and s.labels == labels]
    assert len(found) <= 1
    return found[0] if found else None


def states(families: dict[str, Metric], name: str, **labels: str) -> dict[str, float]:
    """The samples of a state by state."""
    samples = [s for s in families[name].samples if labels.items() <= s.labels.items()]
    return {sample.labels["state"]: sample.value for sample in samples}


def test_an_idle_daemon_tells_of_itself(tmp_path: Path) -> None:
    """Every stream is idle, and no metric speaks of a session that has never been."""
    with daemon(tmp_path, COPY + HLS) as running:
        families = scrape(running)
        assert request(running.control, "/metrics", "HEAD")[::2] == (200, b"")
    assert value(families, "ingestd_live_streams") == 0
    assert value(families, "ingestd_max_live_streams") == 32
    assert value(families, "ingestd_draining") == 0
    assert states(families, "ingestd_streams") == {**dict.fromkeys(STREAM_STATES, 0.0), "idle": 1}
    assert states(families, "ingestd_stream_state", stream="cam") == states(families, "ingestd_streams")
    assert families["ingestd_stream_received_bytes_total"].samples == []
    assert families["ingestd_sink_state"].samples == []


async def test_a_session_and_its_faults_are_told(tmp_path: Path, ffmpeg: str) -> None:
    """While it lives and after: the API's numbers, the killed encoder's restart, and no more fps."""
    for name in ("webhook", "id", "secret"):
        (tmp_path / name).write_text("whsec_c2VjcmV0IGtleSBvZiBleGFjdGx5IDMyIGJ5dGVzISE=\n")
    outside = OUTSIDE.format(port=free_port())
    with daemon(tmp_path, ENCODE + RAW + MKV + HLS, config=outside) as running:
        async with live(running, await card(ffmpeg, 6)), watching(running.ingest) as watcher:
            status = await running.wait_until(lambda s: len(s["sinks"]) == 3 and all_running(s))
            await watcher.until_told("init")
            os.kill(status["encoder"]["pid"], signal.SIGKILL)
            await running.wait_until(
                lambda s: (
                    s["encoder"]["restarts"] and s["encoder"]["state"] == "running" and s["encoder"]["fps"]
                )
            )
            during = scrape(running)
        status = await running.wait_ended()
        after = scrape(running)

    documented(during)
    assert (value(during, "ingestd_webhook_pending", endpoint="app") or 0) > 0
    assert (value(after, "ingestd_webhook_oldest_pending_age_seconds", endpoint="app") or 0) > 0
    assert value(after, "ingestd_webhook_deliveries_total", endpoint="app", result="delivered") == 0
    assert value(after, "ingestd_mux_requests_total", outcome="answered") == 0
    assert value(during, "ingestd_live_streams") == 1
    assert value(during, "ingestd_stream_viewers", stream="cam") == 1
    assert (value(during, "ingestd_stream_viewer_sent_bytes_total", stream="cam") or 0) > 0
    assert states(during, "ingestd_streams")["live"] == 1
    assert (value(during, "ingestd_encoder_fps", stream="cam") or 0) > 0
    assert (value(during, "ingestd_stream_program_window_bytes", stream="cam") or 0) > 0
    assert value(during, "ingestd_sink_last_segment_age_seconds", stream="cam", sink="hls") is not None
    assert value(during, "ingestd_sink_last_segment_age_seconds", stream="cam", sink="mkv") is None
    assert value(during, "ingestd_sink_info", stream="cam", sink="raw", type="file") == 1
    for name in ("encoder", "sink", "stream"):
        for key in {tuple(sorted(labels(s) - {("state", s.labels["state"])})) for s in of(during, name)}:
            found = states(during, f"ingestd_{name}_state", **dict(key))
            assert set(found) == (STREAM_STATES if name == "stream" else CHILD_STATES)
            assert sorted(found.values()) == [0.0] * (len(found) - 1) + [1.0]

    assert value(after, "ingestd_live_streams") == 0
    assert states(after, "ingestd_stream_state", stream="cam")["ended"] == 1
    assert value(after, "ingestd_stream_received_chunks_total", stream="cam") == status["chunks"]
    assert value(after, "ingestd_stream_received_bytes_total", stream="cam") == status["bytes"]
    assert value(after, "ingestd_stream_source_frames_total", stream="cam") == status["source"]["frames"]
    assert value(after, "ingestd_encoder_restarts_total", stream="cam") == 1
    assert value(after, "ingestd_encoder_attempts_total", stream="cam") == 2
    assert value(after, "ingestd_encoder_fps", stream="cam") is None
    assert after["ingestd_sink_last_segment_age_seconds"].samples == []
    for sink in status["sinks"]:
        who: dict[str, Any] = {"stream": "cam", "sink": sink["name"]}
        for key in ("sent_frames", "sent_bytes", "dropped_frames", "restarts"):
            assert value(after, f"ingestd_sink_{key}_total", **who) == sink[key]
        assert states(after, "ingestd_sink_state", **who)[sink["state"]] == 1


def of(families: dict[str, Metric], name: str) -> Iterator[Any]:
    return iter(families[f"ingestd_{name}_state"].samples)


def labels(sample: Any) -> set[tuple[str, str]]:
    return set(sample.labels.items())


def documented(families: dict[str, Metric]) -> None:
    """Names, types and labels are those of the page, both ways."""
    rows = {
        name: (kind, set(filter(None, names.strip().split(", "))))
        for name, kind, names, _ in ROW.findall(PAGE.read_text())
    }
    assert len(rows) == PAGE.read_text().count("\n| `")
    found = {}
    for name, family in families.items():
        names = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, names)
    assert found == rows


def test_lateness_is_counted_in_buckets() -> None:
    """Each bucket holds all that were not later than its bound; an early one counts as punctual."""
    lag = LoopLag()
    for late in (-0.001, 0.0, 0.001, 0.02, 9.0):
        lag.note(late)
    (family,) = lag.collect()
    counts = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
    assert counts == {
        **{str(bound): 3.0 if bound < 0.02 else 4.0 for bound in BOUNDS},
        "+Inf": 5.0,
    }
    assert {s.value for s in family.samples if s.name.endswith("_sum")} == {9.021}
