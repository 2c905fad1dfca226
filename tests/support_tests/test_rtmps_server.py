"""The RTMPS fixture is a real server that records what FFmpeg pushes, with certificates as they are named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import counting
from tests.support.rtmps_server import Certificate, RtmpServer
from tests.support_tests.test_counting import H264, make


def push(ffmpeg: str, source: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [ffmpeg, "-v", "error", "-nostdin", "-i", str(source), "-c", "copy", "-f", "flv", *options, url]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_records_each_connection(
    rtmp_server: RtmpServer, each_ffmpeg: str, ffmpeg: str, tmp_path: Path, no_processes_left: None
) -> None:
    """A push over verified TLS is recorded frame by frame, and each connection into a file of its own."""
    source = make(ffmpeg, tmp_path / "a.mp4", *H264)
    verified = ("-tls_verify", "1", "-ca_file", str(rtmp_server.ca_file))
    done = push(each_ffmpeg, source, rtmp_server.secure_url("secret"), *verified)
    assert (done.returncode, done.stderr) == (0, "")
    assert push(each_ffmpeg, source, rtmp_server.url("other")).returncode == 0
    rtmp_server.wait_idle()
    assert rtmp_server.connections() == 2
    assert rtmp_server.connections("secret") == 1
    [recording] = rtmp_server.recordings("secret")
    counting.assert_same_frames(counting.read_video(recording), counting.read_video(source), align=True)


@pytest.mark.parametrize("certificate", [c for c in Certificate if c is not Certificate.RIGHT])
def test_wrong_certificates_are_refused(
    rtmp_server: RtmpServer, certificate: Certificate, each_ffmpeg: str, ffmpeg: str, tmp_path: Path
) -> None:
    """A client that verifies does not publish behind any of the wrong certificates."""
    source = make(ffmpeg, tmp_path / "a.mp4", *H264)
    verified = ("-tls_verify", "1", "-ca_file", str(rtmp_server.ca_file))
    done = push(each_ffmpeg, source, rtmp_server.secure_url("secret", certificate), *verified)
    assert done.returncode != 0
    assert rtmp_server.connections() == 0


def test_stop_closes_the_port_and_start_opens_it_again(
    rtmp_server: RtmpServer, ffmpeg: str, tmp_path: Path
) -> None:
    """While stopped a push is refused; afterwards the same URL works."""
    source = make(ffmpeg, tmp_path / "a.mp4", *H264)
    rtmp_server.stop()
    refused = push(ffmpeg, source, rtmp_server.url("k"))
    assert refused.returncode != 0
    assert "refused" in refused.stderr
    rtmp_server.start()
    assert push(ffmpeg, source, rtmp_server.url("k")).returncode == 0
    rtmp_server.wait_idle()
    assert len(rtmp_server.recordings("k")) == 1
