"""What the API tells of a stream; ``docs/api.md`` is its contract. Later versions only add."""

from __future__ import annotations

from datetime import UTC, datetime

import trio

from ingestd.live.encoder import Encoder
from ingestd.live.ingest import Gap
from ingestd.live.publication import Publication
from ingestd.live.raw import RawRecording
from ingestd.live.recording import Recording
from ingestd.live.session import Session, SinkRun
from ingestd.live.shapes import (
    EncoderStatus,
    GapStatus,
    HealthStatus,
    PublisherStatus,
    SinkStatus,
    SourceStatus,
    StreamStatus,
    TrackStatus,
)
from ingestd.live.state import StreamState
from ingestd.live.supervisor import Health, State
from ingestd.live.writer import Writer
from ingestd.registry.model import Stream
from ingestd.sinks.push import masked_url


def stream_status(stream: Stream, session: Session | None, viewers: int) -> StreamStatus:
    """One stream, as ``GET /v1/streams/{stream}`` shows it: plain JSON types, times as RFC 3339."""
    status: StreamStatus = {
        "name": stream.name,
        "title": stream.title,
        "labels": dict(stream.labels),
        "enabled": stream.enabled,
        "declared": stream.declared,
        "created": rfc3339(stream.created),
        "updated": rfc3339(stream.updated),
        # A URL without a separate key may have it at its end.
        "targets": [{"sink": t.sink, "url": masked_url(t.url) if t.url else None} for t in stream.targets],
        "playback": [
            {"id": p.id, "provider": p.provider, "policy": p.policy, "url": p.url} for p in stream.playback
        ],
        "mux": None,
        "state": StreamState.IDLE.value,
        "since": None,
        "pipeline": stream.pipeline,
        "publisher": None,
        "viewers": viewers,
        "chunks": 0,
        "bytes": 0,
        "encoder": None,
        "sinks": [],
    }
    if stream.mux is not None:
        status["mux"] = {
            "stream_id": stream.mux.stream_id,
            "latency_mode": stream.mux.latency_mode,
            "reconnect_window": stream.mux.reconnect_window,
        }
    if session is not None:
        _add_session(status, session)
    return status


def _add_session(status: StreamStatus, session: Session) -> None:
    ingest = session.ingest
    publication = ingest.publication
    status["state"] = session.state.value
    status["since"] = rfc3339(session.since)
    status["session"] = session.id
    status["started"] = rfc3339(session.started)
    status["cause"] = session.cause
    status["publisher"] = _publisher(publication) if publication else None
    status["chunks"] = ingest.chunks
    status["bytes"] = ingest.size
    status["cuts"] = ingest.cuts
    status["resumes"] = ingest.resumes
    status["takeovers"] = ingest.takeovers
    status["gap_count"] = ingest.gap_count
    status["gaps"] = [_gap(gap) for gap in ingest.gaps]
    status["source"] = _source(session)
    status["encoder"] = _encoder(session.encoder) if session.encoder else None
    status["sinks"] = [_sink(run) for run in session.sinks]


def _gap(gap: Gap) -> GapStatus:
    return {
        "at": gap.at,
        "began": rfc3339(gap.began),
        "seconds": gap.seconds,
        "reason": gap.reason,
        "chunks": gap.chunks,
    }


def _publisher(publication: Publication) -> PublisherStatus:
    claims = publication.claims
    return {
        "remote": publication.remote,
        "client": claims.client or None,
        "mime": claims.mime or None,
        "buffered_bytes": claims.stats.buffered_bytes,
        "bitrate": claims.stats.bitrate,
        "dropped_chunks": claims.stats.dropped_chunks,
    }


def _source(session: Session) -> SourceStatus | None:
    if session.source is None:
        return None
    configuration = session.source.hub.configuration
    tracks = configuration.tracks if configuration else ()
    told: list[TrackStatus] = [
        {"kind": t.kind.value, "codec": t.codec, "width": t.width, "height": t.height,
         "sample_rate": t.sample_rate, "channels": t.channels}
        for t in tracks
    ]  # fmt: skip
    return {"tracks": told, **session.source.statistics()}  # type: ignore[return-value]  # the spool's own


def _health(health: Health) -> HealthStatus:
    return {
        "state": health.state.value,
        "since": rfc3339(health.since),
        "attempts": health.attempts,
        "restarts": health.restarts,
        "pid": health.pid,
        "last_error": health.last_error,
    }


def _encoder(encoder: Encoder) -> EncoderStatus:
    return {
        **_health(encoder.health),
        "fps": encoder.progress.fps,
        "speed": encoder.progress.speed,
        "behind": round(encoder.behind, 1),
        "frames": encoder.progress.frame,
        "dropped": encoder.progress.dropped,
        "duplicated": encoder.progress.duplicated,
    }


def _sink(run: SinkRun) -> SinkStatus:
    status: SinkStatus = {
        "name": run.sink.name,
        "type": run.sink.type,
        **_health(run.health),  # type: ignore[typeddict-item]  # it has not what may be left out
        "sent_frames": run.sent_frames,
        "sent_bytes": run.sent_bytes,
        "dropped_frames": run.dropped_frames,
        "behind_frames": run.behind_frames,
    }
    match run:
        case Writer():
            status["fps"] = run.progress.fps
            status["speed"] = run.progress.speed
            if run.playlist is not None:
                last = run.playlist.last
                status["last_segment"] = last.uri if last else None
                # A sink that has ended is not late.
                ended = run.health.state is State.STOPPED
                age = round(trio.current_time() - run.playlist.changed_at, 1)
                status["last_segment_age"] = None if ended else age
        case Recording():
            status["file"] = run.name
            status["finished_files"] = run.finished
        case RawRecording():
            status["files"] = run.names
    return status


def rfc3339(seconds: float) -> str:
    """*seconds* since 1970 as the API tells times: UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
