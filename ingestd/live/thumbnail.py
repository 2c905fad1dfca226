"""Thumbnails: the newest keyframe of a stream as a JPEG, made by FFmpeg, not more often than need be."""

from __future__ import annotations

import subprocess
from collections import OrderedDict

import trio
from attrs import define, field, frozen

from ingestd.errors import IngestdError
from ingestd.live.hub import Hub
from ingestd.live.orphans import environment
from ingestd.media.ffmpeg import thumbnail_args
from ingestd.media.webm_mux import Muxer

MAX_AGE = 5.0
"""Seconds for which a picture is shown again."""

_DEADLINE = 10.0
_AT_ONCE = 2
_KEPT = 64


class NoPicture(IngestdError):
    """There is no keyframe to show."""


class PictureFailed(IngestdError):
    """FFmpeg made no picture of it, or not in time: try again later."""


@frozen(slots=True)
class _Picture:
    at: float
    jpeg: bytes


@define(eq=False)
class Thumbnails:
    """Made by *ffmpeg*, at most two at once and one for a stream; the last 64 streams' are kept."""

    ffmpeg: str
    _pictures: OrderedDict[str, _Picture] = field(factory=OrderedDict)
    _making: dict[str, trio.Lock] = field(factory=dict)
    _limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(_AT_ONCE))

    async def of(self, session: str, hub: Hub) -> bytes:
        """The JPEG of *session*'s picture now, or as it was up to `MAX_AGE` seconds ago.

        Raises `NoPicture` and `PictureFailed`.
        """
        # Whoever comes while it is made waits for the same one.
        lock = self._making.setdefault(session, trio.Lock())
        try:
            async with lock:
                kept = self._pictures.get(session)
                if kept is not None and trio.current_time() - kept.at < MAX_AGE:
                    return kept.jpeg
                jpeg = await self._make(_keyframe(hub))
                self._pictures[session] = _Picture(trio.current_time(), jpeg)
                self._pictures.move_to_end(session)
                while len(self._pictures) > _KEPT:
                    self._pictures.popitem(last=False)
                return jpeg
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._making.pop(session, None)

    async def _make(self, keyframe: bytes) -> bytes:
        # The wait for a free place counts, too: who asks gets an answer in time.
        with trio.move_on_after(_DEADLINE) as scope:
            async with self._limiter:
                result = await trio.run_process(
                    thumbnail_args(self.ffmpeg),
                    stdin=keyframe,
                    capture_stdout=True,
                    stderr=subprocess.DEVNULL,
                    check=False,
                    start_new_session=True,
                    env=environment(),
                )
        if scope.cancelled_caught:
            raise PictureFailed(f"FFmpeg took more than {_DEADLINE:g} s for one picture")
        if result.returncode or not result.stdout:
            raise PictureFailed("FFmpeg cannot decode the newest keyframe")
        return bytes(result.stdout)


def _keyframe(hub: Hub) -> bytes:
    """The newest random access point of *hub* as Matroska with one frame. Raises `NoPicture`."""
    mark = hub.newest_mark()
    batch = hub.batch_at(mark.seq) if mark is not None else None
    video = batch.configuration.video if batch is not None else None
    if batch is None or video is None:
        raise NoPicture("this stream has no picture" if batch else "no keyframe of this stream is in memory")
    frame = batch.frames[0]
    muxer = Muxer([video], doc_type="matroska", start=frame.timestamp)
    return muxer.header() + muxer.mux([frame])
