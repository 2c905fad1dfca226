"""What the API tells of a stream; ``docs/api.md`` is its contract. Later versions only add."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import trio
from attrs import asdict

from ingestd.live.encoder import Encoder
from ingestd.live.publication import Publication
from ingestd.live.raw import RawRecording
from ingestd.live.recording import Recording
from ingestd.live.session import Session, SinkRun, StreamState
from ingestd.live.supervisor import Health, State
from ingestd.live.writer import Writer
from ingestd.registry.model import Stream


def stream_status(stream: Stream, session: Session | None) -> dict[str, Any]:
    """One stream, as ``GET /v1/streams/{stream}`` shows it: plain JSON types, times as RFC 3339."""
    status: dict[str, Any] = {
        "name": stream.name,
        "state": StreamState.IDLE.value,
        "since": None,
        "pipeline": stream.pipeline,
        "publisher": None,
        "viewers": 0,
        "chunks": 0,
        "bytes": 0,
        "encoder": None,
        "sinks": [],
    }
    if session is None:
        return status
    ingest = session.ingest
    publication = ingest.publication
    return status | {
        "state": session.state.value,
        "since": _time(session.since),
        "session": session.id,
        "started": _time(session.started),
        "cause": session.cause,
        "publisher": _publisher(publication) if publication else None,
        "chunks": ingest.chunks,
        "bytes": ingest.size,
        "cuts": ingest.cuts,
        "resumes": ingest.resumes,
        "takeovers": ingest.takeovers,
        "gap_count": ingest.gap_count,
        "gaps": [{**asdict(gap), "began": _time(gap.began)} for gap in ingest.gaps],
        "source": _source(session),
        "encoder": _encoder(session.encoder) if session.encoder else None,
        "sinks": [_sink(run) for run in session.sinks],
    }


def _publisher(publication: Publication) -> dict[str, Any]:
    claims = publication.claims
    return {
        "remote": publication.remote,
        "client": claims.client or None,
        "mime": claims.mime or None,
        "buffered_bytes": claims.stats.buffered_bytes,
        "bitrate": claims.stats.bitrate,
        "dropped_chunks": claims.stats.dropped_chunks,
    }


def _source(session: Session) -> dict[str, Any] | None:
    if session.source is None:
        return None
    configuration = session.source.hub.configuration
    tracks = configuration.tracks if configuration else ()
    return {
        "tracks": [
            {"kind": t.kind.value, "codec": t.codec, "width": t.width, "height": t.height,
             "sample_rate": t.sample_rate, "channels": t.channels}
            for t in tracks
        ],
        **session.source.statistics(),
    }  # fmt: skip


def _health(health: Health) -> dict[str, Any]:
    return {
        "state": health.state.value,
        "since": _time(health.since),
        "attempts": health.attempts,
        "restarts": health.restarts,
        "pid": health.pid,
        "last_error": health.last_error,
    }


def _encoder(encoder: Encoder) -> dict[str, Any]:
    return {
        **_health(encoder.health),
        "fps": encoder.progress.fps,
        "speed": encoder.progress.speed,
        "behind": round(encoder.behind, 1),
        "frames": encoder.progress.frame,
        "dropped": encoder.progress.dropped,
        "duplicated": encoder.progress.duplicated,
    }


def _sink(run: SinkRun) -> dict[str, Any]:
    status = {
        "name": run.sink.name,
        "type": run.sink.type,
        **_health(run.health),
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


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
