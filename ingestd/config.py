"""``ingestd.toml`` and ``pipelines/*.toml`` as frozen classes. Defaults live here and nowhere else.

Sizes are bytes, durations seconds (float), rates bits per second (int) once loaded; in TOML they
are strings with units (``"16MiB"``, ``"2s"``, ``"2500k"``). The annotated aliases below mark them,
and `ingestd.structure` reads the marks. Limits are field validators, spelled as the TOML spells them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from attrs import Factory, field, frozen

from ingestd.address import Address
from ingestd.ranges import (
    colour,
    duration_between,
    each,
    frequency,
    network,
    number_between,
    one_of,
    one_of_types,
    origin_or_all,
    picture_size,
    rate_between,
    size_between,
    stream_name,
    text_at_most,
    web_url,
)
from ingestd.webhook_types import WEBHOOK_TYPES

Seconds: TypeAlias = Annotated[float, "duration"]
Bytes: TypeAlias = Annotated[int, "size"]
BitRate: TypeAlias = Annotated[int, "rate"]
PictureSize: TypeAlias = Annotated[tuple[int, int], "picture"]
#: So many times in so many seconds; (0, 0.0): no limit.
Frequency: TypeAlias = Annotated[tuple[int, float], "frequency"]
#: A file with a secret: a path (relative to ``ingestd.toml``) or ``credential:NAME``; read when needed.
KeyFile: TypeAlias = Annotated[str, "key_file"]
#: A file that must be there once a stream uses it, relative to ``ingestd.toml``; empty: none.
FilePath: TypeAlias = Annotated[str, "file"]

#: x264's presets, the fastest first.
Preset: TypeAlias = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
]


@frozen(slots=True, kw_only=True)
class Ingest:
    bind: Address = field(default=Address(host="127.0.0.1", port=8081))
    max_streams: int = field(default=32, validator=number_between(1, 10_000))
    max_message: Bytes = field(default=16 * 2**20, validator=size_between("64KiB", "1GiB"))
    channel: int = field(default=16, validator=number_between(1, 4096))  # chunks
    receive_buffer: Bytes = field(default=256 * 2**10, validator=size_between("4KiB", "16MiB"))
    handshake_timeout: Seconds = field(default=10.0, validator=duration_between("100ms", "5m"))
    ping_interval: Seconds = field(default=10.0, validator=duration_between("100ms", "1h", zero="no pings"))
    ping_timeout: Seconds = field(default=10.0, validator=duration_between("100ms", "1h"))
    # 0 = never: a frozen canvas sends nothing, and is no fault
    idle_timeout: Seconds = field(default=0.0, validator=duration_between("1s", "7d", zero="never"))
    origins: tuple[str, ...] = field(default=(), validator=each(origin_or_all, at_most=100, at_least=0))
    trusted_proxies: tuple[str, ...] = field(default=(), validator=each(network, at_most=100, at_least=0))


@frozen(slots=True, kw_only=True)
class Viewers:
    """Those who watch over the ingest listener: `ingestd.live.relay`."""

    max: int = field(default=300, validator=number_between(1, 100_000, zero="none"))
    max_per_stream: int = field(default=300, validator=number_between(1, 100_000, zero="none"))
    # of each stream that is watched
    memory: Bytes = field(default=16 * 2**20, validator=size_between("1MiB", "1GiB"))
    max_lag: Seconds = field(default=8.0, validator=duration_between("500ms", "10m"))
    # unsent, in the kernel
    send_buffer: Bytes = field(default=128 * 2**10, validator=size_between("16KiB", "16MiB"))
    # of a plain HTTP request
    patience: Seconds = field(default=10.0, validator=duration_between("100ms", "5m"))


@frozen(slots=True, kw_only=True)
class Control:
    bind: Address = field(default=Address(host="127.0.0.1", port=8080))
    public_url: str = ""
    allow_unauthenticated: bool = False
    # of a stream that is made without saying which
    pipeline: str = "hls"
    max_streams: int = field(default=10_000, validator=number_between(1, 1_000_000))
    # kept for those who ask what happened since
    events: int = field(default=1000, validator=number_between(10, 100_000, zero="none"))
    max_event_clients: int = field(default=64, validator=number_between(1, 10_000))
    max_pulls: int = field(default=16, validator=number_between(1, 10_000))
    cors_origins: tuple[str, ...] = field(default=(), validator=each(origin_or_all, at_most=100, at_least=0))
    trusted_proxies: tuple[str, ...] = field(default=(), validator=each(network, at_most=100, at_least=0))


#: What may sign a JWT: asymmetric only, so that no key that verifies can also sign.
Algorithm: TypeAlias = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


@frozen(slots=True, kw_only=True)
class Jwt:
    """JWTs of somebody else's; none are taken while neither *jwks_url* nor *jwks_file* is given."""

    jwks_url: str = field(default="", validator=web_url)
    jwks_file: FilePath = ""
    issuer: str = field(default="", validator=text_at_most(500))
    audience: str = field(default="", validator=text_at_most(500))
    algorithms: tuple[Algorithm, ...] = field(
        default=("RS256", "ES256", "EdDSA"), validator=each(lambda *_: None, at_most=20)
    )
    scopes_claim: str = field(default="scope", validator=text_at_most(100))
    leeway: Seconds = field(default=30.0, validator=duration_between("100ms", "10m", zero="none"))
    cache: Seconds = field(default=3600.0, validator=duration_between("10s", "1d"))
    refresh: Seconds = field(default=30.0, validator=duration_between("1s", "1h"))


@frozen(slots=True, kw_only=True)
class Auth:
    """Who may use the control listener, publish and watch."""

    tokens_file: KeyFile = ""
    session: Seconds = field(default=43_200.0, validator=duration_between("1m", "30d"))
    max_sessions: int = field(default=1000, validator=number_between(1, 100_000))
    failures: Frequency = field(default=(10, 60.0), validator=frequency)
    failures_in_all: Frequency = field(default=(1000, 60.0), validator=frequency)
    creates: Frequency = field(default=(30, 60.0), validator=frequency)
    creates_in_all: Frequency = field(default=(300, 60.0), validator=frequency)
    url: str = field(default="", validator=web_url)
    timeout: Seconds = field(default=3.0, validator=duration_between("100ms", "1m"))
    cache: Seconds = field(default=30.0, validator=duration_between("100ms", "1h", zero="ask each time"))
    cache_refused: Seconds = field(
        default=5.0, validator=duration_between("100ms", "1h", zero="ask each time")
    )
    when_down: Literal["deny", "allow"] = "deny"
    playback: Literal["open", "signed", "ask"] = "open"
    playback_key_file: KeyFile = ""
    jwt: Jwt = Jwt()

    @property
    def is_configured(self) -> bool:
        """Whether the control listener asks who somebody is."""
        return bool(self.tokens_file or self.jwt.jwks_url or self.jwt.jwks_file)


@frozen(slots=True, kw_only=True)
class Storage:
    state_dir: Path = Path("var")


@frozen(slots=True, kw_only=True)
class DatabaseConfig:
    """*url* is that in *url_file* once loaded; it may have a password in it."""

    url: str = field(default="", repr=False)  # empty: SQLite in storage.state_dir
    url_file: KeyFile = ""
    pool: int = field(default=4, validator=number_between(1, 64))
    timeout: Seconds = field(default=5.0, validator=duration_between("100ms", "1m"))
    secret_key_file: KeyFile = ""
    max_pending: int = field(default=10_000, validator=number_between(100, 1_000_000))
    keep_sessions: Seconds = field(
        default=365 * 86_400.0, validator=duration_between("1h", "3650d", zero="for ever")
    )


@frozen(slots=True, kw_only=True)
class JournalConfig:
    ack: Literal["written", "synced"] = "written"
    on_full: Literal["end", "continue"] = "end"
    max_size: Bytes = field(default=64 * 2**30, validator=size_between("1MiB", "16TiB"))
    max_age: Seconds = field(default=6 * 3600.0, validator=duration_between("10s", "365d"))
    max_recorders: int = field(default=1000, validator=number_between(1, 1_000_000))
    # of sessions that could not be made anything of
    keep_for: Seconds = field(
        default=7 * 86_400.0, validator=duration_between("1m", "3650d", zero="no bound")
    )
    keep_size: Bytes = field(default=64 * 2**30, validator=size_between("1MiB", "16TiB", zero="no bound"))
    min_free: Bytes = field(default=256 * 2**20, validator=size_between("1MiB", "16TiB", zero="no reserve"))


@frozen(slots=True, kw_only=True)
class HubConfig:
    memory: Bytes = field(default=32 * 2**20, validator=size_between("1MiB", "16GiB"))
    window: Seconds = field(default=60.0, validator=duration_between("1s", "1h"))
    # of a `skip` subscription
    max_lag: Seconds = field(default=8.0, validator=duration_between("500ms", "10m"))


@frozen(slots=True, kw_only=True)
class SupervisorConfig:
    backoff: tuple[Seconds, ...] = field(
        default=(1.0, 2.0, 3.0), validator=each(duration_between("1ms", "1h"), at_most=100)
    )
    healthy_after: Seconds = field(default=20.0, validator=duration_between("100ms", "1h"))
    # network targets only
    retry_failed_every: Seconds = field(default=30.0, validator=duration_between("100ms", "1d", zero="never"))
    stall_timeout: Seconds = field(default=5.0, validator=duration_between("500ms", "10m"))
    stop_timeout: Seconds = field(default=5.0, validator=duration_between("100ms", "10m"))

    def worst_recovery(self, patience: float) -> float:
        """The longest that a network target may be without us, in seconds, though it could be reached again.

        A stall is noticed after `stall_timeout`. Then each attempt of the round waits for its backoff and may
        hang: for *patience*, the sink's own timeout, and for `stall_timeout`. The target comes back just as
        the last of them fails, so `retry_failed_every` goes by too, and the next connects within *patience*.
        """
        hanging = patience + self.stall_timeout
        round_ = sum(self.backoff) + len(self.backoff) * hanging
        return self.stall_timeout + round_ + self.retry_failed_every + patience


@frozen(slots=True, kw_only=True)
class FfmpegConfig:
    path: str = ""  # empty: the system's, else the embedded one
    threads: int = field(default=0, validator=number_between(1, 256, zero="FFmpeg decides"))


@frozen(slots=True, kw_only=True)
class LogConfig:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
    keep: int = field(default=1000, validator=number_between(10, 10_000, zero="none"))


@frozen(slots=True, kw_only=True)
class Notify:
    """How all webhooks are delivered: `ingestd.notify`."""

    retry_for: Seconds = field(default=86_400.0, validator=duration_between("1m", "30d"))
    # the last one again and again
    backoff: tuple[Seconds, ...] = field(
        default=(5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0),
        validator=each(duration_between("10ms", "1d"), at_most=100),
    )
    # of each endpoint
    max_pending: int = field(default=2000, validator=number_between(10, 100_000))
    concurrency: int = field(default=4, validator=number_between(1, 64))
    keep_for: Seconds = field(default=7 * 86_400.0, validator=duration_between("1h", "3650d"))
    keep: int = field(default=100_000, validator=number_between(100, 10_000_000))


@frozen(slots=True, kw_only=True)
class Webhook:
    """One ``[[webhooks]]``: who is told of what. The *url* may be a secret itself."""

    name: str
    url: str = field(repr=False)
    secret_file: KeyFile
    events: tuple[str, ...] = field(
        default=WEBHOOK_TYPES, validator=each(one_of_types(WEBHOOK_TYPES), at_most=100)
    )
    streams: tuple[str, ...] = field(default=(), validator=each(stream_name, at_most=1000, at_least=0))
    allow_private: bool = False
    timeout: Seconds = field(default=15.0, validator=duration_between("100ms", "1m"))


@frozen(slots=True, kw_only=True)
class Shutdown:
    timeout: Seconds = field(default=20.0, validator=duration_between("1s", "1h"))
    sessions: Literal["end", "hand_over"] = "end"


@frozen(slots=True, kw_only=True)
class MuxConfig:
    """Mux's API. Without both token files no live stream is made there: `enabled`."""

    token_id_file: KeyFile = ""
    token_secret_file: KeyFile = ""
    webhook_secret_file: KeyFile = ""
    api: str = "https://api.mux.com"
    latency_mode: Literal["standard", "reduced", "low"] = "standard"
    # Mux's own default is 60 s, and none at all for reduced and low latency: so it is always sent
    reconnect_window: Seconds = field(default=120.0, validator=duration_between("1s", "30m"))
    playback_policy: Literal["public", "signed"] = "public"
    active_within: Seconds = field(default=30.0, validator=duration_between("1s", "10m"))
    poll_every: Seconds = field(default=30.0, validator=duration_between("1s", "1h", zero="never"))
    timeout: Seconds = field(default=10.0, validator=duration_between("100ms", "2m"))
    # of one call with all its attempts
    deadline: Seconds = field(default=30.0, validator=duration_between("100ms", "10m"))
    max_retries: int = field(default=4, validator=number_between(1, 20, zero="none"))
    max_webhook: Bytes = field(default=256 * 2**10, validator=size_between("1KiB", "16MiB"))
    remember_events: int = field(default=10_000, validator=number_between(1, 1_000_000))
    hold_events: int = field(default=1000, validator=number_between(1, 100_000))
    hold_for: Seconds = field(default=60.0, validator=duration_between("1s", "1h"))

    @property
    def enabled(self) -> bool:
        return bool(self.token_id_file and self.token_secret_file)


@frozen(slots=True, kw_only=True)
class Pipelines:
    dir: Path = Path("pipelines")


@frozen(slots=True, kw_only=True)
class StreamConfig:
    """A stream declared in the file. The key itself is not kept: only its SHA-256."""

    name: str
    pipeline: str
    key_sha256: bytes = field(repr=False)


@frozen(slots=True, kw_only=True)
class Video:
    codec: Literal["auto", "copy", "h264"] = "auto"
    bitrate: BitRate = field(default=2_500_000, validator=rate_between("50k", "200M"))
    maxrate: BitRate = field(default=2_800_000, validator=rate_between("50k", "200M"))
    bufsize: BitRate = field(default=4_000_000, validator=rate_between("50k", "400M"))
    preset: Preset = "veryfast"
    profile: Literal["baseline", "main", "high"] = "main"
    keyframe_interval: Seconds = field(default=2.0, validator=duration_between("250ms", "30s"))
    max_keyframe_interval: Seconds = field(default=10.0, validator=duration_between("1s", "10m"))
    # TOML: "1280x720"
    size: PictureSize = field(default=(1280, 720), validator=picture_size)
    fps: float = field(default=30.0, validator=number_between(1, 120))


@frozen(slots=True, kw_only=True)
class Audio:
    codec: Literal["aac"] = "aac"
    bitrate: BitRate = field(default=128_000, validator=rate_between("16k", "512k"))
    sample_rate: int = field(default=44_100, validator=one_of(22_050, 32_000, 44_100, 48_000))
    channels: int = field(default=2, validator=one_of(1, 2))


@frozen(slots=True, kw_only=True)
class PublisherConfig:
    """Who may publish a stream beside, or after, its publisher."""

    reconnect_window: Seconds = field(
        default=60.0, validator=duration_between("100ms", "1d", zero="do not wait")
    )
    second: Literal["refuse", "take_over"] = "refuse"


@frozen(slots=True, kw_only=True)
class Slate:
    """What the program shows while its publisher is away. *image* and *colour* fill the canvas."""

    show: Literal["hold", "colour", "image"] = "hold"
    after: Seconds = field(default=2.0, validator=duration_between("100ms", "1h"))
    colour: str = field(default="#101014", validator=colour)
    image: FilePath = ""
    text: str = field(default="", validator=text_at_most(200))


@frozen(slots=True, kw_only=True)
class Pipeline:
    """One ``pipelines/<id>.toml``. *sinks* are the sink types' own option classes, see ``ingestd.sinks``."""

    id: str
    video: Video = Video()
    audio: Audio = Audio()
    publisher: PublisherConfig = PublisherConfig()
    slate: Slate = Slate()
    sinks: tuple[Any, ...] = ()


@frozen(slots=True, kw_only=True)
class Config:
    """The whole configuration. *path* is the file that it came from; all paths are absolute."""

    path: Path
    ingest: Ingest = Ingest()
    viewers: Viewers = Viewers()
    control: Control = Control()
    auth: Auth = Auth()
    storage: Storage = Storage()
    database: DatabaseConfig = DatabaseConfig()
    journal: JournalConfig = JournalConfig()
    hub: HubConfig = HubConfig()
    supervisor: SupervisorConfig = SupervisorConfig()
    ffmpeg: FfmpegConfig = FfmpegConfig()
    log: LogConfig = LogConfig()
    notify: Notify = Notify()
    shutdown: Shutdown = Shutdown()
    mux: MuxConfig = MuxConfig()
    pipelines_dir: Pipelines = Pipelines()
    streams: dict[str, StreamConfig] = Factory(dict)
    webhooks: tuple[Webhook, ...] = ()
    pipelines: dict[str, Pipeline] = Factory(dict)
