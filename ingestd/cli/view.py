"""How a stream's status looks: in a terminal of 80 columns or more, and as one plain line.

What is shown is the API's JSON (`ingestd.live.status`) with the bit rates that `Rates` makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ingestd.cli.rates import PUBLISHER
from ingestd.cli.wording import clock, rate, size

_STYLES = {
    "live": "green",
    "running": "green",
    "connecting": "yellow",
    "starting": "yellow",
    "interrupted": "yellow",
    "backing_off": "yellow",
    "failed": "bold red",
}
_LABEL = 10


def stream_view(status: dict[str, Any], rates: dict[str, float], now: datetime) -> RenderableType:
    """One stream in full: its state, what comes in, the encoder, and a row a sink with its last error."""
    lines: list[RenderableType] = [_title(status, now)]
    lines += [Text(warning, "yellow") for warning in warnings(status)]
    if status["state"] == "idle":
        return Group(*lines)
    lines.append(labelled("source", _source(status, rates)))
    if encoder := status["encoder"]:
        lines.append(labelled("encoder", _encoder(encoder)))
        lines += _notes("encoder", encoder)
    elif status["sinks"]:
        lines.append(labelled("encoder", Text("none: the source is passed on as it is", "dim")))
    if (mux := status.get("mux")) and mux.get("status"):
        lines.append(labelled("Mux", Text(f"{mux['status']} {_since(mux, now)}".rstrip())))
    if status["sinks"]:
        lines.append(_sinks(status, rates, now))
        lines += [note for sink in status["sinks"] for note in _notes(sink["name"], sink)]
    if status.get("cause"):
        lines.append(Text(f"failed: {status['cause']}", "bold red"))
    return Group(*lines)


def warnings(status: dict[str, Any]) -> list[str]:
    """What is wrong with one stream outside this machine: at Mux."""
    mux = status.get("mux") or {}
    return [f"Mux warns: {mux['warning']} (docs/mux.md says what to do)"] if mux.get("warning") else []


def streams_table(streams: Iterable[dict[str, Any]], now: datetime) -> Table:
    """All streams, a row each."""
    rows = table("stream", "state", "for", "pipeline", "publisher", "received", "sinks")
    for status in streams:
        publisher = (status["publisher"] or {}).get("remote") or "–"
        received = size(status["bytes"]) if status.get("session") else "–"
        rows.add_row(
            Text(status["name"], "bold"), _table_state(status), _since(status, now), status["pipeline"],
            publisher, received, _sink_counts(status["sinks"]),
        )  # fmt: skip
    return rows


def plain_line(status: dict[str, Any], rates: dict[str, float], now: datetime) -> str:
    """One stream in one line, for logs and pipes: ``demo live 0:42 in 412 kbit/s …``."""
    words = [status["name"], status["state"], _lasting(status, now)]
    if PUBLISHER in rates:
        words += ["· in", rate(rates[PUBLISHER])]
    if encoder := status["encoder"]:
        words += ["· encoder", encoder["state"], f"{encoder['fps']:.1f} fps", f"{encoder['speed']:.2f}x"]
    for sink in status["sinks"]:
        bits = rates.get(f"sink:{sink['name']}")
        words += ["·", sink["name"], sink["state"], rate(bits) if bits is not None else ""]
        words += [output] if (output := _output(status, sink)) else []
        if sink["restarts"]:
            words.append(f"{sink['restarts']} restarts")
        if sink["last_error"]:
            words.append(f"({sink['last_error']})")
    if status.get("cause"):
        words += ["·", status["cause"]]
    return " ".join(word for word in words if word)


def _title(status: dict[str, Any], now: datetime) -> Text:
    text = Text.assemble((status["name"], "bold"), "  ", state_text(status["state"]))
    text.append(f" {_lasting(status, now)}".rstrip())
    if not status.get("enabled", True):
        text.append("  disabled", "yellow")
    text.append(f"   pipeline {status['pipeline']}", "dim")
    if status.get("session"):
        text.append(f"   session {status['session']}", "dim")
    return text


def _source(status: dict[str, Any], rates: dict[str, float]) -> Text:
    parts = [_track(track) for track in (status.get("source") or {}).get("tracks", [])]
    parts += [rate(rates[PUBLISHER])] if PUBLISHER in rates else []
    parts += [size(status["bytes"]), f"{status['chunks']} chunks"]
    return Text(" · ".join(parts))


def _track(track: dict[str, Any]) -> str:
    if track["kind"] == "video":
        return f"{track['codec']} {track['width']}×{track['height']}"
    return f"{track['codec']} {(track['sample_rate'] or 0) / 1000:g} kHz"


def _encoder(encoder: dict[str, Any]) -> Text:
    text = state_text(encoder["state"])
    text.append(f" · {encoder['fps']:.1f} fps · {encoder['speed']:.2f}x", "default")
    for what, style in (("dropped", "yellow"), ("duplicated", "dim")):
        if encoder[what]:
            text.append(f" · {encoder[what]} {what}", style)
    if encoder["restarts"]:
        text.append(f" · {encoder['restarts']} restarts", "yellow")
    return text


def _sinks(status: dict[str, Any], rates: dict[str, float], now: datetime) -> Table:
    rows = table("sink", "state", "for", "bitrate", "fps", "output", "restarts")
    for sink in status["sinks"]:
        rows.add_row(
            Text(sink["name"], "bold"), state_text(sink["state"]), _since(sink, now),
            rate(rates.get(f"sink:{sink['name']}")), f"{sink['fps']:.1f}" if sink.get("fps") else "–",
            _output(status, sink), Text(str(sink["restarts"]), "yellow" if sink["restarts"] else "dim"),
        )  # fmt: skip
    return rows


def _output(status: dict[str, Any], sink: dict[str, Any]) -> str:
    """What a sink has made: its last segment and that one's age, else how much went out."""
    if segment := sink.get("last_segment"):
        # Its name begins with the session's, which the title has.
        segment = segment.removeprefix(f"{status.get('session')}-")
        age = f", {sink['last_segment_age']:.1f} s ago" if sink["state"] == "running" else ""
        return f"{segment}{age}"
    return size(sink["sent_bytes"]) if sink["sent_bytes"] else ""


def _notes(name: str, health: dict[str, Any]) -> list[Text]:
    """What went wrong with the encoder or a sink, in a line below it; none if nothing did."""
    dropped = health.get("dropped_frames")
    notes = [f"{dropped} frames dropped"] if dropped else []
    notes += [f"last error: {health['last_error']}"] if health["last_error"] else []
    if not notes:
        return []
    style = "red" if health["state"] in ("failed", "backing_off") else "yellow"
    return [Text(" " * _LABEL + f"{name}: {'; '.join(notes)}", style)]


def _sink_counts(sinks: list[dict[str, Any]]) -> Text:
    states = [sink["state"] for sink in sinks]
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    return Text(", ").join(
        Text(f"{count} {state.replace('_', ' ')}", _STYLES.get(state, "dim"))
        for state, count in counts.items()
    )


def state_text(state: str) -> Text:
    """A state of a stream, session or sink, in its colour."""
    return Text(f"● {state.replace('_', ' ')}", _STYLES.get(state, "dim"))


def _table_state(status: dict[str, Any]) -> Text:
    """A stream's in a table: that it is disabled matters more than that nothing comes."""
    if status.get("enabled", True) or status["state"] not in ("idle", "ended", "failed"):
        return state_text(status["state"])
    return state_text("disabled")


def _since(status: dict[str, Any], now: datetime) -> str:
    """How long it has been so; empty for what has not begun."""
    if not status["since"]:
        return ""
    return clock((now - datetime.fromisoformat(status["since"])).total_seconds())


def _lasting(status: dict[str, Any], now: datetime) -> str:
    """How long a stream has been what it is; of one that is over, how long it ran and when that was."""
    since = _since(status, now)
    if status["state"] not in ("ended", "failed"):
        return since
    ran = f"after {_since({'since': status['started']}, datetime.fromisoformat(status['since']))}"
    return ran if since == clock(0) else f"{ran}, {since} ago"


def labelled(label: str, text: Text) -> Text:
    """A line of a view: what it is about, then *text*."""
    return Text.assemble((label.ljust(_LABEL), "cyan"), text)


def table(*columns: str) -> Table:
    """An empty table in the style of all of them."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="cyan")
    for column in columns:
        made.add_column(column, no_wrap=True, overflow="ellipsis")
    return made
