"""Follows the playlist that a writer writes: how far it has got, and whether it still moves."""

from __future__ import annotations

from pathlib import Path

import trio
from attrs import define, field

from ingestd.media.frames import NS_PER_S
from ingestd.media.playlist import MediaPlaylist, Segment, parse_media_playlist

_POLL = 0.25


@define(eq=False)
class PlaylistFollower:
    """The end of the playlist at *path* on the program's timeline.

    FFmpeg's EXTINF values are the distances between the keyframes that it cut at, so their sum
    since an attempt began, added to that attempt's first timestamp, is where the next must begin.
    Only segments named *stem*… are this session's: a playlist may still be an older one's.
    """

    path: Path
    stem: str
    stale_after: float
    listed: MediaPlaylist = field(factory=MediaPlaylist)
    last: Segment | None = None
    changed_at: float = field(factory=trio.current_time)
    _base: int | None = None
    _counted: int = -1
    _seconds: float = 0.0
    _stamp: tuple[int, int] | None = None

    async def begin(self, first: int) -> None:
        """An attempt begins with the frame at *first* (ns); what it lists counts from here."""
        await self.refresh()
        self._base = first
        self._seconds = 0.0
        self.changed_at = trio.current_time()

    async def refresh(self) -> None:
        """Read the playlist again if it has changed."""
        stamp = await trio.to_thread.run_sync(_stamp, self.path)
        if stamp is not None and stamp != self._stamp:
            playlist = await self._load()
            self._stamp = stamp
            self.listed = playlist
            own = [segment for segment in playlist.segments if segment.uri.startswith(self.stem)]
            if own and own[-1] != self.last:
                # Another segment, not just another file: on a full disk FFmpeg empties it without a word.
                self.changed_at = trio.current_time()
            self.last = own[-1] if own else None
            for segment in own:
                if segment.sequence > self._counted:
                    # One that catches up lists and removes some between two looks: taken as long as this.
                    self._seconds += segment.duration * (segment.sequence - self._counted)
                    self._counted = segment.sequence

    async def follow(self) -> None:
        """`refresh` a few times a second, until cancelled."""
        while True:
            await self.refresh()
            await trio.sleep(_POLL)

    @property
    def next_number(self) -> int:
        """The number of the first segment that this session has not listed yet."""
        return self._counted + 1

    def end(self) -> int | None:
        """Where the listed segments end, in ns on the timeline; None before the first attempt."""
        if self._base is None:
            return None
        return self._base + round(self._seconds * NS_PER_S)

    def stale(self) -> str | None:
        """A cause, when the playlist has not moved for too long."""
        idle = trio.current_time() - self.changed_at
        return f"stalled: the playlist has not changed for {idle:.0f} s" if idle > self.stale_after else None

    async def _load(self) -> MediaPlaylist:
        try:
            text = await trio.to_thread.run_sync(self.path.read_text, "utf-8", "replace")
        except FileNotFoundError:
            return MediaPlaylist()
        return parse_media_playlist(text)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size
