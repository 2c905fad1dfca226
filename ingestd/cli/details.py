"""What a stream is, beside what it does: title, labels, targets, where it plays."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.text import Text

from ingestd.cli.view import labelled


def stream_details(status: dict[str, Any]) -> Group:
    """A line for each thing that there is; long ones are for a console that wraps softly."""
    lines = []
    if title := status.get("title"):
        lines.append(labelled("title", Text(title)))
    if labels := status.get("labels"):
        lines.append(labelled("labels", Text(" ".join(f"{key}={value}" for key, value in labels.items()))))
    for target in status.get("targets", []):
        where = target["url"] or "where its pipeline says"
        lines.append(labelled("target", Text(f"{target['sink']} → {where} (key sealed)")))
    for playback in status.get("playback", []):
        where = playback["url"] or playback["id"]
        note = "" if playback["policy"] == "public" else " (needs a signed link)"
        lines.append(labelled("plays at", Text(f"{where}{note}")))
    if mux := status.get("mux"):
        window = f"reconnect window {mux['reconnect_window']:g} s"
        lines.append(labelled("at Mux", Text(f"{mux['stream_id']}, latency {mux['latency_mode']}, {window}")))
    if created := status.get("created"):
        where = "ingestd.toml" if status["declared"] else "the API"
        lines.append(labelled("made", Text(f"{created}, by {where}", "dim")))
    return Group(*lines)
