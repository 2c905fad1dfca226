"""What a stream's own targets make of its pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from ingestd.config import Config, Pipeline, Storage
from ingestd.errors import AttemptFailed
from ingestd.events import Events
from ingestd.live.history import History
from ingestd.live.journal import JournalWriter
from ingestd.live.revival import noted, revive
from ingestd.live.session import Session
from ingestd.live.streams import Streams
from ingestd.live.targets import aimed
from ingestd.media.frames import Kind, Track
from ingestd.registry.database import Database
from ingestd.registry.directory import Directory
from ingestd.registry.keys import digest
from ingestd.registry.ledger import Ledger
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


def url_of(sink: PushSink, place: Place) -> str:
    return sink.output(place, TRACKS).args[-1]


@pytest.fixture
def place(tmp_path: object) -> Place:
    return Place(stream="cam", recordings=tmp_path, hls=tmp_path, stem="s1")  # type: ignore[arg-type]


def test_a_target_replaces_key_and_url(place: Place) -> None:
    """Other sinks stay as they are, and so does the pipeline itself."""
    made = aimed(
        PIPELINE,
        (
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
    made = aimed(PIPELINE, (Target(sink="youtube", key="key"), Target(sink="hls", key="key")))
    assert made == PIPELINE


def test_a_stream_without_the_target_that_it_needs(place: Place) -> None:
    """The sink says what is missing, and goes on once it is there."""
    mux = aimed(PIPELINE, ()).sinks[1]
    with pytest.raises(AttemptFailed, match='no target for the sink "mux"'):
        mux.output(place, TRACKS)


@pytest.mark.parametrize("key", [{"key": "k" * 20}, {"key_file": "credential:mux"}])
def test_either_a_key_or_one_for_each_stream(key: dict[str, str]) -> None:
    """Both is a mistake."""
    ((name, problem),) = MuxSink(name="mux", per_stream=True, **key).problems()  # type: ignore[arg-type]
    assert name == "per_stream"
    assert "each stream has its own" in problem
    assert not MuxSink(name="mux", per_stream=True).problems()
    assert not RtmpSink(name="rtmp", url="rtmp://127.0.0.1/app", per_stream=True).problems()


async def test_a_session_that_is_taken_up_waits_for_the_targets_that_it_had(tmp_path: Path) -> None:
    """Without the database its publisher can come back; nothing is pushed to the pipeline's own targets."""
    config = Config(
        path=tmp_path / "ingestd.toml", storage=Storage(state_dir=tmp_path), pipelines={"p": PIPELINE}
    )
    targets = (Target(sink="backup", key="own-key"), Target(sink="mux", key="own-mux-key"))
    cam = Stream(
        name="cam", pipeline="p", key_sha256=digest("cam-key"), created=1.0, updated=1.0, targets=targets
    )
    writer = JournalWriter("written", 0)
    first = Session("cam", config, PIPELINE, "ffmpeg", writer, about=noted(cam))
    first.directory.mkdir(parents=True)
    await first._save()
    assert b"own-" not in (first.directory / "session.json").read_bytes()

    directory = Directory()
    (session,) = await revive(config, directory, "ffmpeg", writer, Events())
    assert (session.unaimed, session.pipeline) == ({"mux", "backup"}, PIPELINE)
    found = directory.find("cam-key")
    assert found is not None
    assert found.name == "cam"
    assert found.life == cam.life, "links that were signed for it are good"
    async with trio.open_nursery() as nursery:
        streams = Streams(config, directory, "ffmpeg", writer, nursery)
        streams.start(session)
        directory.fill([cam])
        assert (session.unaimed, session.pipeline) == (set(), aimed(PIPELINE, targets))
        assert directory.get("cam") == cam
        nursery.cancel_scope.cancel()


async def test_a_session_of_a_stream_that_is_gone_waits_for_nothing(tmp_path: Path) -> None:
    """Its sinks say that they have no target. It is on air until it has ended."""
    config = Config(
        path=tmp_path / "ingestd.toml", storage=Storage(state_dir=tmp_path), pipelines={"p": PIPELINE}
    )
    async with trio.open_nursery() as nursery:
        streams = Streams(config, Directory(), "ffmpeg", JournalWriter("written", 0), nursery)
        session = Session(
            "gone", config, PIPELINE, "ffmpeg", streams.journal_writer, unaimed=frozenset({"mux"})
        )
        streams.start(session)
        streams.directory.fill([])
        assert session.unaimed == set()
        ledger = Ledger(Database("", tmp_path), tmp_path / "unwritten.jsonl")
        assert History(streams, ledger).live() == [("gone", session.id)]
        nursery.cancel_scope.cancel()
