"""``ingestd.toml`` and ``pipelines/*.toml`` as frozen classes. Defaults live here and nowhere else.

Sizes are bytes, durations seconds (float), rates bits per second (int) once loaded; in TOML they
are strings with units (``"16MiB"``, ``"2s"``, ``"2500k"``). The annotated aliases below mark them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from attrs import Factory, field, frozen

Seconds: TypeAlias = Annotated[float, "duration"]
Bytes: TypeAlias = Annotated[int, "size"]
BitRate: TypeAlias = Annotated[int, "rate"]


@frozen(slots=True, kw_only=True)
class Address:
    """A listener's address; ``str()`` gives ``host:port`` (IPv6 in brackets)."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        raise NotImplementedError

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen(slots=True, kw_only=True)
class Ingest:
    bind: Address = Address(host="127.0.0.1", port=8081)
    max_streams: int = 32
    max_message: Bytes = 16 * 2**20
    channel: int = 16  # chunks
    receive_buffer: Bytes = 256 * 2**10
    handshake_timeout: Seconds = 10.0
    ping_interval: Seconds = 10.0
    ping_timeout: Seconds = 10.0
    idle_timeout: Seconds = 0.0  # 0 = never: a frozen canvas sends nothing, and is no fault


@frozen(slots=True, kw_only=True)
class Control:
    bind: Address = Address(host="127.0.0.1", port=8080)
    public_url: str = ""
    allow_unauthenticated: bool = False


@frozen(slots=True, kw_only=True)
class Storage:
    state_dir: Path = Path("var")


@frozen(slots=True, kw_only=True)
class JournalConfig:
    ack: Literal["written", "synced"] = "written"
    on_full: Literal["end", "continue"] = "end"
    max_size: Bytes = 8 * 2**30
    max_age: Seconds = 6 * 3600.0
    min_free: Bytes = 256 * 2**20


@frozen(slots=True, kw_only=True)
class HubConfig:
    memory: Bytes = 32 * 2**20
    window: Seconds = 60.0
    max_lag: Seconds = 8.0  # of a `skip` subscription


@frozen(slots=True, kw_only=True)
class SupervisorConfig:
    backoff: tuple[Seconds, ...] = (1.0, 2.0, 3.0)
    healthy_after: Seconds = 20.0
    retry_failed_every: Seconds = 30.0  # 0 = never; network targets only
    stall_timeout: Seconds = 5.0
    stop_timeout: Seconds = 5.0


@frozen(slots=True, kw_only=True)
class FfmpegConfig:
    path: str = ""  # empty: the system's, else the embedded one
    threads: int = 0


@frozen(slots=True, kw_only=True)
class LogConfig:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


@frozen(slots=True, kw_only=True)
class Shutdown:
    timeout: Seconds = 20.0


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
    bitrate: BitRate = 2_500_000
    maxrate: BitRate = 2_800_000
    bufsize: BitRate = 4_000_000
    preset: str = "veryfast"
    profile: Literal["baseline", "main", "high"] = "main"
    keyframe_interval: Seconds = 2.0
    size: tuple[int, int] = (1280, 720)  # TOML: "1280x720"
    fps: float = 30.0


@frozen(slots=True, kw_only=True)
class Audio:
    codec: Literal["aac"] = "aac"
    bitrate: BitRate = 128_000
    sample_rate: int = 44_100
    channels: int = 2


@frozen(slots=True, kw_only=True)
class Pipeline:
    """One ``pipelines/<id>.toml``. *sinks* are the sink types' own option classes, see ``ingestd.sinks``."""

    id: str
    video: Video = Video()
    audio: Audio = Audio()
    sinks: tuple[Any, ...] = ()


@frozen(slots=True, kw_only=True)
class Config:
    """The whole configuration. *path* is the file that it came from; relative paths are resolved against it."""

    path: Path
    ingest: Ingest = Ingest()
    control: Control = Control()
    storage: Storage = Storage()
    journal: JournalConfig = JournalConfig()
    hub: HubConfig = HubConfig()
    supervisor: SupervisorConfig = SupervisorConfig()
    ffmpeg: FfmpegConfig = FfmpegConfig()
    log: LogConfig = LogConfig()
    shutdown: Shutdown = Shutdown()
    pipelines_dir: Pipelines = Pipelines()
    streams: dict[str, StreamConfig] = Factory(dict)
    pipelines: dict[str, Pipeline] = Factory(dict)
