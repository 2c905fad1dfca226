"""RTMPS through the daemon: a certificate that is wrong is refused and named, and the key is nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.daemon.tools import card, live, request
from tests.support.counting import continuous, decode_errors, read_video
from tests.support.daemon import Daemon, daemon
from tests.support.rtmps_server import Certificate, RtmpServer

KEY = "sk-Never4BeShown"
PIPELINE = """
[video]
codec = "h264"
size = "320x180"
preset = "ultrafast"

[[sinks]]
type = "rtmp"
name = "{certificate}"
url = "{url}"
ca_file = "{ca}"
key = "{key}"
"""
CONFIG = """
[ffmpeg]
path = "{ffmpeg}"
[supervisor]
backoff = ["200ms", "200ms"]
"""
#: Neither library tells FFmpeg more than that of these; GnuTLS does of another host.
UNVERIFIED = "TLS: the certificate cannot be verified"
REFUSED = {
    Certificate.WRONG_CA: (UNVERIFIED,),
    Certificate.EXPIRED: (UNVERIFIED,),
    Certificate.WRONG_HOST: (UNVERIFIED, "TLS: the certificate is for another host"),
}


def pipeline(server: RtmpServer, *certificates: Certificate) -> str:
    """One encoder, and one RTMPS sink a certificate, all with the same secret key."""
    video, _, sink = PIPELINE.partition("[[sinks]]")
    sinks = (
        sink.format(
            certificate=certificate,
            url=server.secure_url("", certificate).rstrip("/"),
            ca=server.ca_file,
            key=KEY,
        )
        for certificate in certificates
    )
    return video + "".join(f"[[sinks]]{text}" for text in sinks)


def shown(running: Daemon) -> str:
    """All that the daemon tells of itself: its log at level debug, and every answer of its API."""
    paths = (
        "/healthz",
        "/readyz",
        "/v1/streams",
        "/v1/streams/cam",
        "/v1/streams/nobody",
        "/hls/cam/index.m3u8",
    )
    answers = (request(running.control, path) for path in paths)
    return running.log.read_text() + "".join(f"{headers}{body!r}" for _, headers, body in answers)


@pytest.mark.usefixtures("no_processes_left")
async def test_a_wrong_certificate_is_refused_and_named(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str, each_ffmpeg: str
) -> None:
    """Foreign CA, expired, other host: failed with that cause; the right one beside them is pushed to."""
    toml = pipeline(rtmp_server, *Certificate)
    with daemon(tmp_path, toml, config=CONFIG.format(ffmpeg=each_ffmpeg)) as running:

        def decided(status: dict[str, Any]) -> bool:
            states = {sink["name"]: sink["state"] for sink in status["sinks"]}
            refused = all(states.get(name) == "failed" for name in REFUSED)
            return refused and states.get(Certificate.RIGHT) == "running"

        async with live(running, await card(ffmpeg, 20)):
            status = await running.wait_until(decided)
            told = shown(running)
        status = await running.wait_ended()
        told += shown(running)
    rtmp_server.wait_idle()
    causes = {sink["name"]: sink["last_error"] for sink in status["sinks"]}
    for certificate, named in REFUSED.items():
        assert causes[certificate].startswith(named), causes
    assert causes[Certificate.RIGHT] is None
    assert {event["child"] for event in running.events("child_failed")} == set(REFUSED)
    (flv,) = rtmp_server.recordings(KEY)
    assert decode_errors(flv) == []
    assert continuous(read_video(flv))
    assert KEY not in told + running.log.read_text()


@pytest.mark.full
@pytest.mark.usefixtures("no_processes_left")
async def test_a_target_that_speaks_no_tls_is_named(
    tmp_path: Path, rtmp_server: RtmpServer, ffmpeg: str, each_ffmpeg: str
) -> None:
    """rtmps:// to a port that speaks plain RTMP fails with a cause about TLS, and without the key."""
    toml = pipeline(rtmp_server, Certificate.RIGHT).replace(
        str(rtmp_server.tls_ports[Certificate.RIGHT]), str(rtmp_server.rtmp_port)
    )
    toml += 'timeout = "1s"\n'
    with daemon(tmp_path, toml, config=CONFIG.format(ffmpeg=each_ffmpeg)) as running:
        async with live(running, await card(ffmpeg, 20)):
            status = await running.wait_until(
                lambda s: bool(s["sinks"]) and s["sinks"][0]["state"] == "failed"
            )
            told = shown(running)
    # GnuTLS waits for an answer that does not come.
    cause = status["sinks"][0]["last_error"]
    assert cause.startswith(("TLS: the handshake failed", "the target does not answer in time")), cause
    assert KEY not in told + running.log.read_text()
