"""What each sink declares, and the FFmpeg arguments that it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestd.errors import AttemptFailed, UnsupportedMedia
from ingestd.media.frames import Kind, Track
from ingestd.sinks import SINKS
from ingestd.sinks.base import Output, Place, Sink
from ingestd.sinks.file import FileSink
from ingestd.sinks.hls import HlsSink
from ingestd.sinks.mux import MuxSink
from ingestd.sinks.rtmp import RtmpSink

PLACE = Place(stream="demo", recordings=Path("/r"), hls=Path("/h"), stem="s")


def tracks(video: str = "h264", audio: str = "aac") -> tuple[Track, ...]:
    return (
        Track(number=1, kind=Kind.VIDEO, codec=video),
        Track(number=2, kind=Kind.AUDIO, codec=audio),
    )


def output(sink: Sink, place: Place = PLACE) -> Output:
    found = sink.output(place, tracks())
    assert found is not None
    return found


def test_the_registry_knows_each_type_by_its_name() -> None:
    """The name in TOML is the class's own."""
    assert {name: kind.type for name, kind in SINKS.items()} == {name: name for name in SINKS}
    assert set(SINKS) == {"file", "hls", "rtmp", "mux"}


@pytest.mark.parametrize(
    ("sink", "policy", "network"),
    [
        (FileSink(), "journal", False),
        (HlsSink(), "journal", False),
        (MuxSink(key="k"), "skip", True),
        (RtmpSink(url="rtmp://h/a/k"), "skip", True),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_local_sinks_lose_nothing_and_network_sinks_stay_live(sink: Sink, policy: str, network: bool) -> None:
    """Policies as the design has them."""
    assert (sink.policy, sink.network) == (policy, network)


@pytest.mark.parametrize("video", ["vp8", "vp9", "av1", "h264"])
def test_files_are_written_by_the_daemon(video: str) -> None:
    """A file sink has no FFmpeg; raw and mkv take whatever comes."""
    assert FileSink(format="raw").output(PLACE, tracks(video, "opus")) is None
    assert FileSink(format="mkv").output(PLACE, tracks(video, "opus")) is None


@pytest.mark.parametrize(
    ("sink", "video", "audio", "message"),
    [
        (
            FileSink(name="rec", format="mp4"),
            "vp8",
            "opus",
            'sink "rec" takes video as av1, h264, hevc, vp9, not vp8; '
            'set video.codec = "h264" in the pipeline to have it encoded',
        ),
        (
            HlsSink(),
            "h264",
            "opus",
            'sink "hls" takes audio as aac, mp3, not opus; '
            'set video.codec = "h264" in the pipeline to have it encoded',
        ),
        (
            MuxSink(key="k"),
            "vp9",
            "aac",
            'sink "mux" takes video as h264, not vp9; '
            'set video.codec = "h264" in the pipeline to have it encoded',
        ),
    ],
)
def test_codecs_that_a_container_cannot_hold_are_refused(
    sink: Sink, video: str, audio: str, message: str
) -> None:
    """With the name of the sink, what it takes, and the fix."""
    with pytest.raises(UnsupportedMedia) as caught:
        sink.output(PLACE, tracks(video, audio))
    assert str(caught.value) == message


def test_containers_decide_what_hls_takes() -> None:
    """fMP4 holds what TS cannot."""
    assert HlsSink(container="fmp4").output(PLACE, tracks("av1", "opus")).args


def test_hls_names_its_files_by_the_session() -> None:
    """A percent sign in a path is no template."""
    place = Place(stream="demo", recordings=Path("/r"), hls=Path("/a%d/hls"), stem="20260101-1")
    args = output(HlsSink(), place).args
    assert "/a%%d/hls/20260101-1-%06d.ts" in args
    assert args[-1] == "/a%d/hls/index.m3u8"


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("global", "rtmps://global-live.mux.com:443/app/the-key"),
        ("us-east", "rtmps://us-east.live.mux.com:443/app/the-key"),
        ("us-west", "rtmps://us-west.live.mux.com:443/app/the-key"),
        ("eu-west", "rtmps://eu-west.live.mux.com:443/app/the-key"),
    ],
)
def test_mux_knows_its_regions(region: str, url: str) -> None:
    """The key is appended and secret; TLS is verified; nothing but TLS may be opened."""
    found = output(MuxSink(key="the-key", region=region))  # type: ignore[arg-type]  # as TOML gives it
    assert found.args[-1] == url
    assert "the-key" in found.secrets
    assert found.args[found.args.index("-tls_verify") + 1] == "1"
    assert Path(found.args[found.args.index("-ca_file") + 1]).is_file()
    assert found.protocols == ("rtmps", "tls", "tcp")


def test_an_endpoint_replaces_mux() -> None:
    """For tests and proxies, with the same checks."""
    sink = MuxSink(key="k", endpoint="rtmps://127.0.0.1:1935/app/")
    assert sink.problems() == []
    assert output(sink).args[-1] == "rtmps://127.0.0.1:1935/app/k"
    assert [key for key, _ in MuxSink(key="k", endpoint="http://x/app").problems()] == ["endpoint"]


def test_plain_rtmp_has_no_tls() -> None:
    """The time-out is in microseconds, and FFmpeg may open nothing but RTMP."""
    found = output(RtmpSink(url="rtmp://h:1/app", key="k", timeout=2.5))
    assert found.args[found.args.index("-rw_timeout") + 1] == "2500000"
    assert "-tls_verify" not in found.args
    assert found.protocols == ("rtmp", "tcp")


@pytest.mark.parametrize(
    ("sink", "secrets", "shown"),
    [
        (RtmpSink(url="rtmp://h/app", key="long-key"), {"/long-key", "long-key"}, "rtmp://h/app"),
        (RtmpSink(url="rtmp://h/app/long-key"), {"/long-key", "long-key"}, "rtmp://h/app"),
        (RtmpSink(url="rtmp://h/app/k?a=b"), {"/k?a=b"}, "rtmp://h/app"),
        (
            RtmpSink(url="rtmp://me:password@h/app", key="abc"),
            {"/abc", "me:password", "password"},
            "rtmp://h/app",
        ),
    ],
)
def test_secrets_are_named_and_not_shown(sink: RtmpSink, secrets: set[str], shown: str) -> None:
    """A short key is masked with its slash, or a single letter would mask half the command."""
    assert secrets <= set(output(sink).secrets)
    assert f"url={shown}," in repr(sink).replace(")", ",")
    assert not any(secret in repr(sink) for secret in secrets)


def test_a_key_file_is_read_for_each_attempt(tmp_path: Path) -> None:
    """So that a key can be replaced while the daemon runs; without the file, the attempt fails."""
    sink = MuxSink(key_file=str(tmp_path / "key"))
    with pytest.raises(AttemptFailed, match=r"cannot read .*/key: No such file or directory"):
        sink.output(PLACE, tracks())
    (tmp_path / "key").write_text("first\n")
    assert output(sink).args[-1].endswith("/first")
    (tmp_path / "key").write_text("second\n")
    assert output(sink).args[-1].endswith("/second")
