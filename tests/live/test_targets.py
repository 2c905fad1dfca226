"""What a stream's own targets make of its pipeline."""

from __future__ import annotations

import pytest

from ingestd.config import Pipeline
from ingestd.errors import FatalFailure
from ingestd.live.targets import aimed
from ingestd.media.frames import Kind, Track
from ingestd.registry.model import Stream, Target
from ingestd.sinks.base import Place
from ingestd.sinks.hls import HlsSink
from ingestd.sinks.mux import MuxSink
from ingestd.sinks.push import PushSink
from ingestd.sinks.rtmp import RtmpSink

PIPELINE = Pipeline(
    id="p",
    sinks=(
        HlsSink(name="hls"),
        MuxSink(name="mux", per_stream=True),
        RtmpSink(name="backup", url="rtmp://127.0.0.1/app", key="common-key"),
    ),
)
TRACKS = (Track(number=1, kind=Kind.VIDEO, codec="h264"),)


def stream(*targets: Target) -> Stream:
    return Stream(name="cam", pipeline="p", key_sha256=bytes(32), created=0.0, updated=0.0, targets=targets)


def url_of(sink: PushSink, place: Place) -> str:
    return sink.output(place, TRACKS).args[-1]


@pytest.fixture
def place(tmp_path: object) -> Place:
    return Place(stream="cam", recordings=tmp_path, hls=tmp_path, stem="s1")  # type: ignore[arg-type]


def test_a_target_replaces_key_and_url(place: Place) -> None:
    """Other sinks stay as they are, and so does the pipeline itself."""
    made = aimed(
        PIPELINE,
        stream(
            Target(sink="mux", key="own-mux-key"),
            Target(sink="backup", key="own-key", url="rtmp://127.0.0.2/live"),
        ),
    )
    hls, mux, backup = made.sinks
    assert hls is PIPELINE.sinks[0]
    assert url_of(mux, place) == "rtmps://global-live.mux.com:443/app/own-mux-key"
    assert url_of(backup, place) == "rtmp://127.0.0.2/live/own-key"
    assert url_of(PIPELINE.sinks[2], place) == "rtmp://127.0.0.1/app/common-key"
    assert "own" not in repr(made)


def test_targets_of_sinks_that_are_gone(place: Place) -> None:
    """The pipeline may have changed since the target was set."""
    made = aimed(PIPELINE, stream(Target(sink="youtube", key="key"), Target(sink="hls", key="key")))
    assert made == PIPELINE


def test_a_stream_without_the_target_that_it_needs(place: Place) -> None:
    """The sink says what is missing, and is not tried again."""
    mux = aimed(PIPELINE, stream()).sinks[1]
    with pytest.raises(FatalFailure, match='no target for the sink "mux"'):
        mux.output(place, TRACKS)


@pytest.mark.parametrize("key", [{"key": "k" * 20}, {"key_file": "credential:mux"}])
def test_either_a_key_or_one_for_each_stream(key: dict[str, str]) -> None:
    """Both is a mistake."""
    ((name, problem),) = MuxSink(name="mux", per_stream=True, **key).problems()  # type: ignore[arg-type]
    assert name == "per_stream"
    assert "each stream has its own" in problem
    assert not MuxSink(name="mux", per_stream=True).problems()
    assert not RtmpSink(name="rtmp", url="rtmp://127.0.0.1/app", per_stream=True).problems()
