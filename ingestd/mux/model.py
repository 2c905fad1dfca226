"""Mux's things as frozen classes: the few fields that we use. What else Mux sends is ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from ingestd.config import MuxConfig

STREAM_URL = "https://stream.mux.com"
_LONGEST_ID = 255


class Unexpected(ValueError):
    """JSON that is not what Mux documents; the text says what was expected."""


@frozen(slots=True, kw_only=True)
class PlaybackId:
    """How viewers find a live stream; *policy* is ``public``, ``signed``, or one that Mux adds later."""

    id: str
    policy: str

    @property
    def url(self) -> str:
        """The HLS playlist. A signed one plays only with ``?token=`` and a JWT of the application's."""
        return f"{STREAM_URL}/{self.id}.m3u8"


@frozen(slots=True, kw_only=True)
class SimulcastTarget:
    """Where Mux pushes a live stream on to. Its key is never read back."""

    id: str
    status: str
    passthrough: str
    url: str = field(repr=False)


@frozen(slots=True, kw_only=True)
class LiveStream:
    """A live stream. *status* is ``idle``, ``active`` or ``disabled``.

    *answered* is Mux's clock when it said so, in seconds since 1970, to the second below; None if unknown.
    """

    id: str
    status: str
    stream_key: str = field(repr=False)
    playback_ids: tuple[PlaybackId, ...]
    latency_mode: str
    reconnect_window: float | None
    passthrough: str
    simulcast_targets: tuple[SimulcastTarget, ...]
    answered: float | None = None


@frozen(slots=True, kw_only=True)
class LiveStreamOptions:
    """How a live stream is made. *reconnect_window* is in seconds."""

    latency_mode: Literal["standard", "reduced", "low"]
    reconnect_window: float
    playback_policy: Literal["public", "signed"]

    @classmethod
    def of(cls, config: MuxConfig) -> LiveStreamOptions:
        """Those of ``[mux]``."""
        return cls(
            latency_mode=config.latency_mode,
            reconnect_window=config.reconnect_window,
            playback_policy=config.playback_policy,
        )

    def body(self, passthrough: str) -> dict[str, Any]:
        """The JSON of a create. The window is always in it: Mux's own is 0 s for reduced and low latency."""
        return {
            "latency_mode": self.latency_mode,
            "reconnect_window": _whole(self.reconnect_window),
            # A picture instead of silence while we reconnect, which Mux advises for long windows.
            "use_slate_for_standard_latency": self.latency_mode == "standard",
            "playback_policies": [self.playback_policy],
            "new_asset_settings": {"playback_policies": [self.playback_policy]},
            "passthrough": passthrough,
        }


def live_stream(data: object, answered: float | None = None) -> LiveStream:
    """*data* as a live stream; raises `Unexpected`."""
    table = _table(data, "a live stream")
    return LiveStream(
        id=identifier(table.get("id")),
        status=_text(table, "status", "a live stream's status"),
        stream_key=_text(table, "stream_key", "a stream key"),
        playback_ids=tuple(playback_id(item) for item in _list(table, "playback_ids")),
        latency_mode=_optional(table, "latency_mode"),
        reconnect_window=_seconds(table.get("reconnect_window")),
        passthrough=_optional(table, "passthrough"),
        simulcast_targets=tuple(simulcast_target(item) for item in _list(table, "simulcast_targets")),
        answered=answered,
    )


def playback_id(data: object) -> PlaybackId:
    """*data* as a playback id; raises `Unexpected`."""
    table = _table(data, "a playback id")
    return PlaybackId(id=identifier(table.get("id")), policy=_optional(table, "policy"))


def simulcast_target(data: object) -> SimulcastTarget:
    """*data* as a simulcast target; raises `Unexpected`."""
    table = _table(data, "a simulcast target")
    return SimulcastTarget(
        id=identifier(table.get("id")),
        status=_optional(table, "status"),
        passthrough=_optional(table, "passthrough"),
        url=_optional(table, "url"),
    )


def identifier(value: object) -> str:
    """*value* as an id of Mux's; raises `Unexpected`. It may stand in a log line."""
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_ID and value.isascii() and value.isprintable():
        return value
    raise Unexpected(f"expected an id of up to {_LONGEST_ID} characters")


def _whole(seconds: float) -> float | int:
    return int(seconds) if seconds == int(seconds) else seconds


def _table(data: object, what: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise Unexpected(f"expected {what}")
    return data


def _text(table: Mapping[str, Any], key: str, what: str) -> str:
    value = table.get(key)
    if not (isinstance(value, str) and value):
        raise Unexpected(f"expected {what}")
    return value


def _optional(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""


def _list(table: Mapping[str, Any], key: str) -> list[object]:
    value = table.get(key)
    return value if isinstance(value, list) else []


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1e9 else None
