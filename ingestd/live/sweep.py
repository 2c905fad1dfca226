"""Removes HLS segments that no playlist lists any more: an older session's, and those a dead writer forgot.

FFmpeg deletes what leaves its playlist, but of an earlier process it knows only what was still listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ingestd.media.playlist import MediaPlaylist

_SEGMENT = re.compile(r"(?P<stem>.+)-(?P<number>\d{6,})\.(ts|m4s)(\.tmp)?")
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
    for path, match in _media(directory):
        number = match.groupdict().get("number")
        if not _of(match, stem) or (number is not None and int(number) < oldest):
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def discard(directory: Path, stem: str, number: int) -> None:
    """Delete the segments of session *stem* from *number* on, unfinished ones, too; blocking.

    To be called while nobody writes there: they are not listed, and will be written again.
    """
    for path, match in _media(directory):
        if match.groupdict().get("number") and _of(match, stem) and int(match["number"]) >= number:
            path.unlink(missing_ok=True)


def is_unfinished(directory: Path, stem: str) -> bool:
    """Whether session *stem* has a segment in *directory* that is still to be finished; blocking."""
    return any(path.suffix == ".tmp" and _of(match, stem) for path, match in _media(directory))


def cuts_in(playlist: MediaPlaylist, stem: str) -> int:
    """How many cuts the names of session *stem*'s segments in *playlist* tell of; see `Place.cuts`."""
    stems = [match["stem"] for segment in playlist.segments if (match := _SEGMENT.fullmatch(segment.uri))]
    numbers = [each.removeprefix(f"{stem}-") for each in stems if each != stem]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _media(directory: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    for path in directory.iterdir():
        match = _SEGMENT.fullmatch(path.name) or _INIT.fullmatch(path.name)
        if match is not None:
            yield path, match


def _of(match: re.Match[str], stem: str) -> bool:
    """Whether a file is of session *stem*: names written anew have a number behind it."""
    return match["stem"] == stem or match["stem"].startswith(f"{stem}-")
