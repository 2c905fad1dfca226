"""What Prometheus is told of the streams, read from their state at the moment of the scrape.

Counters are those of a stream's current or last session and begin at 0 with the next one. Labels are
the stream and the sink, and states; ``docs/metrics.md`` lists everything.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator

import trio
from attrs import define
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestd import __version__
from ingestd.live.audience import Audience
from ingestd.live.encoder import Encoder
from ingestd.live.session import Session, SinkRun
from ingestd.live.spool import Spool
from ingestd.live.state import StreamState
from ingestd.live.streams import Streams
from ingestd.live.supervisor import Health, State
from ingestd.live.writer import Writer

_OVER = (StreamState.ENDED, StreamState.FAILED)

_STREAM = ("stream",)
_SINK = ("stream", "sink")


@define(eq=False)
class StreamsCollector(Collector):
    """Looks at *audience*, and the streams it has, when it is asked; it keeps and counts nothing itself."""

    audience: Audience

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are all ours, and need no scrape to be told apart."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family, also those that have no samples yet."""
        families = _Families()
        self._daemon(families)
        for name in self.running.names:
            session = self.running.sessions.get(name)
            self._viewers(families, name)
            if session is None and not self._is_declared(name):
                continue  # There may be thousands that nobody publishes.
            state = session.state if session else StreamState.IDLE
            families.state("ingestd_stream_state", (name,), state)
            if session is not None:
                _session(families, session)
        return iter(families.all)

    @property
    def running(self) -> Streams:
        return self.audience.streams

    def _viewers(self, families: _Families, name: str) -> None:
        """Of streams that somebody watches, or watched."""
        tally = self.audience.tally(name)
        if tally is not None:
            families.add("ingestd_stream_viewers", (name,), self.audience.of(name))
            families.add("ingestd_stream_viewer_sent_bytes", (name,), tally.sent)
            families.add("ingestd_stream_viewer_skipped_frames", (name,), tally.skipped)

    def _is_declared(self, name: str) -> bool:
        stream = self.running.directory.get(name)
        return stream is not None and stream.declared

    def _daemon(self, families: _Families) -> None:
        running = self.running
        families.add("ingestd_build_info", (__version__, platform.python_version()), 1)
        families.add("ingestd_draining", (), running.draining)
        families.add("ingestd_live_streams", (), running.live)
        families.add("ingestd_max_live_streams", (), running.config.ingest.max_streams)
        families.add("ingestd_viewers", (), self.audience.count)
        families.add("ingestd_max_viewers", (), self.audience.config.max)
        counts = dict.fromkeys(StreamState, 0)
        for name in running.names:
            session = running.sessions.get(name)
            counts[session.state if session else StreamState.IDLE] += 1
        for state, count in counts.items():
            families.add("ingestd_streams", (state.value,), count)


def _session(families: _Families, session: Session) -> None:
    key = (session.stream,)
    live = session.state not in _OVER
    families.add("ingestd_stream_session_start_time_seconds", key, session.started)
    families.add("ingestd_stream_received_chunks", key, session.ingest.chunks)
    families.add("ingestd_stream_received_bytes", key, session.ingest.size)
    families.add("ingestd_stream_publisher_cuts", key, session.ingest.cuts)
    families.add("ingestd_stream_publisher_resumes", key, session.ingest.resumes)
    families.add("ingestd_stream_publisher_takeovers", key, session.ingest.takeovers)
    families.add("ingestd_stream_source_gaps", key, session.ingest.gap_count)
    if session.source is not None:
        _spool(families, "source", key, session.source)
        families.add("ingestd_stream_source_discarded_frames", key, session.source.intake.discarded)
    if session.encoder is not None:
        _spool(families, "program", key, session.encoder.program)
        _encoder(families, key, session.encoder, live)
    for run in session.sinks:
        _sink(families, (session.stream, run.sink.name), run, live)


def _spool(families: _Families, name: str, key: tuple[str], spool: Spool) -> None:
    kept = spool.journal.statistics().kept_bytes if spool.journal else 0
    families.add(f"ingestd_stream_{name}_frames", key, spool.hub.next_seq)
    families.add(f"ingestd_stream_{name}_window_bytes", key, spool.hub.statistics()["window_bytes"])
    families.add(f"ingestd_stream_{name}_journal_bytes", key, kept)
    families.add(f"ingestd_stream_{name}_journal_failed", key, spool.journal_error is not None)


def _health(families: _Families, what: str, key: tuple[str, ...], health: Health) -> None:
    families.state(f"ingestd_{what}_state", key, health.state)
    families.add(f"ingestd_{what}_attempts", key, health.attempts)
    families.add(f"ingestd_{what}_restarts", key, health.restarts)


def _encoder(families: _Families, key: tuple[str], encoder: Encoder, live: bool) -> None:
    _health(families, "encoder", key, encoder.health)
    families.add("ingestd_encoder_dropped_frames", key, encoder.progress.dropped)
    families.add("ingestd_encoder_duplicated_frames", key, encoder.progress.duplicated)
    if live:
        families.add("ingestd_encoder_fps", key, encoder.progress.fps)
        families.add("ingestd_encoder_speed", key, encoder.progress.speed)


def _sink(families: _Families, key: tuple[str, str], run: SinkRun, live: bool) -> None:
    _health(families, "sink", key, run.health)
    families.add("ingestd_sink_info", (*key, run.sink.type), 1)
    families.add("ingestd_sink_sent_frames", key, run.sent_frames)
    families.add("ingestd_sink_sent_bytes", key, run.sent_bytes)
    families.add("ingestd_sink_dropped_frames", key, run.dropped_frames)
    # After the end it would grow for ever, and mean nothing.
    if live and isinstance(run, Writer) and run.playlist is not None:
        age = trio.current_time() - run.playlist.changed_at
        families.add("ingestd_sink_last_segment_age_seconds", key, age)


class _Families:
    """The families of one scrape by name; a sample is added to the one that it belongs to."""

    def __init__(self) -> None:
        self._by_name: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
            family.name: family for family in _families()
        }

    @property
    def all(self) -> Iterable[Metric]:
        return self._by_name.values()

    def add(self, name: str, labels: tuple[str, ...], value: float | None) -> None:
        """A sample; None is one that is not known yet, and left out."""
        if value is not None:
            self._by_name[name].add_metric(labels, float(value))

    def state(self, name: str, labels: tuple[str, ...], now: StreamState | State) -> None:
        """One sample for each state that there can be: 1 for *now*, 0 for the others."""
        for state in type(now):
            self.add(name, (*labels, state.value), state is now)


def _families() -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    """All there are, with their help and labels, and no samples."""
    gauge, counter = GaugeMetricFamily, CounterMetricFamily
    yield gauge("ingestd_build_info", "Always 1; the version is in the labels.", labels=("version", "python"))
    yield gauge("ingestd_draining", "1 once the daemon takes no new publishers.")
    yield gauge("ingestd_live_streams", "Sessions that run, those that are ending included.")
    yield gauge("ingestd_max_live_streams", "The limit of them: [ingest] max_streams.")
    yield gauge("ingestd_viewers", "Connections that watch, of all streams.")
    yield gauge("ingestd_max_viewers", "The limit of them: [viewers] max.")
    yield gauge("ingestd_stream_viewers", "Connections that watch the stream.", labels=_STREAM)
    yield counter(
        "ingestd_stream_viewer_sent_bytes", "Bytes sent to viewers since the daemon started.", labels=_STREAM
    )
    yield counter(
        "ingestd_stream_viewer_skipped_frames", "Frames that viewers were too slow for.", labels=_STREAM
    )
    yield gauge("ingestd_streams", "Declared streams by state.", labels=("state",))
    yield gauge(
        "ingestd_stream_state", "1 for the stream's state, 0 for the others.", labels=(*_STREAM, "state")
    )
    yield gauge(
        "ingestd_stream_session_start_time_seconds", "When the session began, Unix time.", labels=_STREAM
    )
    yield counter("ingestd_stream_received_chunks", "Chunks taken from the publisher.", labels=_STREAM)
    yield counter("ingestd_stream_received_bytes", "Bytes in them.", labels=_STREAM)
    yield counter("ingestd_stream_publisher_cuts", "How often a publisher was lost.", labels=_STREAM)
    yield counter("ingestd_stream_publisher_resumes", "How often one went on by its token.", labels=_STREAM)
    yield counter("ingestd_stream_publisher_takeovers", "How often one took another's place.", labels=_STREAM)
    yield counter(
        "ingestd_stream_source_gaps", "How often media of the publisher is missing.", labels=_STREAM
    )
    yield counter("ingestd_stream_source_frames", "Frames found in the source.", labels=_STREAM)
    yield counter(
        "ingestd_stream_source_discarded_frames", "Frames of the source that nothing can use.", labels=_STREAM
    )
    yield counter("ingestd_stream_program_frames", "Frames that came out of the encoder.", labels=_STREAM)
    for name, text in (("source", "the source's"), ("program", "the encoder's")):
        yield gauge(
            f"ingestd_stream_{name}_window_bytes", f"Memory of {text} hub for its frames.", labels=_STREAM
        )
        yield gauge(f"ingestd_stream_{name}_journal_bytes", f"Disk space of {text} journal.", labels=_STREAM)
        yield gauge(
            f"ingestd_stream_{name}_journal_failed", f"1 once {text} journal was given up.", labels=_STREAM
        )
    yield from _child("encoder", _STREAM)
    yield counter("ingestd_encoder_dropped_frames", "Frames dropped by this FFmpeg.", labels=_STREAM)
    yield counter("ingestd_encoder_duplicated_frames", "Frames repeated by this FFmpeg.", labels=_STREAM)
    yield gauge("ingestd_encoder_fps", "Frames a second, as FFmpeg says.", labels=_STREAM)
    yield gauge(
        "ingestd_encoder_speed", "Seconds of media a second; below 1 it falls behind.", labels=_STREAM
    )
    yield from _child("sink", _SINK)
    yield gauge("ingestd_sink_info", "Always 1; the sink's type is in the labels.", labels=(*_SINK, "type"))
    yield counter("ingestd_sink_sent_frames", "Frames handed on: sent, not delivered.", labels=_SINK)
    yield counter("ingestd_sink_sent_bytes", "Bytes handed on.", labels=_SINK)
    yield counter("ingestd_sink_dropped_frames", "Frames that the sink had to leave out.", labels=_SINK)
    yield gauge(
        "ingestd_sink_last_segment_age_seconds", "Since the live playlist last changed.", labels=_SINK
    )


def _child(what: str, labels: tuple[str, ...]) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    yield GaugeMetricFamily(
        f"ingestd_{what}_state", f"1 for the {what}'s state, 0 for the others.", labels=(*labels, "state")
    )
    yield CounterMetricFamily(f"ingestd_{what}_attempts", "Times that it was started.", labels=labels)
    yield CounterMetricFamily(f"ingestd_{what}_restarts", "Failures followed by another try.", labels=labels)
