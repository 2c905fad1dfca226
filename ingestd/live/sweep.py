"""Removes HLS segments that no playlist lists any more: an older session's, and those a dead writer forgot.

FFmpeg deletes what leaves its playlist, but of an earlier process it knows only what was still listed.
"""

from __future__ import annotations

import re
from pathlib import Path

from ingestd.media.playlist import MediaPlaylist

_SEGMENT = re.compile(r"(?P<stem>.+)-(?P<number>\d{6,})\.(ts|m4s)")
_INIT = re.compile(r"(?P<stem>.+)-init\.mp4")


def sweep(directory: Path, stem: str, playlist: MediaPlaylist, keep: int | None) -> list[str]:
    """Delete from *directory* what is not of session *stem*, or *keep* segments behind the window; blocking.

    With *keep* None (an event playlist) all of the session's segments stay. Does nothing before the
    playlist lists the session's own: until then viewers still see the older one. Returns the names.
    """
    own = [s for s in playlist.segments if s.uri.startswith(stem)]
    if not own:
        return []
    first = _SEGMENT.fullmatch(own[0].uri)
    oldest = int(first["number"]) - keep if first and keep is not None else 0
    removed = []
    for path in directory.iterdir():
        match = _SEGMENT.fullmatch(path.name) or _INIT.fullmatch(path.name)
        if match is None:
            continue
        number = match.groupdict().get("number")
        if match["stem"] != stem or (number is not None and int(number) < oldest):
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed
