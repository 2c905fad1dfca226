"""The shapes of what the API tells of a stream: `ingestd.live.status` fills them, OpenAPI shows them.

Times are RFC 3339 in UTC, durations seconds. Later versions only add.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

Time = Annotated[str, Meta(description="RFC 3339, UTC.", examples=["2026-11-21T08:01:48.856Z"])]
State = Literal["idle", "connecting", "live", "interrupted", "ended", "failed"]


class PublisherStatus(TypedDict):
    """Who publishes now; what is beside `remote` is what it says of itself."""

    remote: str
    client: str | None
    mime: str | None
    buffered_bytes: int | None
    bitrate: int | None
    dropped_chunks: int | None


class GapStatus(TypedDict):
    """Media that the publisher made and that did not come here."""

    at: Annotated[float, Meta(description="Which second of the stream.")]
    began: Time
    seconds: Annotated[float, Meta(description="By the clock.")]
    reason: str
    chunks: int | None


class TrackStatus(TypedDict):
    """One track of the source."""

    kind: Literal["video", "audio"]
    codec: str
    width: int | None
    height: int | None
    sample_rate: int | None
    channels: int | None


class SourceStatus(TypedDict):
    """What comes in."""

    tracks: list[TrackStatus]
    frames: int
    video_frames: int
    window_bytes: int
    window_peak_bytes: int
    subscriptions: int
    discarded_frames: int
    journal_bytes: int
    journal_error: str | None


class HealthStatus(TypedDict):
    """What is supervised: *attempts* in a row, *restarts* in all."""

    state: Literal["starting", "running", "backing_off", "failed", "stopped"]
    since: Time
    attempts: int
    restarts: int
    pid: int | None
    last_error: str | None


class EncoderStatus(HealthStatus):
    """The session's encoder; `fps` and `speed` are FFmpeg's averages since its start."""

    fps: float | None
    speed: float | None
    behind: Annotated[float, Meta(description="Seconds of media that came in and are not encoded yet.")]
    frames: int
    dropped: int
    duplicated: int


class SinkStatus(HealthStatus):
    """One sink of the session. What is sent is not yet delivered: RTMP acknowledges no media."""

    name: str
    type: str
    sent_frames: int
    sent_bytes: int
    dropped_frames: int
    behind_frames: int
    fps: NotRequired[float | None]
    speed: NotRequired[float | None]
    last_segment: NotRequired[str | None]
    last_segment_age: NotRequired[float | None]
    file: NotRequired[str | None]
    finished_files: NotRequired[int]
    files: NotRequired[list[str]]


class TargetStatus(TypedDict):
    """Where a sink of this stream pushes to; its key is never told."""

    sink: str
    url: str | None


class PlaybackStatus(TypedDict):
    """How the stream is watched."""

    id: str
    provider: Literal["ingestd", "mux"]
    policy: Literal["public", "signed"]
    url: str | None


class MuxStatus(TypedDict):
    """The live stream at Mux that belongs to it."""

    stream_id: str
    latency_mode: str
    reconnect_window: float
    status: NotRequired[Annotated[str | None, Meta(description="What Mux said last; null: nothing yet.")]]
    since: NotRequired[Time | None]
    warning: NotRequired[
        Annotated[str | None, Meta(description="What is pushed does not arrive, or the like.")]
    ]


class StreamStatus(TypedDict):
    """A stream, and its session: the one that runs, or the last one of this daemon."""

    name: str
    title: str
    labels: dict[str, str]
    enabled: bool
    declared: Annotated[bool, Meta(description="In `ingestd.toml`, which then decides what can be changed.")]
    created: Time
    updated: Time
    targets: list[TargetStatus]
    playback: list[PlaybackStatus]
    mux: MuxStatus | None
    state: State
    since: Time | None
    pipeline: str
    publisher: PublisherStatus | None
    viewers: int
    chunks: int
    bytes: int
    encoder: EncoderStatus | None
    sinks: list[SinkStatus]
    session: NotRequired[str]
    started: NotRequired[Time]
    cause: NotRequired[str | None]
    cuts: NotRequired[int]
    resumes: NotRequired[int]
    takeovers: NotRequired[int]
    gap_count: NotRequired[int]
    gaps: NotRequired[list[GapStatus]]
    source: NotRequired[SourceStatus | None]
