"""Follows the playlist that a writer writes: how far it has got, whether it moves, what must go again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio
from attrs import define, field

from ingestd.errors import AttemptFailed
from ingestd.live.fed import NEAR, Cut, Fed, fed_from
from ingestd.live.hub import Hub
from ingestd.live.listing import Listing, begins, damage, load, room, write_back
from ingestd.live.notes import Notes
from ingestd.live.sweep import cuts_in, discard, is_unfinished
from ingestd.media.frames import NS_PER_S
from ingestd.media.playlist import MediaPlaylist, Segment, cut_back, end_list, parse_media_playlist

log = structlog.get_logger(__name__)

_POLL = 0.25
_SPARE = 2**16  # bytes to be free beside those for segments


@define(eq=False)
class PlaylistFollower:
    """The end of the playlist at *path* on the program's timeline.

    FFmpeg's EXTINF values are the distances between the keyframes that it cut at, so their sum
    since an attempt began, added to that attempt's first timestamp, is where the next must begin.
    Only segments named *stem*… are this session's: a playlist may still be an older one's.

    Where it is told what was `Fed`, it takes each segment to the very keyframe, and checks it. One
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
    #: Where what counts ends, and the next attempt must begin, if that is known to the frame.
    reached: Cut | None = None
    #: What follows may be asked for again: by a later daemon, or because the last segment does not count.
    held: Cut | None = None
    _number: int = -1
    _end: int | None = None
    _text: str = ""
    _before: tuple[int, int, Cut | None] | None = None
    _fed: Fed | None = None
    _found: Listing | None = None
    _found_when_fed: Listing | None = None
    _largest: int = 0
    _full: bool = False
    _lock: trio.Lock = field(factory=trio.Lock)

    async def begin(self, first: int, fed: Fed | None = None) -> None:
        """An attempt begins with the frame at *first* (ns); what it lists counts from here."""
        async with self._lock:
            await self._look()
            self._end, self._fed, self._before = first, fed, None
            self.reached = fed.first if fed is not None else None
            self.held = self.held or self.reached
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
            # What it has listed since it was told of the end is, at last, the final segment.
            if self._found is not self._found_when_fed:
                await self._count(final=True)
            if self.broken is not None:
                raise AttemptFailed(self.broken)
            if self._fed is not None and self.reached != self._fed.end():
                raise AttemptFailed("the playlist was not written to its end")

    async def doubt(self) -> None:
        """FFmpeg has ended by itself, and too early: what it listed last may end anywhere."""
        async with self._lock:
            await self._look()
            if self._fed is None:
                return
            self._fed.ended = True
            own = self._own(self.listed)
            if self._before is not None and own and own[-1].sequence == self._number:
                self._number, self._end, self.reached = self._before

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

    async def resume(self, program: Hub, *, checked: bool) -> None:
        """Go on with what an earlier daemon's writer of this session has left; what it noted counts.

        And, if it was *checked*, so does what FFmpeg listed before it could be noted. The last segment may
        end anywhere, because FFmpeg lists what it has when its daemon dies: it is written anew.

        Without a note that fits, all but the last segment counts, from where it says that it begins, or
        the one before it. If none does, the newest of *program* is next.
        """
        async with self._lock:
            note = await trio.to_thread.run_sync(self.notes.load) if self.notes is not None else None
            await self._look()
            own = self._own(self.listed)
            if note is not None and _is_sound(note) and (not own or own[0].sequence <= note["number"] + 1):
                self._number, self._end, self.cuts = note["number"], note["end"], note["cuts"]
                if not own or own[-1].sequence < self._number:
                    self._text = note["playlist"]
                    self._found = self._found if self._found and self._found.text == self._text else None
                elif checked and self._end is not None:
                    await self._catch_up(program, self._end)
            elif own:
                log.warning("playlist_without_notes", path=str(self.path), segments=len(own))
                newest = program.newest_mark()
                now = newest.timestamp if newest is not None else 0
                self._number, self._end = own[-1].sequence - 1, now
                for segment in reversed(own):
                    if (begin := await self._begins(segment, now)) is not None:
                        self._number, self._end = segment.sequence - 1, begin
                        break
            self.cuts = max(self.cuts, cuts_in(self.listed, self.stem))
            # One that was ended by `close` may be complete.
            if not self.listed.ended or (own and own[-1].sequence > self._number):
                await self._settle(cut_back(self._text, self._number))

    async def _catch_up(self, program: Hub, end: int) -> None:
        """Count what was listed after the last note, which tells of the segments up to *end* (ns)."""
        self._fed = await fed_from(program, end)
        if self._fed is None:
            return
        # FFmpeg opens a segment when it has cut the one before it, and closes it when its input ends.
        unfinished = await trio.to_thread.run_sync(is_unfinished, self.path.parent, self.stem)
        self._fed.ended = not unfinished
        await self._count(final=False, exact=True)
        self._fed = None

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

    async def lacks_room(self) -> bool:
        """True if the disk was full, and has not yet room again for two segments as they have been."""
        if self._full:
            free = await trio.to_thread.run_sync(room, self.path.parent)
            self._full = free < 2 * self._largest + _SPARE
        return self._full

    def _own(self, playlist: MediaPlaylist) -> list[Segment]:
        return [segment for segment in playlist.segments if segment.uri.startswith(self.stem)]

    async def _look(self) -> None:
        seen = self._found.stamp if self._found else None
        found = await trio.to_thread.run_sync(load, self.path, seen)
        if found is not None:
            self._take(found)
            await self._count(final=False)

    def _take(self, found: Listing) -> None:
        """Keep what was *found*, if it can be: on a full disk FFmpeg empties the playlist without a word."""
        self._found = found
        own = self._own(found.playlist)
        if not found.whole:
            self._break("the disk cut short the playlist")
        elif (own[-1].sequence if own else -1) < self._number:
            self._break("the playlist has lost segments")
        else:
            self.listed = found.playlist
            if own:
                self._text = found.text
                if own[-1] != self.last:
                    # Another segment, not just another file.
                    self.changed_at = trio.current_time()
                self.last = own[-1]

    def _break(self, cause: str) -> None:
        if self._fed is not None:
            self.broken = self.broken or cause
            self._full = True

    async def _count(self, *, final: bool, exact: bool = False) -> None:
        """Count the segments that are new, as far as they are sound; *exact*: and each ends at a cut."""
        if self._end is None or self.broken is not None:
            return
        before = self._number
        new = [segment for segment in self._own(self.listed) if segment.sequence > before]
        for segment in new:
            last = segment is new[-1]
            if last and self._fed is not None and self._fed.ended and not final:
                break  # It may be the final one, which ends anywhere.
            ends_at_cut = exact or (last and not final)
            if not await self._count_one(segment, self._end, exact=ends_at_cut, final=last and final):
                break
        if self._number > before:
            await self._note()

    async def _count_one(self, segment: Segment, begin: int, *, exact: bool, final: bool) -> bool:
        # One that catches up lists and removes some between two looks: taken as long as this.
        unseen = segment.sequence - self._number - 1
        duration = round(segment.duration * NS_PER_S)
        start, cut = begin + duration * unseen, None
        if self._fed is not None:
            if unseen:
                start = await self._begins(segment, start) or start
            first = self._fed.nearest(start)
            cut = self._fed.end() if final else self._fed.nearest(first.timestamp + duration)
            if exact and abs(cut.timestamp - first.timestamp - duration) > NEAR:
                return False  # All but this end at keyframes: FFmpeg was ended in the middle of it.
            payload = cut.payload - first.payload
            self._largest = max(self._largest, payload)
            if (cause := await self._damage(segment, payload)) is not None:
                if not await self._is_listed(segment):
                    return True  # While FFmpeg catches up: the next one says where it begins.
                self._break(cause)
                return False
            self._fed.forget_before(cut)
        self._before = self._number, begin, self.reached
        self._number, self.reached = segment.sequence, cut
        self._end = cut.timestamp if cut is not None else start + duration
        return True

    async def _begins(self, segment: Segment, near: int) -> int | None:
        """Where *segment* itself says that it begins."""
        folder, init = self.path.parent, self.listed.init
        return await trio.to_thread.run_sync(begins, folder, init, segment.uri, near)

    async def _damage(self, segment: Segment, payload: int) -> str | None:
        """What is wrong with *segment*, or with the init segment that it needs."""
        for name, least in ((self.listed.init, 1), (segment.uri, payload)):
            if name is None:
                continue
            cause = await trio.to_thread.run_sync(damage, self.path.parent / name, least)
            if cause is not None:
                return cause
        return None

    async def _is_listed(self, segment: Segment) -> bool:
        """Whether *segment* is listed even now."""
        now = await trio.to_thread.run_sync(load, self.path, None)
        return now is None or any(each.uri == segment.uri for each in now.playlist.segments)

    async def _settle(self, text: str) -> None:
        """Make *text*, of which nothing more is to be cut off, the playlist."""
        if self.broken is None and (not self._text or text == (self._found.text if self._found else "")):
            return
        own, found = self._own(self.listed), self._found
        # Of a playlist that was cut short nobody knows what it has listed meanwhile.
        known = self.broken is None and found is not None and found.whole
        cut_off = not known or (bool(own) and own[-1].sequence > self._number)
        forget = partial(discard, self.path.parent, self.stem, self.next_number)
        try:
            written = await trio.to_thread.run_sync(write_back, self.path, text, forget)
        except OSError as error:
            self._full = True
            raise AttemptFailed(f"the playlist cannot be written: {error.strerror}") from error
        self._found = written or self._found
        self._text, self.listed = text, parse_media_playlist(text)
        self.last = self.listed.last
        self.broken = None
        self.cuts += cut_off
        # In a window numbers cannot go back: what has left it since takes its own along.
        self._number = max(self._number, self.listed.following - 1)
        await self._note()

    async def _note(self) -> None:
        if (notes := self.notes) is not None:
            note = {"number": self._number, "end": self._end, "cuts": self.cuts, "playlist": self._text}
            try:
                await trio.to_thread.run_sync(notes.save, note)
            except OSError as error:
                # An older one does, too: then a later daemon has more to write anew.
                log.warning("notes_not_saved", path=str(notes.path), cause=error.strerror)
                return
        if self._before is not None:
            self.held = self._before[2]


def _is_sound(note: dict[str, Any]) -> bool:
    numbers = all(isinstance(note.get(key), int) for key in ("number", "end", "cuts"))
    return numbers and isinstance(note.get("playlist"), str)
