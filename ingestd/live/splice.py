"""The splicer: recorders and encoder lives, one after the other, on one timeline.

Each life's frames get one offset and one floor, found when the life begins and kept, so that a
replay from the journal gives the very frames that went out live.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

from attrs import define, evolve, field

from ingestd.media.frames import NS_PER_MS, Frame

#: What a life's last frame is taken to last when only one was seen: one frame at 30 fps.
_DEFAULT_FRAME = 33 * NS_PER_MS


@define(eq=False)
class Splice:
    """How one life goes onto the timeline: *offset* is added; what is then at or below *floor* is dropped."""

    offset: int = 0
    floor: dict[int, int] = field(factory=dict)

    def apply(self, frame: Frame) -> Frame | None:
        timestamp = frame.timestamp + self.offset
        floor = self.floor.get(frame.track)
        if timestamp < 0 or (floor is not None and timestamp <= floor):
            return None
        return evolve(frame, timestamp=timestamp) if self.offset else frame


class Splicing(Protocol):
    """What places lives on a timeline: the `Splicer`, or in a replay what it decided before.

    With *fresh_starts* each life goes on at its first random access point; else a life with the
    configuration of the one before goes on with any frame.
    """

    @property
    def fresh_starts(self) -> bool: ...
    def begin(self, first: Frame, offset: int | None = None) -> Splice: ...
    def passed(self, frame: Frame) -> None: ...


@define(eq=False)
class Splicer:
    """Keeps the end of the timeline and places each new life on it.

    With ``times = "recorder"`` a life has its own clock, which starts anywhere: its first random
    access point follows the last frame of the life before, or is the timeline's zero. With
    ``times = "timeline"`` (encoders run with ``-copyts``) the frames are in place already, and only
    what overlaps is dropped. No recorder's life begins before *not_before* (ns): until then the program
    showed something else.
    """

    times: Literal["recorder", "timeline"]
    not_before: int = 0
    _last: dict[int, int] = field(factory=dict)
    _step: int = _DEFAULT_FRAME

    @property
    def fresh_starts(self) -> bool:
        return self.times == "recorder"

    def begin(self, first: Frame, offset: int | None = None) -> Splice:
        """The splice of a life whose first frame to be seen is *first*; its *offset*, if that is known."""
        floor = dict(self._last)
        if self.times == "timeline":
            return Splice(floor=floor)
        if offset is None:
            follows = max(floor.values()) + self._step if floor else 0
            offset = max(follows, self.not_before) - first.timestamp
        return Splice(offset, floor)

    def passed(self, frame: Frame) -> None:
        """Take note of a frame that went onto the timeline."""
        last = self._last.get(frame.track)
        if last is not None and 0 < frame.timestamp - last < 10 * _DEFAULT_FRAME:
            self._step = frame.timestamp - last
        self._last[frame.track] = max(frame.timestamp, last or 0)

    def unstructure(self) -> dict[str, Any]:
        """Where the timeline ends, for `structure`."""
        return {"last": {str(track): at for track, at in self._last.items()}, "step": self._step}

    def structure(self, saved: dict[str, Any]) -> None:
        """Go on where the timeline ended."""
        self._last = {int(track): at for track, at in saved["last"].items()}
        self._step = saved["step"]
