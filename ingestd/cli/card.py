"""The test card as a live source that answers pressure: it is drawn anew with a lower bit rate."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing

import trio
from attrs import define

from ingestd.testcard import test_card_chunks

_USUAL = 160_000  # all that the card's picture needs
_LOWEST = 4
_CALM = 60.0
_AT_MOST_EVERY = 10.0


@define
class BitRate:
    """What the card's picture is to be drawn with (*wanted*, bits per second), and is (*drawn*).

    Under pressure half of it, down to a quarter; after a minute without, twice as much, up to what it was.
    """

    usual: int = _USUAL
    wanted: int = _USUAL
    drawn: int = _USUAL
    _changed_at: float = -math.inf
    _pressed_at: float = -math.inf
    _pressed: bool = False

    def press(self, now: float, *, active: bool) -> None:
        """Whether there is pressure at *now* (s)."""
        self._pressed = active
        self._pressed_at = now if active else self._pressed_at
        self.settle(now)

    def settle(self, now: float) -> None:
        """Decide on *wanted*."""
        if self.wanted != self.drawn or now - self._changed_at < _AT_MOST_EVERY:
            return
        if self._pressed:
            self._want(max(self.wanted // 2, self.usual // _LOWEST), now)
        elif now - max(self._pressed_at, self._changed_at) >= _CALM:
            self._want(min(self.wanted * 2, self.usual), now)

    def _want(self, wanted: int, now: float) -> None:
        if wanted != self.wanted:
            self.wanted, self._changed_at = wanted, now


async def card(
    ffmpeg: str, seconds: float | None, rate: BitRate
) -> AsyncGenerator[tuple[float, bytes], None]:
    """Yield (seconds since the first chunk, chunk), until *seconds* of media have passed.

    When *rate* wants another bit rate, the recorder ends and another begins: a container of its own, as of
    a page that makes a new MediaRecorder.
    """
    start: float | None = None

    def enough() -> bool:
        rate.settle(trio.current_time())
        return rate.wanted != rate.drawn

    while True:
        rate.drawn = rate.wanted
        passed = 0.0 if start is None else trio.current_time() - start
        left = None if seconds is None else seconds - passed
        if left is not None and left <= 0:
            return
        drawn = test_card_chunks(ffmpeg, seconds=left, bitrate=rate.drawn, enough=enough)
        async with aclosing(drawn) as chunks:
            async for chunk in chunks:
                start = trio.current_time() if start is None else start
                yield trio.current_time() - start, chunk
        if rate.wanted == rate.drawn:
            return  # all of *seconds*
