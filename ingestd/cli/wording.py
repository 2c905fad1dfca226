"""Times, rates, sizes and endings in the words of the terminal."""

from __future__ import annotations

from urllib.parse import urlsplit

#: Close codes of ``docs/publishing.md``, and what to do about them.
_HINTS = {
    1000: "the session ended on the daemon's side",
    1001: "the daemon is stopping; publish again once it is back",
    1002: "a defect, here or in the daemon; its log says more",
    1003: "the daemon takes binary messages only",
    1006: "the connection broke; is the daemon still there? Its log says more",
    1009: "a message was longer than [ingest] max_message",
    1011: "a defect in the daemon; its log says more",
    1013: "the daemon does not know all streams yet; try again",
    4400: "a defect of this client; please report it",
    4401: "no stream has this key; the keys are in [streams.NAME] of the daemon's ingestd.toml",
    4403: "the session is gone, or somebody else has it; publish again to begin another",
    4404: "the session is over; publish again to begin another",
    4408: "the media stopped; see [ingest] idle_timeout",
    4409: "somebody publishes this stream already; end that one first",
    4410: "the network between here and the daemon fails",
    4412: "somebody publishes this stream from elsewhere, and was given it",
    4415: "send WebM, Matroska or fragmented MP4, as a MediaRecorder makes it",
    4423: "the stream is disabled",
    4429: "see [ingest] max_streams",
    4500: "the stream failed on the daemon; see its log",
}


def ending(code: int, reason: str) -> str:
    """Why a publication ended before all was taken: close code, the server's reason and what to do."""
    said = f": {reason}" if reason else ""
    hint = _HINTS.get(code)
    return f"closed with {code}{said}" + (f" ({hint})" if hint else "")


def counted(count: int, noun: str) -> str:
    """``1 chunk``, ``2 chunks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def clock(seconds: float) -> str:
    """``0:07``, ``12:05``, ``1:02:05``."""
    whole = max(0, int(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def rate(bits: float | None) -> str:
    """``412 kbit/s``, ``2.5 Mbit/s``; ``–`` when it is not known."""
    if bits is None:
        return "–"
    return f"{bits / 1e6:.1f} Mbit/s" if bits >= 999_500 else f"{bits / 1e3:.0f} kbit/s"


def size(count: float) -> str:
    """``812 B``, ``1.2 MB``: powers of ten, as disks and networks count."""
    if count < 1000:
        return f"{count:.0f} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def without_key(url: str) -> str:
    """A publishing *url* as it may be shown: no user, no query, ``***`` for the key."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    path = parts.path.rpartition("/")[0]
    return f"{parts.scheme}://{host}{path}/***"
