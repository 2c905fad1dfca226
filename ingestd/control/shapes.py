"""What the API takes and tells beside the status of a stream (`ingestd.live.shapes`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ingestd.live.shapes import State, StreamStatus, Time

Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$",
        max_length=64,
        description='1 to 64 of a-z 0-9 "_" "-", the first a letter or digit.',
    ),
]
Title = Annotated[str, Meta(max_length=200, pattern=r"^[^\u0000-\u001f\u007f\ud800-\udfff]*$")]
LabelKey = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$", max_length=64)]
LabelValue = Annotated[str, Meta(max_length=200, pattern=r"^[^\u0000-\u001f\u007f\ud800-\udfff]*$")]
Labels = Annotated[
    dict[LabelKey, LabelValue], Meta(max_length=32, description="The application's own, at most 32.")
]
Limit = Annotated[int, Meta(ge=1, le=1000, description="How many at most.")]
Cursor = Annotated[
    str, Meta(min_length=1, max_length=2000, description="The `next` of the page before this one.")
]


class NewTarget(Struct, forbid_unknown_fields=True):
    """Where a push sink of this stream goes, in place of what its pipeline says."""

    sink: Name
    key: Annotated[
        str, Meta(pattern=r"^[!-~]{1,1024}$", max_length=1024, description="Kept sealed, and never told.")
    ]
    url: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=1024,
                description="To give one takes the scope `admin`. Without it: the URL of the pipeline.",
            ),
        ]
        | None
    ) = None


Targets = Annotated[list[NewTarget], Meta(max_length=32)]


class NewMux(Struct, forbid_unknown_fields=True):
    """How the live stream at Mux is made; what is left out is as `[mux]` has it."""

    latency_mode: Literal["standard", "reduced", "low"] | None = None
    reconnect_window: Annotated[float, Meta(ge=1, le=1800, description="Seconds.")] | None = None
    playback_policy: Literal["public", "signed"] | None = None


class NewSimulcast(Struct, forbid_unknown_fields=True):
    """Where Mux is to push a live stream on to."""

    url: Annotated[str, Meta(pattern=r"^rtmps?://[!-~]+$", max_length=1024)]
    key: Annotated[str, Meta(pattern=r"^[!-~]{1,1024}$", max_length=1024)]


class SimulcastTold(Struct):
    """One such target. Its key is never told, and of its URL only the server and application."""

    id: str
    status: str
    url: str | None


class SimulcastList(Struct):
    """In Mux's order."""

    simulcast: list[SimulcastTold]


class NewStream(Struct, forbid_unknown_fields=True):
    """All may be left out: the name is then made up, the pipeline is `control.pipeline`."""

    name: Annotated[Name, Meta(examples=["studio"])] | None = None
    pipeline: Name | None = None
    title: Title = ""
    labels: Labels = {}
    targets: Targets = []
    enabled: bool = True
    mux: NewMux | None = None


class StreamChange(Struct, forbid_unknown_fields=True):
    """What is left out stays as it is; `labels` and `targets` are replaced as a whole."""

    pipeline: Name | UnsetType = UNSET
    title: Title | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET
    targets: Targets | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class CreatedStream(StreamStatus):
    """A stream with its publish key, which is told here once and never again."""

    key: str
    ingest_url: Annotated[str, Meta(description="Where to publish: it holds the key.")]


class StreamListing(Struct, forbid_unknown_fields=True):
    """Which streams to list."""

    state: Annotated[list[State], Meta(description="Only those in one of these states.")] = []
    pipeline: Annotated[Name | None, Meta(description="Only those of this pipeline.")] = None
    label: Annotated[
        list[str], Meta(description="Only those with all of these: `key`, or `key=value`.", max_length=32)
    ] = []
    q: Annotated[str, Meta(max_length=200, description="Only those with this in their name or title.")] = ""
    limit: Limit = 1000
    cursor: Cursor | None = None


class StreamList(Struct):
    """By name; `next` is there when there are more.

    `complete` is false as long as the database has been away since the daemon's start: then those that the
    API made are not known, and only those of `ingestd.toml` are here.
    """

    streams: list[StreamStatus]
    next: str | UnsetType = UNSET
    complete: bool = True


class RateTold(Struct):
    """In bits and pictures a second, since the one before."""

    at: Time
    bitrate: float
    fps: float


class RateList(Struct):
    """Of the session that runs, the oldest first, and so many seconds apart; none while nothing runs."""

    session: str | None
    every: float
    rates: list[RateTold]


class SessionListing(Struct, forbid_unknown_fields=True):
    """Which sessions to list."""

    stream: Name | None = None
    on_air: Annotated[bool | None, Meta(description="Only those that have not ended, or only those.")] = None
    limit: Limit = 50
    cursor: Cursor | None = None


class SessionsOfStream(Struct, forbid_unknown_fields=True):
    """Which sessions of one stream to list."""

    limit: Limit = 50
    cursor: Cursor | None = None


class WhichSession(Struct, forbid_unknown_fields=True):
    """Of which stream, should two have begun a session in the same millisecond."""

    stream: Name | None = None


class SessionTold(Struct):
    """One live run of a stream; `ended` is null while it is on air."""

    id: str
    stream: str
    pipeline: str
    state: State
    started: Time
    ended: Time | None
    cause: str | None
    chunks: int
    bytes: int
    frames: int
    gaps: int
    gap_seconds: float


class SessionList(Struct):
    """Those that began last come first; `next` is there when there are more."""

    sessions: list[SessionTold]
    next: str | UnsetType = UNSET


class RecordingListing(Struct, forbid_unknown_fields=True):
    """Which recordings to list."""

    stream: Name | None = None
    session: Annotated[str, Meta(max_length=64)] | None = None
    finished: bool | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


class RecordingTold(Struct):
    """A file that a sink made; `file` is its path below the stream's recordings."""

    id: str
    stream: str
    session: str | None
    sink: str
    file: str
    size: int
    changed: Time
    finished: bool


class RecordingList(Struct):
    """Those that changed last come first; `next` is there when there are more."""

    recordings: list[RecordingTold]
    next: str | UnsetType = UNSET


class PipelineTold(Struct):
    """One `pipelines/<id>.toml` as it was loaded; secrets are shown as `"***"`."""

    id: str
    video: dict[str, Any]
    audio: dict[str, Any]
    publisher: dict[str, Any]
    slate: dict[str, Any]
    sinks: list[dict[str, Any]]


class PipelineList(Struct):
    """By id."""

    pipelines: list[PipelineTold]


class LeftoverTold(Struct):
    """A live stream at Mux that is to go; without `stream_id` it may not have been made."""

    stream: str
    stream_id: str | None
    passthrough: str | None
    since: Time
    attempts: int
    next_attempt: Time
    last_error: str | None


class LeftoverList(Struct):
    """The oldest first."""

    leftovers: list[LeftoverTold]


class WebhookTold(Struct):
    """An endpoint of `[[webhooks]]`; `origin` is what of its URL is no secret. It counts since the start."""

    name: str
    origin: str
    events: list[str]
    streams: list[str]
    allow_private: bool
    pending: int
    delivered: int
    failed: int
    dropped: int
    failing_since: Time | None
    last_error: str | None


class WebhookList(Struct):
    """As they are in the file."""

    webhooks: list[WebhookTold]


class DeliveryListing(Struct, forbid_unknown_fields=True):
    """Which deliveries to list."""

    endpoint: Name | None = None
    state: Literal["pending", "delivered", "failed"] | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


class PlaybackTold(Struct):
    """How a stream stands, and where it is watched: `watch` is a WebSocket, `media` the same as one body."""

    stream: str
    title: str
    state: State
    since: Time | None
    watch: str
    media: str
    hls: Annotated[str | None, Meta(description="Null for a pipeline without HLS.")]
    page: str
    viewers: int
    poster: Annotated[str | None, Meta(description="A picture of it, where who watches may see that.")]
    live_since: Annotated[float | None, Meta(description="When its session began, Unix time.")]


class DeliveryTold(Struct):
    """One event for one endpoint; `body` is what is sent, `next_attempt` null once it is settled."""

    id: str
    endpoint: str
    event_id: str
    type: str
    state: Literal["pending", "delivered", "failed"]
    created: Time
    attempts: int
    next_attempt: Time | None
    last_status: int | None
    last_error: str | None
    delivered_at: Time | None
    body: str


class DeliveryList(Struct):
    """The newest first; `next` is there when there are more."""

    deliveries: list[DeliveryTold]
    next: str | UnsetType = UNSET


Health = Literal["ok"]
