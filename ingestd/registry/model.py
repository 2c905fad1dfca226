"""What the registry keeps, as frozen classes. Times are seconds since the epoch (float), sizes bytes.

A stream declared in ``ingestd.toml`` and one made by the API are the same class. Keys of targets are in
the clear here and never in a ``repr``; the database has them sealed (`ingestd.registry.seal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from attrs import Factory, field, frozen

Provider: TypeAlias = Literal["ingestd", "mux"]
Policy: TypeAlias = Literal["public", "signed"]
DeliveryState: TypeAlias = Literal["pending", "delivered", "failed"]


@frozen(slots=True, kw_only=True)
class Target:
    """Where the sink *sink* of one stream pushes to, in place of what its pipeline says."""

    sink: str
    key: str = field(repr=False)
    url: str | None = field(default=None, repr=False)  # may have a key or a password in it, too


@frozen(slots=True, kw_only=True)
class Playback:
    """How a stream is watched: *id* names it at *provider*."""

    id: str
    provider: Provider
    policy: Policy = "public"
    url: str | None = None


@frozen(slots=True, kw_only=True)
class MuxLink:
    """The live stream at Mux that belongs to a stream. *reconnect_window* is in seconds."""

    stream_id: str
    latency_mode: str
    reconnect_window: float


@frozen(slots=True, kw_only=True)
class Stream:
    """The thing with a name, a key and a life. The key itself is not kept: only its SHA-256."""

    name: str
    pipeline: str
    key_sha256: bytes = field(repr=False)
    enabled: bool = True
    declared: bool = False
    created: float
    updated: float
    title: str = ""
    labels: Mapping[str, str] = Factory(dict)
    targets: tuple[Target, ...] = ()
    playback: tuple[Playback, ...] = ()
    mux: MuxLink | None = None

    @property
    def life(self) -> str:
        """What tells it from another stream that has its name later; one that is declared is its name."""
        return "" if self.declared else repr(self.created)


@frozen(slots=True, kw_only=True)
class SessionRow:
    """One live run of a stream, as it is told later. While it is on air *ended* is None."""

    id: str
    stream: str
    pipeline: str
    state: str
    started: float
    ended: float | None = None
    cause: str | None = None
    chunks: int = 0
    bytes: int = 0
    frames: int = 0
    gaps: int = 0
    gap_seconds: float = 0.0
    updated: float


@frozen(slots=True, kw_only=True)
class RecordingRow:
    """A file that a sink made; *file* is its path below ``recordings/<stream>``, with slashes."""

    id: str
    stream: str
    session: str | None = None
    sink: str
    file: str
    size: int
    changed: float
    finished: bool


@frozen(slots=True, kw_only=True)
class Delivery:
    """One event for one endpoint. *body* is what is sent, byte for byte; *next_attempt* is a time."""

    id: str
    endpoint: str
    event_id: str
    type: str
    body: bytes = field(repr=False)
    created: float
    next_attempt: float
    attempts: int = 0
    state: DeliveryState = "pending"
    last_status: int | None = None
    last_error: str | None = None
    delivered_at: float | None = None


@frozen(slots=True, kw_only=True)
class Leftover:
    """A live stream at Mux that was, or may have been, made for *stream*, and that nobody is to use.

    Its *id* is the ``passthrough`` that it was to be made with, by which Mux can be asked for it; or its
    *stream_id*, once that is known (empty before).
    """

    id: str
    stream: str
    stream_id: str = ""
    since: float
    next_attempt: float
    attempts: int = 0
    last_error: str | None = None
