"""What happens of which others can be told."""

from __future__ import annotations

#: What an endpoint can be told; see `ingestd.events` and ``docs/webhooks.md``.
WEBHOOK_TYPES = (
    "stream.live",
    "stream.interrupted",
    "stream.resumed",
    "stream.ended",
    "stream.failed",
    "sink.failed",
    "sink.recovered",
    "recording.ready",
)


def chosen(events: tuple[str, ...]) -> frozenset[str]:
    """The types that *events* mean: types, and their first parts."""
    return frozenset(kind for kind in WEBHOOK_TYPES if kind in events or kind.partition(".")[0] in events)
