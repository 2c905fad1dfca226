"""RTMP and RTMPS for real, with both FFmpegs: what is verified, and what is let through."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ingestd.media.ffmpeg import writer_args
from ingestd.media.frames import Kind, Track
from ingestd.sinks.base import Output, Place
from ingestd.sinks.mux import MuxSink
from ingestd.sinks.rtmp import RtmpSink
from tests.sinks.sources import program
from tests.support.rtmps_server import Certificate, RtmpServer

TRACKS = (Track(number=1, kind=Kind.VIDEO, codec="h264"), Track(number=2, kind=Kind.AUDIO, codec="aac"))


def push(exe: str, sink: RtmpSink | MuxSink, source: Path) -> subprocess.CompletedProcess[bytes]:
    """One whole attempt of *sink* with the Matroska file *source*."""
    place = Place(stream="demo", recordings=Path("/r"), hls=Path("/h"), stem="s")
    output = sink.output(place, TRACKS)
    assert isinstance(output, Output)
    args = writer_args(exe, output.args, output.protocols)
    with source.open("rb") as stdin:
        return subprocess.run(args, stdin=stdin, capture_output=True, timeout=30, check=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of H.264 and AAC, as a daemon would feed them."""
    return program(tmp_path_factory.mktemp("push") / "source.mkv", seconds=2)


def test_a_verified_server_gets_the_stream(
    rtmp_server: RtmpServer, each_ffmpeg: str, source: Path, no_processes_left: None
) -> None:
    """Mux's sink with its own authority, plain RTMP, and RTMPS with the key in the URL."""
    ca = str(rtmp_server.ca_file)
    for sink in (
        MuxSink(key="one", endpoint=rtmp_server.rtmps_url, ca_file=ca),
        RtmpSink(key="two", url=rtmp_server.rtmp_url),
        RtmpSink(url=rtmp_server.secure_url("three"), ca_file=ca),
    ):
        done = push(each_ffmpeg, sink, source)
        assert done.returncode == 0, done.stderr
    rtmp_server.wait_idle()
    for key in ("one", "two", "three"):
        assert rtmp_server.connections(key) == 1
        assert len(rtmp_server.recordings(key)) == 1


@pytest.mark.parametrize("certificate", [each for each in Certificate if each is not Certificate.RIGHT])
def test_wrong_certificates_are_refused(
    rtmp_server: RtmpServer, each_ffmpeg: str, source: Path, certificate: Certificate
) -> None:
    """A foreign authority, an expired certificate, another host's: no byte of media is sent."""
    ca = str(rtmp_server.ca_file)
    sink = RtmpSink(url=rtmp_server.secure_url("no", certificate), ca_file=ca)
    assert push(each_ffmpeg, sink, source).returncode != 0
    assert rtmp_server.connections() == 0


def test_without_a_file_of_its_own_the_system_decides(
    rtmp_server: RtmpServer, each_ffmpeg: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's authorities do not know the test's; $SSL_CERT_FILE can name others."""
    sink = RtmpSink(url=rtmp_server.secure_url("key"))
    assert push(each_ffmpeg, sink, source).returncode != 0
    assert rtmp_server.connections() == 0
    monkeypatch.setenv("SSL_CERT_FILE", str(rtmp_server.ca_file))
    assert push(each_ffmpeg, sink, source).returncode == 0
    rtmp_server.wait_idle()
    assert rtmp_server.connections("key") == 1


def test_only_what_the_sink_needs_may_be_opened(each_ffmpeg: str, source: Path, tmp_path: Path) -> None:
    """The whitelist of an RTMPS sink lets no file through."""
    args = writer_args(each_ffmpeg, ("-f", "flv", str(tmp_path / "x.flv")), ("rtmps", "tls", "tcp"))
    with source.open("rb") as stdin:
        done = subprocess.run(args, stdin=stdin, capture_output=True, timeout=30, check=False)
    assert done.returncode != 0
    assert b"whitelist" in done.stderr
    assert not (tmp_path / "x.flv").exists()
