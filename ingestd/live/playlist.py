"""Follows the playlist that a writer writes: how far it has got, whether it moves, and what must go again."""

from __future__ import annotations

from pathlib import Path

import structlog
import trio
from attrs import define, field

from ingestd.errors import AttemptFailed
from ingestd.live.fed import NEAR, Cut, Fed
from ingestd.live.hub import Hub
from ingestd.live.listing import Listing, damage, load, replace
from ingestd.live.notes import Notes
from ingestd.live.sweep import discard
from ingestd.media.frames import NS_PER_S
from ingestd.media.playlist import MediaPlaylist, Segment, cut_back, end_list, parse_media_playlist

log = structlog.get_logger(__name__)

_POLL = 0.25


@define(eq=False)
class PlaylistFollower:
    """The end of the playlist at *path* on the program's timeline.

    FFmpeg's EXTINF values are the distances between the keyframes that it cut at, so their sum
    since an attempt began, added to that attempt's first timestamp, is where the next must begin.
    Only segments named *stem*… are this session's: a playlist may still be an older one's.

    With what was `Fed` each segment is taken to the very keyframe, and checked before it counts. One
    that is damaged, or does not end at a keyframe, does not count: `settle` cuts the playlist back to
    what does. *notes* keep that for a later daemon.
    """

    path: Path
    stem: str
    stale_after: float
    notes: Notes | None = None
    listed: MediaPlaylist = field(factory=MediaPlaylist)
    last: Segment | None = None
    changed_at: float = field(factory=trio.current_time)
    #: What is wrong with what is listed, until `settle` has mended it.
    broken: str | None = None
    #: How often segments that had been listed were cut off.
    cuts: int = 0
    #: Where the next attempt must begin, where that is known to the frame.
    cut: Cut | None = None
    _number: int = -1
    _end: int | None = None
    _text: str = ""
    _found: Listing | None = None
    _found_when_fed: Listing | None = None
    _fed: Fed | None = None
    _lock: trio.Lock = field(factory=trio.Lock)

    async def begin(self, first: int, fed: Fed | None = None) -> None:
        """An attempt begins with the frame at *first* (ns); what it lists counts from here."""
        async with self._lock:
            await self._look()
            self._end = first
            self._fed = fed
            self.cut = fed.first if fed is not None else None
            self.changed_at = trio.current_time()

    async def refresh(self) -> None:
        """Read the playlist again if it has changed."""
        async with self._lock:
            await self._look()

    async def follow(self) -> None:
        """`refresh` a few times a second, until cancelled."""
        while True:
            await self.refresh()
            await trio.sleep(_POLL)

    async def all_fed(self) -> None:
        """All input has been written, and its end is still to be told to FFmpeg."""
        async with self._lock:
            await self._look()
            self._found_when_fed = self._found
            if self._fed is not None:
                self._fed.ended = True

    async def finish(self) -> None:
        """FFmpeg has come to a regular end. Raises `AttemptFailed` unless all that it was fed is listed."""
        async with self._lock:
            await self._look()
            # Its last segment is the final one if it has been written since.
            if self._found is not self._found_when_fed and self._end is not None and self.broken is None:
                await self._count(final=True)
            if self.broken is not None:
                raise AttemptFailed(self.broken)
            if self._fed is not None and self.cut != self._fed.end():
                raise AttemptFailed("the playlist was not written to its end")

    async def settle(self) -> None:
        """Make the playlist list what counts and no more, for the next attempt to go on with.

        What is cut off is deleted. Not while FFmpeg writes. Raises `AttemptFailed` if the disk does not
        take it: then there is still something to settle.
        """
        async with self._lock:
            await self._look()
            await self._settle(cut_back(self._text, self._number))

    async def close(self) -> None:
        """`settle`, and end the playlist: the program has ended, and all of it is listed."""
        async with self._lock:
            await self._look()
            if self._number >= 0:
                await self._settle(end_list(cut_back(self._text, self._number)))

    async def resume(self, program: Hub) -> None:
        """Go on with what an earlier daemon's writer of this session has left, as far as it was noted.

        Without a note that fits, all but the last segment counts, which may end anywhere. In a playlist
        with all segments their sum tells where they end; a window goes on with the newest of *program*.
        """
        async with self._lock:
            note = (await trio.to_thread.run_sync(self.notes.load) if self.notes else None) or {}
            await self._look()
            own = self._own()
            number, end, cuts, text = (note.get(key) for key in ("number", "end", "cuts", "playlist"))
            if (
                isinstance(number, int)
                and isinstance(end, int)
                and isinstance(cuts, int)
                and isinstance(text, str)
                and (not own or own[0].sequence <= number + 1)
            ):
                self._number, self._end, self.cuts = number, end, cuts
                self._text = self._text or text
            elif own:
                log.warning("playlist_without_notes", path=str(self.path), segments=len(own))
                *whole, last = own
                seconds = sum(segment.duration for segment in whole)
                mark = (
                    program.newest_mark() if own[0].sequence else program.mark_near(round(seconds * NS_PER_S))
                )
                self._number, self._end = last.sequence - 1, mark.timestamp if mark else 0
                self.cuts = last.sequence  # more than there can have been
            if not self.listed.ended or (own and own[-1].sequence > self._number):
                await self._settle(cut_back(self._text, self._number))

    @property
    def next_number(self) -> int:
        """The number of the first segment that this session has not listed yet."""
        return self._number + 1

    def end(self) -> int | None:
        """Where the listed segments end, in ns on the timeline; None before the first attempt."""
        return self._end

    def stale(self) -> str | None:
        """A cause, when the playlist has not moved for too long."""
        idle = trio.current_time() - self.changed_at
        return f"stalled: the playlist has not changed for {idle:.0f} s" if idle > self.stale_after else None

    def _own(self) -> list[Segment]:
        return [segment for segment in self.listed.segments if segment.uri.startswith(self.stem)]

    async def _look(self) -> None:
        seen = self._found.stamp if self._found else None
        found = await trio.to_thread.run_sync(load, self.path, seen)
        if found is not None:
            self._take(found)
        if self._end is not None and self.broken is None:
            await self._count(final=False)

    def _take(self, found: Listing) -> None:
        """Keep what was *found*, if it can be: on a full disk FFmpeg empties the playlist without a word."""
        self._found = found
        own = [segment for segment in found.playlist.segments if segment.uri.startswith(self.stem)]
        if not found.whole or (own[-1].sequence if own else -1) < self._number:
            if self._fed is not None:
                self.broken = "the disk cut short the playlist"
            return
        self.listed = found.playlist
        if own:
            self._text = found.text
            if own[-1] != self.last:
                # Another segment, not just another file.
                self.changed_at = trio.current_time()
            self.last = own[-1]

    async def _count(self, *, final: bool) -> None:
        """Count the segments that are new, as far as they are sound."""
        before = self._number
        new = [segment for segment in self._own() if segment.sequence > self._number]
        for segment in new:
            last = segment is new[-1]
            if last and self._fed is not None and self._fed.ended and not final:
                break  # It may be FFmpeg's final one, or be followed by that.
            if not await self._count_one(segment, last=last, final=last and final):
                break
        if self._number > before:
            await self._note()

    async def _count_one(self, segment: Segment, *, last: bool, final: bool) -> bool:
        assert self._end is not None  # noqa: S101  asked before
        # One that catches up lists and removes some between two looks: taken as long as this.
        unseen = segment.sequence - self._number - 1
        duration = round(segment.duration * NS_PER_S)
        end = self._end + duration * (unseen + 1)
        cut = None
        if self._fed is not None:
            cut = self._fed.end() if final else self._fed.nearest(end)
            if last and not final and abs(cut.timestamp - end) > NEAR:
                return False  # Every other one ends at a keyframe: FFmpeg was ended in the middle of this.
            begin = self._fed.nearest(end - duration)
            self.broken = await self._damage(segment, cut.payload - begin.payload)
            if self.broken is not None:
                return False
            self._fed.forget_before(cut)
            end = cut.timestamp
        self._number, self._end, self.cut = segment.sequence, end, cut
        return True

    async def _damage(self, segment: Segment, payload: int) -> str | None:
        """What is wrong with *segment*, or with the init segment that it needs."""
        folder = self.path.parent
        for name, least in ((self.listed.init, 1), (segment.uri, payload)):
            if name is None:
                continue
            cause = await trio.to_thread.run_sync(damage, folder / name, least)
            if cause is not None:
                now = await trio.to_thread.run_sync(load, self.path, None)
                listed = now is None or any(each.uri == segment.uri for each in now.playlist.segments)
                # A writer that catches up may have deleted it again.
                return cause if listed else None
        return None

    async def _settle(self, text: str) -> None:
        """Make *text*, of which nothing is to be added or cut off any more, the playlist."""
        found = self._found.text if self._found else ""
        own = self._own()
        if self.broken is None and (text == found or not self._text):
            return
        cut_off = self.broken is not None or (own and own[-1].sequence > self._number)
        try:
            # In this order, because it may be the room that they take that is missing.
            await trio.to_thread.run_sync(discard, self.path.parent, self.stem, self.next_number)
            if self._text:
                self._found = await trio.to_thread.run_sync(replace, self.path, text)
        except OSError as error:
            raise AttemptFailed(f"the playlist cannot be written: {error.strerror}") from error
        self._text = text
        self.listed = parse_media_playlist(text)
        self.cuts += bool(cut_off)
        self.last = self.listed.last
        self.broken = None
        self.changed_at = trio.current_time()
        await self._note()

    async def _note(self) -> None:
        if self.notes is None:
            return
        note = {"number": self._number, "end": self._end, "cuts": self.cuts, "playlist": self._text}
        try:
            await trio.to_thread.run_sync(self.notes.save, note)
        except OSError as error:
            # An older one does, too: then a later daemon has more to write anew.
            log.warning("notes_not_saved", path=str(self.notes.path), cause=error.strerror)
